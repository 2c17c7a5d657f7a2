"""The table and the plot of the comparison, from the runs' folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from wellread import files

METRIC = "macro_f1"
READING = "## Reading"  # what stands below this line of the page is written by hand, and kept
MARKS = "osD^vP*X<>"


def write(out: Path, results: Path, facts: dict[str, Any]) -> None:
    """Write light-methods.md, .json and .png; what is below the page's "Reading" stays."""
    groups = gather(out)
    results.mkdir(parents=True, exist_ok=True)
    files.write_json(results / "light-methods.json", {"setting": facts, "groups": groups})
    path = results / "light-methods.md"
    kept = path.read_text("utf-8").partition(READING)[2] if path.exists() else "\n"
    files.write_bytes(path, f"{page(groups, facts)}\n{READING}{kept}".encode())
    plot(groups, results / "light-methods.png")


def gather(out: Path) -> list[dict[str, Any]]:
    """One dictionary for each method and budget."""
    groups = []
    for folder in sorted((out / "runs").iterdir()):
        method = folder.name
        units: dict[Any, list[Path]] = {}
        for unit in sorted((folder / "units").iterdir()):
            if (unit / "result.json").exists() and unit.suffix != ".partial":
                units.setdefault(files.read_json(unit / "result.json")["budget"], []).append(unit)
        for budget, found in units.items():
            results = [files.read_json(unit / "result.json") for unit in found]
            scores = [one["test"][METRIC] for one in results if not one["failed"]]
            seconds = [files.read_json(unit / "costs.json")["seconds"] for unit in found]
            groups.append(
                {
                    "method": method,
                    "budget": budget,
                    "labels": results[0]["labels"],
                    "seeds": len(results),
                    "failed": len(results) - len(scores),
                    "mean": float(np.mean(scores)) if scores else None,
                    "std": float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
                    "min": min(scores, default=None),
                    "trained": results[0]["trainable_parameters"],
                    "parameters": results[0].get("parameters"),
                    "seconds": float(np.median(seconds)),
                    **_optional(out / "costs" / f"{method}.json"),
                    **_rate(out / "rates" / f"{method}.json"),
                }
            )
    return groups


def page(groups: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    largest = max(group["labels"] for group in groups)
    budgets = sorted({group["labels"] for group in groups})
    whole = {group["method"]: group for group in groups if group["labels"] == largest}
    order = sorted(whole, key=lambda method: -(whole[method]["mean"] or 0))
    lines = [
        "# Light-weight methods on clinical notes",
        "",
        f"Test macro F1 on MTSamples (four classes), mean and standard deviation over {facts['seeds']} "
        f"seeds, from one checkpoint: {facts['layout']} layout, {facts['layers']} x {facts['hidden']}.  "
        f"{facts['steps']} steps, inputs of at most {facts['max_length']} tokens.  Each method's rate was "
        f"chosen on dev, with other seeds, among {', '.join(f'{rate:g}' for rate in facts['rates'])}.  "
        "`random` trains every weight without pre-training.",
        "",
        f"| method | {' | '.join(f'{labels} labels' for labels in budgets)} | failed | rate |",
        f"|---|{'---|' * len(budgets)}---|---|",
    ]
    for method in order:
        row = {group["labels"]: group for group in groups if group["method"] == method}
        cells = [_cell(row.get(labels)) for labels in budgets]
        failed = sum(group["failed"] for group in row.values())
        lines.append(f"| {method} | {' | '.join(cells)} | {failed} | {_number(whole[method].get('rate'))} |")
    lines += [
        "",
        f"What a run costs ({largest} labels).  Gradients and optimiser: counted, 12 bytes for each number "
        "that is trained.  Peak memory above the loaded data, and processor seconds a step: measured in a "
        "process of its own, one thread.  Seconds a run: median, as it happened beside other runs.",
        "",
        "| method | trained | share | gradients and optimiser, MB | peak memory, MB | s/step | s/run |",
        "|---|---|---|---|---|---|---|",
    ]
    for method in order:
        one = whole[method]
        share = f"{one['trained'] / one['parameters']:.1%}" if one["parameters"] else "-"
        memory = f"{one['memory_bytes'] / 1e6:.0f}" if "memory_bytes" in one else "-"
        step = f"{one['step_seconds']:.3f}" if "step_seconds" in one else "-"
        kept = f"{12 * one['trained'] / 1e6:.2f}" if one["parameters"] else "-"
        lines.append(
            f"| {method} | {one['trained']:,} | {share} | {kept} | {memory} | {step} | {one['seconds']:.1f} |"
        )
    return "\n".join([*lines, "", "![Score against trained parameters](light-methods.png)", ""])


def plot(groups: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    budgets = sorted({group["labels"] for group in groups})
    methods = sorted({group["method"] for group in groups})
    figure, axes = plt.subplots(
        1, len(budgets), figsize=(4 * len(budgets) + 1, 4), sharey=True, squeeze=False
    )
    for axis, labels in zip(axes[0], budgets, strict=True):
        for group in groups:
            if group["labels"] != labels or group["mean"] is None:
                continue
            method = group["method"]
            if method == "tfidf":
                axis.axhline(group["mean"], color="grey", linestyle="--", linewidth=1, label=method)
                continue
            number = methods.index(method)
            place = group["trained"] * 1.06 ** (number % 4)  # side by side where the counts are nearly equal
            spread = group["std"] or 0
            axis.errorbar(place, group["mean"], spread, fmt=MARKS[number], capsize=3, label=method)
        axis.set_xscale("log")
        axis.set_title(f"{labels} labels")
        axis.set_xlabel("trained parameters")
    axes[0][-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))
    axes[0][0].set_ylabel("test macro F1, mean and std over seeds")
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _cell(group: dict[str, Any] | None) -> str:
    if group is None or group["mean"] is None:
        return "-"
    spread = f" ± {100 * group['std']:.1f}" if group["std"] is not None else ""
    return f"{100 * group['mean']:.1f}{spread}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _optional(path: Path) -> dict[str, Any]:
    return files.read_json(path) if path.exists() else {}


def _rate(path: Path) -> dict[str, Any]:
    return {"rate": files.read_json(path)["chosen"]} if path.exists() else {}
