"""Two tasks on full-text articles of trials whose evidence lies beyond token 512.

The label is read from title and abstract, which the text leaves out, so a text begins with the introduction;
an article is kept only if its introduction alone fills the first 512 tokens: a model that is cut there
has read neither methods nor results.  Rules of words give the labels, not people, so they are weak.

- ``placebo``: does the abstract speak of a placebo?  The text is the whole body.
- ``conclusion``: does the abstract conclude that there was a difference, or none?  Two lists of words say so;
  conclusions with both, with neither, or of planned trials are left out.  The text is introduction, results,
  and discussion.
"""

from __future__ import annotations

import csv
import json
import lzma
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wellread import files
from wellread.errors import DataError

FIRST = 512  # tokens that hold nothing but the introduction
FULLTEXT = ("fulltext_ccby_pd.jsonl.xz", "fulltext_other_oa.jsonl.xz")
SPLITS = {"train": "train", "validation": "dev", "test": "test"}
SHORTEST = 300  # characters of an abstract: what is shorter does not say how the trial was done
FRONT = ("TITLE", "ABSTRACT")
OPENING = ("INTRODUCTION", "BACKGROUND")
EVIDENCE = ("RESULT", "FINDING", "DISCUSSION", "CONCLUSION")

_CHANGE = (
    "differ|effect|improv|reduc|benefi|superior|associat|affect|increas|decreas|influenc|advantage|chang|"
    "enhanc|better|support|impact"
)
NEGATIVE = re.compile(
    rf"\b(?:no|not|neither|nor|without|lack of|fail\w* to)\b[^.;]{{0,60}}?\b(?:{_CHANGE})\w*"
    r"|\b(?:similar|comparable|equivalent|ineffective|non-?inferior\w*)\b",
    re.IGNORECASE,
)
POSITIVE = re.compile(
    r"\b(?:significantly|effective|efficacious|improv(?:e[ds]?|ing|ement)|reduc(?:e[ds]?|ing|tion)|superior|"
    r"better|beneficial|benefits?|greater|increased|decreased|enhance[ds]?|promising)\b",
    re.IGNORECASE,
)
PLANNED = re.compile(r"\b(?:will|proposed study|protocol)\b", re.IGNORECASE)  # no results yet
_SECTION = re.compile(r"^([A-Z]+(?:\.[^\n:]*)?):[ \t]*$", re.MULTILINE)
Sections = list[tuple[str, str]]


def direction(conclusion: str) -> str | None:
    """The label of a conclusion; None where the words say both or nothing."""
    if PLANNED.search(conclusion):
        return None
    rest, found = NEGATIVE.subn(" ", conclusion)
    has_gain = POSITIVE.search(rest) is not None
    if bool(found) == has_gain:
        return None
    return "no-difference" if found else "difference"


def _conclusion(front: Sections) -> str | None:
    return direction(" ".join(text for name, text in front if "CONCLUSION" in name))


def _placebo(front: Sections) -> str | None:
    text = " ".join(text for _, text in front)
    if len(text) < SHORTEST:
        return None
    return "placebo" if re.search(r"\bplacebo", text, re.IGNORECASE) else "none"


@dataclass(frozen=True)
class Asked:
    """A task.

    Attributes:
        label: of an article, from the sections of its title and abstract; None to leave it out.
        parts: sections beside the introduction whose names hold one of these are read; () for all.
    """

    label: Callable[[Sections], str | None]
    parts: tuple[str, ...] = ()

    def reads(self, name: str) -> bool:
        """Whether a section of the body that is not the introduction is read."""
        return not self.parts or ("METHOD" not in name and any(word in name for word in self.parts))


TASKS = {"placebo": Asked(_placebo), "conclusion": Asked(_conclusion, EVIDENCE)}


def sections(text: str) -> Sections:
    """(heading in capitals, text) of an article's sections, in order."""
    marks = list(_SECTION.finditer(text))
    ends = [*(mark.start() for mark in marks[1:]), len(text)][: len(marks)]
    return [
        (mark.group(1).upper(), text[mark.end() : end].strip()) for mark, end in zip(marks, ends, strict=True)
    ]


def body(parts: Sections, asked: Asked) -> tuple[str, str]:
    """(introduction, what else the task reads) of an article; empty where a part is not found."""
    opening, rest = [], []
    for name, text in parts:
        if any(word in name for word in OPENING):
            opening.append(text)
        elif asked.reads(name):
            rest.append(text)
    return "\n\n".join(opening), "\n\n".join(rest)


def make(data: Path, task: str, tokenizer: Any, folder: Path, most: int | None = None) -> dict[str, Any]:
    """Write train.jsonl, dev.jsonl and test.jsonl, and say how many articles each rule left.

    Args:
        data: the folder with the full texts and index.tsv.
        task: of TASKS.
        tokenizer: of the start, which counts the introduction's tokens.
        folder: where the files are written.
        most: at most so many of each split, the first ones; for a trial.

    Raises:
        DataError: the data are not there.
    """
    for name in ("index.tsv", *FULLTEXT):
        if not (data / name).is_file():
            raise DataError(f"no {name}", where=str(data), fix="give the folder of the full-text articles")
    with open(data / "index.tsv", encoding="utf-8") as stream:
        splits = {row["pmcid"]: row["ev_inf_split"] for row in csv.DictReader(stream, delimiter="\t")}
    rows: dict[str, list[dict[str, str]]] = {name: [] for name in SPLITS.values()}
    counts = Counter({"articles": 0, "with a label": 0, "with both parts": 0, "kept": 0})
    for article in _articles(data):
        counts["articles"] += 1
        front, parts = [], []
        for section in sections(article["text"]):
            (front if section[0].startswith(FRONT) else parts).append(section)
        split, label = SPLITS.get(splits.get(article["pmcid"], "")), TASKS[task].label(front)
        if label is None or split is None:
            continue
        counts["with a label"] += 1
        opening, rest = body(parts, TASKS[task])
        if not opening or not rest:
            continue
        counts["with both parts"] += 1
        if most is not None and len(rows[split]) >= most:
            continue
        if len(tokenizer(opening, add_special_tokens=False, verbose=False).input_ids) >= FIRST:
            rows[split].append({"id": article["pmcid"], "text": f"{opening}\n\n{rest}", "label": label})
            counts["kept"] += 1
    folder.mkdir(parents=True, exist_ok=True)
    for split, found in rows.items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found)
        files.write_bytes(folder / f"{split}.jsonl", lines.encode())
    labels = {split: Counter(row["label"] for row in found) for split, found in rows.items()}
    return {**counts, "labels": labels}


def _articles(data: Path) -> Iterator[dict[str, str]]:
    for name in FULLTEXT:
        with lzma.open(data / name, "rt", encoding="utf-8") as stream:
            for line in stream:
                yield json.loads(line)
