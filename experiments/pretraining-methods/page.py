"""The results for people: ranked tables in Markdown, and plots."""

from __future__ import annotations

import math
import shutil
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ranking
from arms import Arms
from ranking import METRICS, Gain

MATCHES = {"flops": "At equal accounted FLOPs", "seconds": "At equal seconds"}
DIGITS = dict.fromkeys(METRICS, 1) | {"loss": 3}
MEASURED = [name for name, _, _ in METRICS.values()]
HEADS = ("", "arm", "tokens", "rate", *MEASURED, "worth", "verdict", "published")
READING = """\
Gains are differences to the plain arm with the same seed, positive is better, with 95% intervals over the
seeds (Student's t). `worth` is the budget, in multiples of the one that was given, with which the plain arm
reaches the arm's loss. The verdict is on the validation loss. What an arm starts from is paid for out of its
budget. A learning rate with a * is the plain arm's best; the others had pilots of their own."""
ABOUT = """\
Written by `experiments/pretraining-methods/run.py --known`; its README says how the arms are compared and
what is measured. Single runs, pilots too, stand beside the plots in runs.jsonl."""
HAND = "## Reading"  # what stands below this line of the page is written by hand, and kept
Gains = dict[str, dict[str, Gain]]


def write(
    rows: Sequence[Mapping[str, Any]],
    scaled: Sequence[Mapping[str, Any]],
    diverged: Sequence[str],
    arms: Arms,
    out: Path,
) -> str:
    """Write ``results.md`` and the plots into ``out``.

    Args:
        rows: runs, as in results.jsonl.
        scaled: of the plain arm at other budgets: {"scale", "loss"}.
        diverged: runs that came to nothing, in words.
        arms: for the published gains.
        out: folder.

    Returns:
        The Markdown.
    """
    found = {match: ranking.gains(rows, match) for match in MATCHES}
    plain = [row for row in rows if row["arm"] == ranking.PLAIN]
    curve = ranking.curve(scaled, plain)
    parts = [_plain(plain, curve)]
    for match, title in MATCHES.items():
        if not found[match]:
            continue
        parts += [f"## {title}", table(found[match], rows, match, curve, arms)]
        for metric in METRICS:
            name = f"gain-{match}-{metric}.svg"
            if plot(found[match], metric, title[0].lower() + title[1:], out / name):
                parts.append(f"![{title}: gain in {METRICS[metric][0]}]({name})")
    if found["flops"] or found["seconds"]:
        parts += ["## In words", words(found)]
    if diverged:
        parts += ["## Diverged", "\n".join(f"- {one}" for one in diverged)]
    text = "\n\n".join(part for part in parts if part) + "\n"
    (out / "results.md").write_text(text, "utf-8")
    return text


def publish(text: str, out: Path, results: Path, name: str) -> None:
    """Write ``NAME.md`` and the plots in ``NAME/``; what is below the page's "Reading" stays.

    Args:
        text: that :func:`write` returned.
        out: where it wrote the plots.
        results: folder of the page.
        name: of the recipe.
    """
    path, plots = results / f"{name}.md", results / name
    plots.mkdir(parents=True, exist_ok=True)
    for plot in out.glob("gain-*.svg"):
        shutil.copy(plot, plots / plot.name)
    hand = path.read_text("utf-8").partition(HAND)[2] if path.exists() else "\n"
    parts = [
        "# Methods of pre-training at equal cost",
        ABOUT,
        text.replace("](gain-", f"]({name}/gain-").strip(),
    ]
    path.write_text("\n\n".join(parts) + f"\n\n{HAND}{hand}", "utf-8")


def _plain(plain: Sequence[Mapping[str, Any]], curve: Sequence[tuple[float, float]]) -> str:
    told = []
    for metric, (name, _, factor) in METRICS.items():
        values = [factor * ranking.value(row, metric) for row in plain if metric in row]
        if values:
            told.append(f"{name} {statistics.fmean(values):.{DIGITS[metric]}f}")
    losses = ", ".join(f"{scale:g} of the budget: {loss:.3f}" for scale, loss in curve)
    head = f"The plain arm, {len(plain)} seed(s): {', '.join(told)}. Its validation loss at {losses}."
    return f"{head}\n\n{READING}"


def table(
    found: Gains,
    rows: Sequence[Mapping[str, Any]],
    match: str,
    curve: Sequence[tuple[float, float]],
    arms: Arms,
) -> str:
    """One line an arm, the largest gain in validation loss first."""
    lines = ["| " + " | ".join(HEADS) + " |", "|" + "---|" * len(HEADS)]
    for place, (arm, by_metric) in enumerate(found.items(), 1):
        runs = [row for row in rows if row["arm"] == arm and match in row["match"]]
        loss = statistics.fmean(row["loss"] for row in runs)
        cells = [
            str(place),
            arm,
            f"{runs[0]['tokens'] / 1e6:.2f}M",
            f"{runs[0]['rate']:g}" + "*" * runs[0]["shared_rate"],
            *(ranking.shown(by_metric.get(name), DIGITS[name]) for name in METRICS),
            worth(loss, curve),
            by_metric["loss"].verdict,
            arms.arm(arm).published,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def worth(loss: float, curve: Sequence[tuple[float, float]]) -> str:
    """What a loss is worth, "" where the plain arm was run with one budget only."""
    if len(curve) < 2:
        return ""
    sign, budget = ranking.worth(loss, curve)
    return f"{sign}{budget:.2f}x"


def words(found: Mapping[str, Gains]) -> str:
    """What helped, what harmed and what did neither, in sentences."""
    lines = []
    for match, title in MATCHES.items():
        verdicts: dict[str, list[str]] = {}
        for arm, by_metric in found[match].items():
            verdicts.setdefault(by_metric["loss"].verdict, []).append(arm)
        for verdict in ("better", "worse", "within the noise"):
            if verdict in verdicts:
                lines.append(f"- {title}, {verdict} in validation loss: {', '.join(verdicts[verdict])}.")
        if ranking.ONE_SEED in verdicts:
            lines.append(f"- {title}, run with one seed: {', '.join(verdicts[ranking.ONE_SEED])}.")
    return "\n".join(lines)


def plot(found: Gains, metric: str, title: str, path: Path) -> bool:
    """Gains of one metric with their intervals and single seeds, the best on top; False without any."""
    shown = [(arm, gains[metric]) for arm, gains in found.items() if metric in gains]
    if not shown:
        return False
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = path.name  # the same picture has the same bytes
    import matplotlib.pyplot as plt

    shown.sort(key=lambda pair: pair[1].mean)
    figure, axes = plt.subplots(figsize=(7, 1.2 + 0.28 * len(shown)))
    for height, (_, one) in enumerate(shown):
        colour = {"better": "#1b7837", "worse": "#b2182b"}.get(one.verdict, "#777777")
        if not math.isinf(one.low):
            axes.plot([one.low, one.high], [height, height], color=colour, linewidth=2)
        axes.plot(one.each, [height] * len(one.each), "|", color=colour, markersize=7)
        axes.plot([one.mean], [height], "o", color=colour, markersize=5)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(shown)), [arm for arm, _ in shown])
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.set_xlabel(f"gain in {METRICS[metric][0]} over the plain arm, {title}")
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)
    return True
