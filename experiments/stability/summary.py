"""What the runs of the stability study gave: a table with failed runs, and violin plots.

Runs of earlier sittings stand in stability/runs.json with the hash of the weights that they began with, and
the study goes on from them.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wellread import files
from wellread.evaluate.metrics import score
from wellread.evaluate.rivals.majority import majority
from wellread.finetune.stable import Size
from wellread.tasks.task import Task

READING = "## Reading"  # what stands below this line of the page is written by hand, and kept


@dataclass(frozen=True)
class Row:
    """One run; ``settings`` are those of [finetune], resolved, ``failed`` says why it failed, or is ""."""

    task: str
    metric: str
    arm: str
    seed: int
    settings: dict[str, Any]
    dev: float
    test: float
    failed: str


def weights_of(model: Path) -> str:
    """SHA-256 of a checkpoint's weights."""
    return files.sha256_file(min(model.glob("*.safetensors")))


def earlier(folder: Path, weights: str) -> list[Row]:
    """The runs in a folder of results, if they began with these weights."""
    path = folder / "stability" / "runs.json"
    found = files.read_json(path) if path.exists() else {}
    return [Row(**row) for row in found["runs"]] if found and found["weights"] == weights else []


def gather(task: Task, arm: str, settings: dict[str, Any], folder: Path, seeds: list[int]) -> list[Row]:
    """The runs of one arm on one task.

    A run has failed if its loss or gradient stopped being a number, or if it is no better on dev than the
    answer of a model that knows the frequencies of the training labels only.
    """
    constant = score(task, "dev", majority(task, task.splits["train"], "dev"))[task.metric]
    rows = []
    for seed in seeds:
        result = files.read_json(folder / "units" / f"pretrained-all-{seed}" / "result.json")
        dev, test = result["dev"][task.metric], result["test"][task.metric]
        useless = "" if dev > constant else "no better than a constant answer"
        failed = "not a number" if result["failed"] else useless
        rows.append(Row(task.name, task.metric, arm, seed, settings, dev, test, failed))
    return rows


def grouped(rows: list[Row]) -> dict[str, dict[str, list[Row]]]:
    """Rows by task and arm, in the order in which they come."""
    found: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        found.setdefault(row.task, {}).setdefault(row.arm, []).append(row)
    return found


def table(by_arm: dict[str, list[Row]]) -> str:
    """Test scores of a task as a Markdown table, in points; failed runs count with what they got."""
    lines = ["| arm | runs | failed | mean | std | min | median | max |", "|---|---|---|---|---|---|---|---|"]
    for arm, rows in by_arm.items():
        scores = [100 * row.test for row in rows]
        spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
        numbers = (statistics.mean(scores), spread, min(scores), statistics.median(scores), max(scores))
        failed = sum(bool(row.failed) for row in rows)
        listed = " | ".join(f"{number:.2f}" for number in numbers)
        lines.append(f"| {arm} | {len(rows)} | {failed} | {listed} |")
    return "\n".join(lines)


def violins(task: str, by_arm: dict[str, list[Row]], path: Path) -> None:
    """Every run as a dot or (failed) a cross, with the outline of their density; equal runs, equal bytes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    scores = [[100 * row.test for row in rows] for rows in by_arm.values()]
    with pyplot.rc_context({"svg.hashsalt": task, "svg.fonttype": "none", "font.size": 9}):
        figure, axes = pyplot.subplots(figsize=(8, 3.2), layout="constrained")
        parts = axes.violinplot(scores, showmeans=True, showextrema=False, widths=0.8)
        for body in parts["bodies"]:
            body.set(facecolor="#4477aa", alpha=0.3)
        parts["cmeans"].set_color("#4477aa")
        for place, rows in enumerate(by_arm.values(), 1):
            for mark, bad in (("o", False), ("x", True)):
                values = [100 * row.test for row in rows if bool(row.failed) == bad]
                color = "#cc3311" if bad else "#222222"
                axes.scatter([place] * len(values), values, marker=mark, s=14, color=color, linewidths=1)
        axes.set_xticks(range(1, len(by_arm) + 1), list(by_arm), rotation=30, ha="right")
        axes.set_ylabel(f"test {next(iter(by_arm.values()))[0].metric}, points")
        axes.set_title(f"{task}: runs by seed (cross: failed)", loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)


def write(rows: list[Row], weights: str, size: Size, folder: Path) -> Path:
    """Write ``stability.md``, the runs behind it and the plots; what is below its "Reading" stays."""
    page = folder / "stability.md"
    kept = page.read_text("utf-8").partition(READING)[2] if page.exists() else ""
    parts = [
        "# Stability of fine-tuning\n",
        "Written by `experiments/stability/study.py`; its README says what the arms are.\n",
        f"Start: {size.layers} layers x {size.hidden}, SHA-256 `{weights}`. Scores are of",
        "the test set, in points. A run has failed if its loss or gradient stopped being a number, or if on",
        "dev it is no better than a constant answer; failed runs count in all columns.\n",
    ]
    for task, by_arm in grouped(rows).items():
        metric = next(iter(by_arm.values()))[0].metric
        parts += [f"## {task} ({metric})\n", table(by_arm), f"\n![{task}](stability/{task}.svg)\n"]
        violins(task, by_arm, folder / "stability" / f"{task}.svg")
    told = {"weights": weights, "runs": [asdict(row) for row in rows]}
    files.write_json(folder / "stability" / "runs.json", told)
    files.write_bytes(page, "\n".join([*parts, READING + (kept or "\n")]).encode())
    return page
