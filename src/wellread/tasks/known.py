"""Known benchmark tasks in the formats in which they are published, one TOML file each in ``known/``.

Keys of such a file: ``title``, ``kind``, ``source``, ``licence``, and if need be ``metric``, ``labels``;
``files`` (the file names of each split, the first that exists is read; with ``divide`` those of "all", and
``divide`` says what shares of them are dev and test, see ``tasks/divide.py``); ``format`` (conll, tsv, csv);
``columns`` (names for a file without a header); ``rename`` (our key = its column); ``names`` (its label = our
label); ``flags`` (labels written as "0_0,1_1": index and 0 or 1); ``doc`` (a pattern whose first group, found
in the id, names the document) and ``doc_prefix``; ``entity`` (the type of tags B and I); ``number_ids`` (ids
begin anew in each split).
"""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from wellread.errors import DataError, RecipeError
from wellread.tasks.divide import divide
from wellread.tasks.read import make_task
from wellread.tasks.rows import Row, read_rows
from wellread.tasks.task import SPLITS, Task

_FOLDER = Path(__file__).with_name("known")


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


def known_files(known: str, folder: Path, where: str = "known") -> dict[str, Path]:
    """The file of each split of a known task.

    Raises:
        DataError: one is missing.
        RecipeError: no such task.
    """
    found = {}
    for split, names in describe(known, where)["files"].items():
        path = next((Path(folder) / name for name in names if (Path(folder) / name).is_file()), None)
        if path is None:
            raise DataError(
                f"no {split} file of {known}",
                where=str(folder),
                fix=f"put {' or '.join(names)} there, as published",
            )
        found[split] = path
    return found


def read_known(known: str, path: Path, name: str | None = None) -> Task:
    """Read a known task from its original files.

    Args:
        known: its name (:func:`known_names`).
        path: the folder of its files.
        name: of the task; default ``known``.

    Raises:
        DataError: a file is missing or malformed, with file and line.
        RecipeError: no such task.
    """
    told = describe(known)
    rows: dict[str, list[Row]] = {}
    for split, file in known_files(known, path).items():
        rows[split] = []
        columns = tuple(told["columns"]) if "columns" in told else None
        for row in read_rows(
            file, told["format"], columns, header_text=told.get("rename", {}).get("text", "text")
        ):
            if isinstance(row, DataError):
                raise row
            rows[split].append(_translated(row, told, split))
    told_facts: dict[str, int] = {}
    if "divide" in told:
        rows, told_facts = divide(rows["all"], told["divide"])
    task = make_task(rows, told, name or known)
    facts = {**task.facts, **told_facts, "known": known, "title": told["title"]}
    return replace(task, facts=facts, splits={split: task.splits[split] for split in SPLITS})


def _translated(row: Row, told: dict[str, Any], split: str) -> Row:
    """The row with our keys and labels."""
    values = dict(row.values)
    for ours, theirs in told.get("rename", {}).items():
        if theirs in values:
            values[ours] = values.pop(theirs)
    if "flags" in told:
        values["labels"] = _flags(row, str(values.get("labels", "")), told["labels"])
    if "names" in told and "label" in values:
        values["label"] = told["names"].get(values["label"], values["label"])
    if "entity" in told:
        values["tags"] = [
            tag if "-" in tag or tag == "O" else f"{tag}-{told['entity']}" for tag in values["tags"]
        ]
    identity = values.get("id", "")
    if "doc" in told and (match := re.search(told["doc"], identity)):
        values["doc"] = match[1]
    if values.get("doc"):
        values["doc"] = told.get("doc_prefix", "") + values["doc"]
    if told.get("number_ids"):
        values["id"] = f"{split}-{identity}"
    return replace(row, values=values)


def _flags(row: Row, text: str, labels: list[str]) -> list[str]:
    found = re.findall(r"(\d+)_([01])(?:,|$)", text)
    if [int(index) for index, _ in found] != list(range(len(labels))):
        raise DataError("the label flags are not 0_0,1_1,...", where=row.where, fix="take the published file")
    return [labels[int(index)] for index, value in found if value == "1"]
