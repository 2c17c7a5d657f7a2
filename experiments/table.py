"""The scores of any finished run as a Markdown table, with the paired gains over no pre-training.

    python experiments/table.py RUN

Mean and standard deviation over seeds on the test set, in percent.  A gain is the 95% interval of the
difference to the same model without pre-training, both scored on the same draws of the test set.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

from wellread import files
from wellread.evaluate.bootstrap import difference
from wellread.evaluate.summary import read_output
from wellread.guard import guarded
from wellread.tasks.read import read_task
from wellread.tasks.task import Task

RESAMPLES = 2000
Group = dict[str, Any]


def units(run: Path, task: str, group: Group) -> list[Path]:
    """The folders of a group's runs, one a seed."""
    room = "rivals" if group["start"] == "rival" else "finetune"
    folder = run / "stages" / room / task / ("" if room == "rivals" else group["model"])
    name = group["model"] if room == "rivals" else group["start"]
    return [folder / "units" / f"{name}-{group['budget']}-{seed}" for seed in group["seeds"]]


def cell(run: Path, task: Task, group: Group | None) -> str:
    """Mean and spread over seeds, in percent."""
    if group is None:
        return "-"
    values = [
        100 * files.read_json(unit / "result.json")["test"][task.metric]
        for unit in units(run, task.name, group)
    ]
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{spread}"


def gain(run: Path, task: Task, group: Group | None, base: Group | None) -> str:
    """The interval of the difference to the model without pre-training, in points."""
    if group is None or base is None:
        return "-"
    outputs = [
        [read_output(task, "test", unit) for unit in units(run, task.name, each)] for each in (group, base)
    ]
    low, high = (100 * end for end in difference(task, "test", tuple(outputs), task.metric, RESAMPLES, 0))
    return f"{low:+.1f} to {high:+.1f}"


def main(run: Path) -> None:
    """Print the rows as Markdown."""
    summary = files.read_json(run / "stages/evaluate/summary.json")["tasks"]
    starts = {group["model"]: group["start"] for told in summary.values() for group in told["groups"]}
    models = sorted(starts, key=lambda name: ("random", "pretrained", "rival").index(starts[name]))
    ours = [name for name in models if starts[name] == "pretrained"]
    heads = ["task", "metric", "labels", *models, *(f"gain of {name}" for name in ours)]
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for name, told in summary.items():
        task = read_task(run / "stages/tasks" / name, name)
        for budget in sorted({group["budget"] for group in told["groups"]}, key=lambda b: (b == "all", b)):
            found = {group["model"]: group for group in told["groups"] if group["budget"] == budget}
            cells = [cell(run, task, found.get(model)) for model in models]
            cells += [gain(run, task, found.get(model), found.get("random")) for model in ours]
            print("| " + " | ".join([name, told["metric"], str(budget), *cells]) + " |", flush=True)


if __name__ == "__main__":
    guarded(lambda: main(Path(sys.argv[1])))
