"""Known benchmark tasks in the formats in which they are published, one TOML file each in ``known/``.

Keys of such a file: ``title``, ``kind``, ``source``, ``licence``, and if need be ``metric``, ``labels``;
``folders`` (names under which its folder may stand among others, besides its own name); ``files`` (the file
names of each split, the first that exists is read; a dev split without files is cut from train); ``format``
(conll, conllu, inline, tsv, csv, jsonl) and ``encoding``, or ``reader`` (a name of READERS) and ``folds``;
``columns`` (names for a file without a header); ``rename`` (our key = its column); ``names`` (its label =
our label); ``flags`` (labels written as "0_0,1_1": index and 0 or 1); ``replace`` (a pattern = what stands
for it in the text); ``doc`` (a pattern whose first group, found in the id, names the document) and
``doc_prefix``; ``entity`` (the type of tags B and I) and ``untyped`` (all tags get it); ``number_ids`` (ids
begin anew in each split); ``divide`` (shares of dev and test, of a benchmark in one file, "all");
``official`` (``unit`` and the benchmark's size of each split in it) and ``partial`` (what the files lack).
A file may have several ``layouts``, tables of keys that differ, of which the first that fits is read.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from wellread.errors import DataError, RecipeError
from wellread.evaluate.metrics import default_metric
from wellread.tasks import pubmedqa
from wellread.tasks.divide import divide
from wellread.tasks.read import make_task
from wellread.tasks.rows import Row, file_bytes, read_rows, real_file
from wellread.tasks.task import SPLITS, Task

_FOLDER = Path(__file__).with_name("known")
# For what is no row a line: files by split and a fold in, rows by split out.
READERS: dict[str, Callable[[dict[str, Path], int], dict[str, list[Row]]]] = {"pubmedqa": pubmedqa.read}


def known_names() -> list[str]:
    """Names of the known tasks."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def describe(known: str, where: str = "known") -> dict[str, Any]:
    """The declaration of a known task.

    Raises:
        RecipeError: no such task.
    """
    if known not in known_names():
        near = difflib.get_close_matches(known, known_names(), n=1)
        fix = f"did you mean {near[0]!r}?" if near else f"one of: {', '.join(known_names())}"
        raise RecipeError(f"unknown task {known!r}", where=where, fix=fix)
    return tomllib.loads((_FOLDER / f"{known}.toml").read_text(encoding="utf-8"))


def metric_of(known: str) -> str:
    """The score that a known task reports first."""
    told = describe(known)
    return told.get("metric") or default_metric(told["kind"])


def known_files(known: str, folder: Path, where: str = "known") -> dict[str, Path]:
    """The files of a known task on the disk, by split (or by what else its reader calls them).

    Raises:
        DataError: one is missing.
        RecipeError: no such task.
    """
    return {name: real_file(path) or path for name, path in _layout(known, folder, where)[1].items()}


def find_folder(known: str, base: Path) -> Path | None:
    """The first folder below ``base`` that holds the files of a known task under one of its usual names."""
    for name in (known, *describe(known).get("folders", ())):
        try:
            _layout(known, base / name)
        except DataError:
            continue
        return base / name
    return None


def read_known(known: str, path: Path, name: str | None = None, fold: int = 0) -> Task:
    """Read a known task from its original files.

    Args:
        known: its name (:func:`known_names`).
        path: the folder of its files.
        name: of the task; default ``known``.
        fold: which fold is dev, in tasks with folds.

    Returns:
        The task; ``facts`` has "partial" where the files hold less than the benchmark does, and "differs"
        where they hold more.

    Raises:
        DataError: a file is missing or malformed, with file and line.
        RecipeError: no such task.
    """
    told, found = _layout(known, path)
    if "reader" in told:
        rows = READERS[told["reader"]](found, fold)
    else:
        rows = {split: list(_rows(told, file)) for split, file in found.items()}
    translated = {split: [_translated(row, told, split) for row in rows[split]] for split in rows}
    left_out: dict[str, int] = {}
    if "divide" in told:
        translated, left_out = divide(translated["all"], told["divide"])
    task = make_task(translated, told, name or known)
    facts = {**task.facts, **left_out, "known": known, "title": told["title"], **_compared(task, told)}
    return replace(task, facts=facts, splits={split: task.splits[split] for split in SPLITS})


def _layout(known: str, folder: Path, where: str = "known") -> tuple[dict[str, Any], dict[str, Path]]:
    """The declaration with the layout that fits the folder, and its files.

    Where the files of a layout are there but look otherwise, the reader is the one to say so.
    """
    told = describe(known, where)
    complete = []
    for layout in told.get("layouts", [{}]):
        merged = {**told, **layout}
        found = {
            split: next((folder / name for name in names if real_file(folder / name)), None)
            for split, names in merged["files"].items()
        }
        present = {split: path for split, path in found.items() if path is not None}
        if len(present) == len(found):
            complete.append((merged, present))
    if not complete:
        raise _missing(known, {**told, **told.get("layouts", [{}])[0]}, folder)
    return next((one for one in complete if _fits(*one)), complete[0])


def _missing(known: str, told: dict[str, Any], folder: Path) -> DataError:
    split, names = next(
        (split, names)
        for split, names in told["files"].items()
        if not any(real_file(folder / name) for name in names)
    )
    fix = f"put {' or '.join(names)} there, as published"
    return DataError(f"no {split} file of {known}", where=str(folder), fix=fix)


def _fits(told: dict[str, Any], found: dict[str, Path]) -> bool:
    """Whether the first line of a table has the layout's columns, and of JSON lines its text."""
    if told.get("format") not in ("tsv", "csv", "jsonl"):
        return True
    try:
        first = (
            file_bytes(next(iter(found.values()))).removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0].decode()
        )
    except (OSError, UnicodeDecodeError):
        return True
    text = told.get("rename", {}).get("text", "text")
    if told["format"] == "jsonl":
        try:
            return text in json.loads(first)
        except ValueError:
            return True
    cells = first.rstrip("\r").split("\t" if told["format"] == "tsv" else ",")
    return len(cells) == len(told["columns"]) if "columns" in told else text in cells


def _rows(told: dict[str, Any], file: Path) -> list[Row]:
    columns = tuple(told["columns"]) if "columns" in told else None
    header_text = told.get("rename", {}).get("text", "text")
    rows = []
    for row in read_rows(file, told["format"], columns, header_text, told.get("encoding", "utf-8")):
        if isinstance(row, DataError):
            raise row
        rows.append(row)
    if not rows:
        raise DataError("the file holds no examples", where=str(file), fix="take the published file")
    return rows


def _translated(row: Row, told: dict[str, Any], split: str) -> Row:
    """The row with our keys and labels."""
    values = dict(row.values)
    for ours, theirs in told.get("rename", {}).items():
        if theirs in values:
            values[ours] = values.pop(theirs)
    if "flags" in told:
        values["labels"] = _flags(row, str(values.get("labels", "")), told["labels"])
    if "names" in told and "label" in values:
        values["label"] = told["names"].get(str(values["label"]), values["label"])
    for pattern, text in told.get("replace", {}).items():
        values["text"] = re.sub(pattern, text, str(values.get("text", "")))
    if "entity" in told:
        values["tags"] = [_typed(tag, told["entity"], told.get("untyped", False)) for tag in values["tags"]]
    identity = values.get("id", "")
    if "doc" in told and (match := re.search(told["doc"], identity)):
        values["doc"] = match[1]
    if values.get("doc"):
        values["doc"] = told.get("doc_prefix", "") + values["doc"]
    if told.get("number_ids"):
        values["id"] = f"{split}-{identity}"
    return replace(row, values=values)


def _typed(tag: str, entity: str, untyped: bool) -> str:
    if tag == "O" or ("-" in tag and not untyped):
        return tag
    return f"{tag.partition('-')[0]}-{entity}"


def _flags(row: Row, text: str, labels: list[str]) -> list[str]:
    found = re.findall(r"(\d+)_([01])(?:,|$)", text)
    if [int(index) for index, _ in found] != list(range(len(labels))):
        raise DataError("the label flags are not 0_0,1_1,...", where=row.where, fix="take the published file")
    return [labels[int(index)] for index, value in found if value == "1"]


def _compared(task: Task, told: dict[str, Any]) -> dict[str, str]:
    """What the files lack of the benchmark, and where they hold more."""
    official = told.get("official", {})
    lacks: list[str] = [told["partial"]] if "partial" in told else []
    more: list[str] = []
    for split in SPLITS:
        if split not in official or split not in told["files"] and "reader" not in told:
            continue
        size, wanted = size_of(task, split, official["unit"]), official[split]
        text = f"{split} has {size:,} {official['unit']}, the benchmark {wanted:,}"
        if size != wanted:
            (lacks if size < wanted else more).append(text)
    return {
        **({"partial": "; ".join(lacks)} if lacks else {}),
        **({"differs": "; ".join(more)} if more else {}),
    }


def size_of(task: Task, split: str, unit: str) -> int:
    """Size of a split in examples, documents, entities, or words that are part of one."""
    examples = task.splits[split]
    if unit == "examples":
        return len(examples)
    if unit == "documents":
        return len({example.doc for example in examples})
    mark = "B-" if unit == "entities" else ("B-", "I-")
    return sum(tag.startswith(mark) for example in examples for tag in example.label)  # type: ignore[union-attr]
