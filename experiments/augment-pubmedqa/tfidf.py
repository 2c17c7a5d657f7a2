"""TF-IDF with a linear model on every arm of an augmented task: python tfidf.py FOLDER/tasks"""

from __future__ import annotations

import argparse
from pathlib import Path

from wellread.evaluate.metrics import metric_names, score
from wellread.evaluate.rivals import tfidf
from wellread.guard import guarded
from wellread.tasks.read import read_task


def main() -> None:
    """Print a Markdown table: a line for each arm, the scores of dev and test in points."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", type=Path, help="folder of the arms' task folders")
    folder = parser.parse_args().tasks
    tasks = {path.name: read_task(path) for path in sorted(folder.iterdir()) if path.is_dir()}
    names = metric_names(tasks["original"])
    print("| arm | training examples |", " | ".join(f"{name}, test (dev)" for name in names), "|")
    print("|---" * (2 + len(names)) + "|")
    for arm, task in tasks.items():
        model = tfidf.fit(task, task.splits["train"])
        found = {split: score(task, split, model.predict(task.splits[split])) for split in ("dev", "test")}
        cells = [f"{100 * found['test'][name]:.1f} ({100 * found['dev'][name]:.1f})" for name in names]
        print(f"| {arm} | {len(task.splits['train'])} | {' | '.join(cells)} |")


if __name__ == "__main__":
    guarded(main)
