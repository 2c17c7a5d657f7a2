"""Read and write task folders (the format stands in ``tasks/task.py``)."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

from wellread import files
from wellread.errors import DataError
from wellread.evaluate.metrics import default_metric, metrics_of
from wellread.tasks.cut import cut
from wellread.tasks.examples import KINDS, kind_of, parse
from wellread.tasks.rows import Row, read_rows, split_files
from wellread.tasks.task import SPLITS, Example, Kind, Task, entity_types, names_of


def read_task(folder: Path, name: str | None = None) -> Task:
    """Read a task folder: train, dev and test as JSONL, CSV, TSV or CoNLL, and ``task.toml`` if there is one.

    A dev or test split that is missing is cut from train, 10% each, the same examples every time
    (:mod:`wellread.tasks.cut`).

    Raises:
        DataError: with file and line of the first problem; ``wellread data check`` lists all of them.
    """
    folder = Path(folder)
    paths = split_files(folder)
    settings = read_settings(folder)
    rows = {split: _rows(path) for split, path in paths.items()}
    return make_task(rows, settings, name or settings.get("name") or folder.name)


def make_task(rows: dict[str, list[Row]], settings: dict[str, Any], name: str) -> Task:
    """A task from raw rows by split and the keys of ``task.toml``; errors as in :func:`read_task`."""
    kind = _kind(rows["train"], settings)
    counts: Counter[str] = Counter()
    splits = {split: _examples(rows[split], kind, split, counts) for split in rows}
    found = sorted({name for example in splits["train"] for name in names_of(example, kind)})
    facts: dict[str, Any] = dict(settings.get("facts", {}))
    missing = [split for split in ("dev", "test") if split not in splits]
    if missing:
        splits |= cut(splits["train"], missing, kind)
        facts["cut_from_train"] = missing
    splits = {split: splits[split] for split in SPLITS}
    for split in SPLITS:
        if not splits[split]:
            what, fix = f"the {split} split has no examples", "give it at least one"
            if missing:
                what = f"{what}: all are of one document or nearly one text, so none can be cut from train"
                fix = "give dev and test files, or each document its own `doc`"
            raise DataError(what, where=name, fix=fix)
    _unique_ids(splits, rows)
    facts.update({key: number for key, number in sorted(counts.items()) if number})
    labels = _label_names(splits, kind, settings.get("labels") or found, "labels" in settings, rows)
    metric = settings.get("metric") or default_metric(kind)
    if metric not in metrics_of(kind, len(labels)):
        allowed = ", ".join(metrics_of(kind, len(labels)))
        raise DataError(f"{metric!r} is no metric of a {kind} task", where=name, fix=f"one of: {allowed}")
    if metric == "micro_f1_positive" and "labels" not in settings:
        raise DataError(
            f"{metric!r} leaves out the first label, and task.toml does not say which that is",
            where=name,
            fix=f'write labels = ["{labels[0]}", ...], the negative class first',
        )
    return Task(
        name, kind, labels, metric, splits, settings.get("source", ""), settings.get("licence", ""), facts
    )


def read_settings(folder: Path) -> dict[str, Any]:
    """``task.toml`` of a folder, or {} where there is none.

    Raises:
        DataError: not TOML, or a key of the wrong type.
    """
    path = Path(folder) / "task.toml"
    if not path.exists():
        return {}
    try:
        settings = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"not valid TOML: {error}", where=str(path)) from None
    for key, kind in {"name": str, "kind": str, "metric": str, "source": str, "licence": str}.items():
        if key in settings and not isinstance(settings[key], kind):
            raise DataError(f"`{key}` is not a string", where=str(path), fix=f'write {key} = "..."')
    labels = settings.get("labels", [])
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise DataError("`labels` is not a list of strings", where=str(path), fix='write labels = ["a", "b"]')
    if settings.get("kind", "classify") not in KINDS:
        raise DataError(
            f"unknown kind {settings['kind']!r}", where=str(path), fix=f"one of: {', '.join(KINDS)}"
        )
    return settings


def write_task(task: Task, folder: Path) -> None:
    """Write a task folder, with counts and SHA-256 of each split; equal tasks give equal bytes."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    hashes = {}
    for split in SPLITS:
        data = b"".join(example_json(example, task.kind) + b"\n" for example in task.splits[split])
        files.write_bytes(folder / f"{split}.jsonl", data)
        hashes[split] = files.sha256_bytes(data)
    facts = {key: value for key, value in task.facts.items() if key != "derived"}
    values = {
        "name": task.name,
        "kind": task.kind,
        "metric": task.metric,
        "labels": list(task.labels),
        "derived": bool(task.facts.get("derived", False)),
        "source": task.source,
        "licence": task.licence,
        "counts": {split: len(task.splits[split]) for split in SPLITS},
        "sha256": hashes,
        "facts": {**facts, "derived": bool(task.facts.get("derived", False))},
    }
    files.write_bytes(folder / "task.toml", to_toml(values).encode())


def example_json(example: Example, kind: Kind) -> bytes:
    """One line of a split's file, without the line end."""
    values: dict[str, Any] = {"id": example.id}
    if example.doc:
        values["doc"] = example.doc
    if kind == "tag":
        values |= {"tokens": list(example.tokens), "tags": list(example.label)}  # type: ignore[arg-type]
    else:
        values["text"] = example.text
        if example.text_pair is not None:
            values["text_pair"] = example.text_pair
        if example.options:
            values["options"] = list(example.options)
        key = {"classify": "label", "multilabel": "labels", "regress": "score"}[kind]
        values[key] = example.label
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def to_toml(values: dict[str, Any], prefix: str = "") -> str:
    """Nested dictionaries of strings, numbers, booleans and lists as TOML."""
    plain = [
        f"{_key(key)} = {_toml(value)}\n" for key, value in values.items() if not isinstance(value, dict)
    ]
    tables = []
    for key, value in values.items():
        if isinstance(value, dict):
            path = f"{prefix}{_key(key)}"
            tables.append(f"\n[{path}]\n{to_toml(value, path + '.')}")
    return "".join(plain + tables)


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else _toml(key)


def _toml(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(part) for part in value)}]"
    # JSON strings, numbers and booleans are TOML too, but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007f")


def _rows(path: Path) -> list[Row]:
    rows = []
    for row in read_rows(path):
        if isinstance(row, DataError):
            raise row
        rows.append(row)
    if not rows:
        raise DataError("the file holds no examples", where=str(path), fix="give at least one")
    return rows


def _kind(rows: list[Row], settings: dict[str, Any]) -> Kind:
    kind = settings.get("kind") or kind_of(rows[0])
    if kind is None:
        keys = ", ".join(sorted(map(str, rows[0].values)))[:200]
        raise DataError(
            f"no label, labels, score, tags or spans (found: {keys})",
            where=rows[0].where,
            fix="name the label's key as `wellread data check` documents",
        )
    return kind


def _examples(rows: list[Row], kind: Kind, split: str, counts: Counter[str]) -> list[Example]:
    first = type(rows[0].values.get("label")) if rows else str
    examples = []
    for number, row in enumerate(rows):
        examples.append(parse(row, kind, number, split, counts))
        if kind == "classify" and type(row.values["label"]) is not first:
            raise DataError(
                f"the label is a {type(row.values['label']).__name__}, the first one a {first.__name__}",
                where=row.where,
                fix="give all labels as strings",
            )
    return examples


def _unique_ids(splits: dict[str, list[Example]], rows: dict[str, list[Row]]) -> None:
    counted = Counter(example.id for examples in splits.values() for example in examples)
    if all(number == 1 for number in counted.values()):
        return
    seen: set[str] = set()
    for split in rows:
        for number, row in enumerate(rows[split]):
            identity = str(row.values.get("id") or f"{split}-{number}")
            if identity in seen:
                raise DataError(
                    "an id that an earlier example has", where=row.where, fix="give each example its own"
                )
            seen.add(identity)


def _label_names(
    splits: dict[str, list[Example]], kind: Kind, names: list[str], stated: bool, rows: dict[str, list[Row]]
) -> tuple[str, ...]:
    """Label names in order; ``names`` are those of task.toml (``stated``) or those seen in train."""
    if kind == "regress":
        return ("score",)
    if not names:
        keys = "labels" if kind == "multilabel" else "tags"
        raise DataError(
            "no training example has a label",
            where=rows["train"][0].where,
            fix=f'name the right column: examples of this kind have "{keys}"',
        )
    if kind == "tag":
        names = sorted(entity_types(names) if stated else names)
    elif len(names) < 2 and kind == "classify":
        where = rows["train"][0].where
        raise DataError("only one label in train", where=where, fix="give at least two classes")
    _refuse_unknown(
        splits, kind, names, rows, "not among the labels of task.toml" if stated else "not seen in train"
    )
    return ("O", *(f"{mark}-{name}" for name in names for mark in "BI")) if kind == "tag" else tuple(names)


def _refuse_unknown(
    splits: dict[str, list[Example]], kind: Kind, known: list[str], rows: dict[str, list[Row]], why: str
) -> None:
    places = {
        str(row.values.get("id") or f"{split}-{number}"): row.where
        for split in rows
        for number, row in enumerate(rows[split])
    }
    for examples in splits.values():
        for example in examples:
            unknown = names_of(example, kind) - set(known)
            if unknown:
                raise DataError(
                    f"the label {sorted(unknown)[0][:60]!r} is {why}",
                    where=places.get(example.id, ""),
                    fix="correct the spelling, or add training examples of it",
                )
