"""The table of docs/results/sparse-vs-dense.md from a finished run: scores, and paired gains.

python experiments/sparse-vs-dense/table.py runs/sparse-vs-dense
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import numpy as np

from wellread import files
from wellread.evaluate.bootstrap import difference
from wellread.tasks.read import read_task

ORDER = ("random", "dense", "sparse75", "blocks75", "tfidf")
SEEDS, RESAMPLES = (0, 1, 2), 2000


def units(run: Path, task: str, model: str, labels: str) -> list[Path]:
    """Folders of the runs of a model with so many labels."""
    if model == "tfidf":
        return [run / "stages/rivals" / task / "units" / f"tfidf-{labels}-{seed}" for seed in SEEDS]
    start = "random" if model == "random" else "pretrained"
    return [run / "stages/finetune" / task / model / "units" / f"{start}-{labels}-{seed}" for seed in SEEDS]


def cell(run: Path, task: str, model: str, labels: str, metric: str) -> str:
    """Mean and spread over seeds, in percent."""
    folders = [path for path in units(run, task, model, labels) if path.is_dir()]
    values = [100 * files.read_json(path / "result.json")["test"][metric] for path in folders]
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{spread}"


def main(run: Path) -> None:
    """Print the rows as Markdown."""
    recipe = files.read_json(run / "stages/evaluate/summary.json")["tasks"]
    print("| task | labels | " + " | ".join(ORDER) + " | gain of dense | of sparse75 | of blocks75 |")
    print("|---" * (len(ORDER) + 5) + "|")
    for name in recipe:
        task = read_task(run / "stages/tasks" / name, name)
        budgets = {
            path.name.split("-")[1] for path in (run / f"stages/finetune/{name}/dense/units").iterdir()
        }
        for labels in sorted(budgets, key=lambda text: (text == "all", text.zfill(9))):
            cells = [cell(run, name, model, labels, task.metric) for model in ORDER]
            scores = {
                model: [np.load(path / "test_scores.npy") for path in units(run, name, model, labels)]
                for model in ORDER[:-1]
            }
            gains = []
            for model in ORDER[1:-1]:
                pair = (scores[model], scores["random"])
                low, high = (100 * x for x in difference(task, "test", pair, task.metric, RESAMPLES, 0))
                gains.append(f"{low:+.1f} to {high:+.1f}")
            print(f"| {name} | {labels} | " + " | ".join([*cells, *gains]) + " |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
