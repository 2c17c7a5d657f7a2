"""From the units of all models to metrics.json and summary.json (docs/architecture.md has their fields)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wellread import files
from wellread.errors import ArtefactError
from wellread.evaluate.bootstrap import interval
from wellread.evaluate.calibration import calibration, decisions
from wellread.evaluate.metrics import (
    Output,
    check_output,
    gold_indices,
    gold_matrix,
    is_finite,
    score,
)
from wellread.evaluate.rivals.majority import majority
from wellread.tasks.read import read_task
from wellread.tasks.task import SPLITS, Task

Unit = dict[str, Any]
_GROUP = ("model", "start", "budget")


def summarise(
    tasks: dict[str, Path],
    unit_folders: Sequence[Path],
    models: dict[str, dict],
    bootstrap: int,
    folder: Path,
    seed: int,
) -> None:
    """Read the units, score them, and write ``metrics.json`` and ``summary.json`` into ``folder``.

    Args:
        tasks: task folder by name.
        unit_folders: folders of units (those without a result.json are passed over).
        models: ``{"sparsity", "pattern"}`` by model; models that are not named are dense.
        bootstrap: resamples of each interval, 0 for none.
        folder: where to write.
        seed: of the bootstrap.

    Raises:
        ArtefactError: a unit does not fit its task.
    """
    units: dict[str, list[tuple[Unit, Path]]] = {name: [] for name in tasks}
    for place in map(Path, unit_folders):
        if place.suffix in (".partial", ".old") or not (place / "result.json").exists():
            continue
        unit = files.read_json(place / "result.json")
        if unit["task"] in units:
            units[unit["task"]].append((unit, place))
    records: list[dict[str, Any]] = []
    summary: dict[str, Any] = {"tasks": {}}
    for name, path in tasks.items():
        task = read_task(path, name)
        found = [_read_unit(task, unit, place) for unit, place in units[name]]
        _mark_failures(task, found)
        for unit in found:
            records.extend(_records(unit, _shape(unit, models)))
        summary["tasks"][name] = {
            "kind": task.kind,
            "metric": task.metric,
            "labels": list(task.labels),
            "counts": {split: len(task.splits[split]) for split in SPLITS},
            "groups": [_group(task, group, models, bootstrap, seed) for group in _groups(found)],
        }
    files.write_json(folder / "metrics.json", records)
    files.write_json(folder / "summary.json", summary)


def _read_unit(task: Task, unit: Unit, place: Path) -> Unit:
    """The unit with its predictions, scored anew from them."""
    outputs = {split: read_output(task, split, place) for split in ("dev", "test")}
    try:
        scores = {split: score(task, split, output) for split, output in outputs.items()}
    except ValueError as error:
        raise ArtefactError(
            f"does not fit the task {task.name!r} ({error})",
            where=str(place),
            fix="delete the folder and run again",
        ) from None
    return {**unit, **scores, "outputs": outputs}


def read_output(task: Task, split: str, folder: Path) -> Output:
    """Predictions of a unit as ``metrics.score`` takes them.

    Raises:
        ArtefactError: the file is missing or damaged.
    """
    path = folder / (f"{split}_tags.jsonl" if task.kind == "tag" else f"{split}_scores.npy")
    try:
        if task.kind == "tag":
            return [json.loads(line)["tags"] for line in path.read_text(encoding="utf-8").splitlines()]
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, KeyError, EOFError):
        raise ArtefactError(
            "the predictions are missing or damaged", where=str(path), fix="delete the folder and run again"
        ) from None


def _mark_failures(task: Task, units: list[Unit]) -> None:
    """Mark the failed runs; they stay in the means.

    A run failed when its predictions are not finite, or not better on dev than knowing only the frequencies
    of the labels (as Mosbach et al., 2021, count them).  A model that was given no label cannot fail so, nor
    any where dev has one label only, as no score is above the majority's there.
    """
    baseline = score(task, "dev", majority(task, task.splits["train"], "dev"))[task.metric]
    bar = task.kind != "classify" or len({example.label for example in task.splits["dev"]}) > 1
    for unit in units:
        could = bar and unit["labels"] and unit["model"] != "majority"
        if not all(is_finite(output) for output in unit["outputs"].values()):
            unit |= {"failed": True, "failure": unit.get("failure") or "predictions are not finite"}
        elif could and unit["dev"][task.metric] <= baseline:
            unit |= {"failed": True, "failure": unit.get("failure") or "not above the majority class on dev"}


def _shape(unit: Unit, models: dict[str, dict]) -> dict[str, Any]:
    default = {"sparsity": 0.0, "pattern": "none" if unit["start"] == "rival" else "dense"}
    return models.get(unit["model"], default)


def _records(unit: Unit, shape: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "task": unit["task"],
            "split": split,
            "model": unit["model"],
            "start": unit["start"],
            "sparsity": shape["sparsity"],
            "pattern": shape["pattern"],
            "labels": unit["labels"],
            "budget": unit["budget"],
            "seed": unit["seed"],
            "metric": metric,
            "value": value,
        }
        for split in ("dev", "test")
        for metric, value in unit[split].items()
    ]


def _groups(units: list[Unit]) -> list[list[Unit]]:
    """Units that differ in their seed only, each group by seed, in the order of first appearance."""
    groups: dict[tuple, list[Unit]] = {}
    for unit in units:
        groups.setdefault(tuple(unit[key] for key in _GROUP), []).append(unit)
    return [sorted(group, key=lambda unit: unit["seed"]) for group in groups.values()]


def _group(
    task: Task, units: list[Unit], models: dict[str, dict], bootstrap: int, seed: int
) -> dict[str, Any]:
    first = units[0]
    values = np.array([unit["test"][task.metric] for unit in units])
    outputs = [unit["outputs"]["test"] for unit in units]
    bounds = interval(task, "test", outputs, task.metric, bootstrap, seed)
    finite = [check_output(task, task.splits["test"], output) for output in outputs if is_finite(output)]
    return {
        "model": first["model"],
        "start": first["start"],
        **_shape(first, models),
        "budget": first["budget"],
        "labels": first["labels"],
        "seeds": [unit["seed"] for unit in units],
        "failed": sum(bool(unit["failed"]) for unit in units),
        "mean": float(values.mean()),
        "std": float(values.std(ddof=1)) if len(values) > 1 else 0.0,
        "min": float(values.min()),
        "max": float(values.max()),
        "interval": list(bounds) if bounds else None,
        "metrics": {
            name: float(np.mean([unit["test"][name] for unit in units]))
            for name in first["test"]
            if all(name in unit["test"] for unit in units)
        },
        "confusion": _confusion(task, finite),
        "calibration": _calibration(task, finite),
    }


def _confusion(task: Task, outputs: list[Output]) -> list[list[int]] | None:
    """Counts by gold label (rows) and predicted label (columns), summed over the seeds; classify only."""
    if task.kind != "classify" or not outputs:
        return None
    gold = gold_indices(task, task.splits["test"])
    size = len(task.labels)
    cells = sum(np.bincount(gold * size + output.argmax(axis=1), minlength=size * size) for output in outputs)
    return np.asarray(cells).reshape(size, size).tolist()


def _calibration(task: Task, outputs: list[Output]) -> dict[str, Any] | None:
    """ECE and bins over the test decisions of all seeds; None where predictions are no probabilities."""
    if task.kind not in ("classify", "multilabel") or not outputs:
        return None
    examples = task.splits["test"]
    gold = gold_indices(task, examples) if task.kind == "classify" else gold_matrix(task, examples)
    pairs = [decisions(task.kind, gold, output) for output in outputs]
    return calibration(
        np.concatenate([sure for sure, _ in pairs]), np.concatenate([right for _, right in pairs])
    )
