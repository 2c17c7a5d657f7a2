"""Cheap rivals on the same splits and budgets: the majority class, and linear models on TF-IDF."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wellread import files
from wellread.evaluate.metrics import Output, score
from wellread.progress import Progress
from wellread.tasks.subset import subset
from wellread.tasks.task import Example, Task

NAMES = ("majority", "tfidf")


def run_rivals(
    task: Task,
    names: Sequence[str],
    budgets: Sequence[int | str],
    seeds: Sequence[int],
    folder: Path,
    quiet: bool = False,
) -> None:
    """Train the rivals for every label budget and seed, and commit each as ``folder/units/NAME-BUDGET-SEED``.

    Units that are already there are kept, so an interrupted call continues where it stopped.
    """
    # Without labels (budget 0) there is nothing that a rival could learn from.
    units = [(name, budget, seed) for name in names for budget in budgets if budget != 0 for seed in seeds]
    (folder / "units").mkdir(parents=True, exist_ok=True)
    predict = {"majority": _majority, "tfidf": _best_linear}
    done: tuple[Any, list[Example], Any] = (None, [], None)
    with Progress(f"rivals {task.name}", len(units), "units", quiet=quiet) as progress:
        for name, budget, seed in units:
            final = folder / "units" / f"{name}-{budget}-{seed}"
            if files.read_manifest(final) is None:
                train = subset(task, budget, seed)
                # Seeds only choose the examples: all of them give the same model again.
                if (name, train) != done[:2]:
                    done = (name, train, predict[name](task, train))
                setting, outputs = done[2]
                told = {"task": task.name, "model": name, "start": "rival", "budget": budget, "seed": seed}
                made = {"labels": len(train), "steps": 0, "best_step": 0, "history": [], "setting": setting}
                with files.new_folder(final) as partial:
                    write_unit(task, told | made, outputs, partial)
            progress.advance(note=final.name)


def _majority(task: Task, train: list[Example]) -> tuple[None, dict[str, Output]]:
    return None, {split: majority(task, train, split) for split in ("dev", "test")}


def write_unit(task: Task, unit: dict[str, Any], outputs: dict[str, Output], folder: Path) -> None:
    """Write result.json and the predictions of one unit.

    Args:
        task: the task.
        unit: the keys of result.json but ``dev``, ``test``, ``failed`` and ``failure``.
        outputs: predictions of "dev" and "test", as ``metrics.score`` takes them.
        folder: where.
    """
    result = {**unit, "failed": False, "failure": ""}
    for split, output in outputs.items():
        result[split] = score(task, split, output)
        write_output(task, split, output, folder)
    files.write_json(folder / "result.json", result)


def write_output(task: Task, split: str, output: Output, folder: Path) -> None:
    """Write predictions: ``SPLIT_scores.npy``, or ``SPLIT_tags.jsonl`` for tag."""
    if task.kind == "tag":
        lines = [
            json.dumps({"id": example.id, "tags": list(tags)}, ensure_ascii=False) + "\n"
            for example, tags in zip(task.splits[split], output, strict=True)
        ]
        files.write_bytes(folder / f"{split}_tags.jsonl", "".join(lines).encode())
    else:
        np.save(folder / f"{split}_scores.npy", np.asarray(output, dtype=np.float32), allow_pickle=False)


def majority(task: Task, train: Iterable[Example], split: str) -> Output:
    """What a model says that has learnt nothing but the frequencies of the training labels.

    The relative frequencies of the classes (classify) or of each label (multilabel), the mean score
    (regress), the most frequent tag everywhere (tag).
    """
    examples, train = task.splits[split], list(train)
    if task.kind == "tag":
        seen = Counter(tag for example in train for tag in example.label)  # type: ignore[union-attr]
        return [[seen.most_common(1)[0][0]] * len(example.tokens) for example in examples]
    if task.kind == "regress":
        row = [float(np.mean([example.label for example in train]))]
    elif task.kind == "classify":
        counted = Counter(example.label for example in train)
        row = [counted[label] / len(train) for label in task.labels]
    else:
        row = [sum(label in example.label for example in train) / len(train) for label in task.labels]  # type: ignore[operator]
    return np.tile(np.array(row, dtype=np.float32), (len(examples), 1))


def _best_linear(task: Task, train: list[Example]) -> tuple[float, dict[str, Output]]:
    """The linear model of the grid that is best on dev, and its predictions."""
    from wellread.evaluate.linear import candidates

    best: tuple[float, float, Output, Output] | None = None
    for setting, (dev, test) in candidates(task, train, [task.splits["dev"], task.splits["test"]]):
        value = score(task, "dev", dev)[task.metric]
        if best is None or value > best[0]:
            best = (value, setting, dev, test)
    assert best is not None
    return best[1], {"dev": best[2], "test": best[3]}
