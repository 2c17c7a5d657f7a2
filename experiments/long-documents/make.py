"""A task whose evidence lies beyond token 512: what a trial's abstract concludes, from the article's body.

Title, abstract and methods are left out, so a text begins with the introduction, and an article is kept only
if its introduction alone fills the first 512 tokens: a model that is cut there has never seen a result.
Labels come from the conclusion of the abstract by two lists of words ("difference", "no-difference");
conclusions that have both, or neither, are left out.  The labels are thus weak: rules, not people, gave them.
"""

from __future__ import annotations

import csv
import json
import lzma
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wellread import files
from wellread.errors import DataError

FIRST = 512  # tokens that hold nothing but the introduction
FULLTEXT = ("fulltext_ccby_pd.jsonl.xz", "fulltext_other_oa.jsonl.xz")
SPLITS = {"train": "train", "validation": "dev", "test": "test"}
LEFT_OUT = ("TITLE", "ABSTRACT")
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


def direction(conclusion: str) -> str | None:
    """The label of a conclusion; None where the words say both or nothing."""
    if PLANNED.search(conclusion):
        return None
    rest, found = NEGATIVE.subn(" ", conclusion)
    has_gain = POSITIVE.search(rest) is not None
    if bool(found) == has_gain:
        return None
    return "no-difference" if found else "difference"


def sections(text: str) -> list[tuple[str, str]]:
    """(heading in capitals, text) of an article's sections, in order."""
    marks = list(_SECTION.finditer(text))
    ends = [*(mark.start() for mark in marks[1:]), len(text)][: len(marks)]
    return [
        (mark.group(1).upper(), text[mark.end() : end].strip()) for mark, end in zip(marks, ends, strict=True)
    ]


def body(article: str) -> tuple[str, str]:
    """(introduction, results and what follows) of an article; empty where a part is not found."""
    parts = [(name, text) for name, text in sections(article) if not name.startswith(LEFT_OUT)]
    opening = [text for name, text in parts if any(word in name for word in OPENING)]
    evidence = [
        text
        for name, text in parts
        if any(word in name for word in EVIDENCE) and "METHOD" not in name and not _is_opening(name)
    ]
    return "\n\n".join(opening), "\n\n".join(evidence)


def make(data: Path, tokenizer: Any, folder: Path, most: int | None = None) -> dict[str, Any]:
    """Write train.jsonl, dev.jsonl and test.jsonl, and say how many articles each rule left.

    Args:
        data: the folder with the full texts, abstract_sections.jsonl.xz and index.tsv.
        tokenizer: of the start, which counts the introduction's tokens.
        folder: where the files are written.
        most: at most so many of each split, the first ones; for a trial.

    Raises:
        DataError: the data are not there.
    """
    if not (data / "index.tsv").is_file():
        raise DataError("no index.tsv", where=str(data), fix="give the folder of the full-text articles")
    concluded = _conclusions(data)
    with open(data / "index.tsv", encoding="utf-8") as stream:
        splits = {row["pmcid"]: row["ev_inf_split"] for row in csv.DictReader(stream, delimiter="\t")}
    rows: dict[str, list[dict[str, str]]] = {name: [] for name in SPLITS.values()}
    counts = {"articles": 0, "with a clear conclusion": 0, "with both parts": 0, "kept": 0}
    for article in _articles(data):
        counts["articles"] += 1
        split, label = SPLITS.get(splits.get(article["pmcid"], "")), concluded.get(article["pmcid"])
        if label is None or split is None:
            continue
        counts["with a clear conclusion"] += 1
        opening, evidence = body(article["text"])
        if not opening or not evidence:
            continue
        counts["with both parts"] += 1
        if most is not None and len(rows[split]) >= most:
            continue
        if len(tokenizer(opening, add_special_tokens=False, verbose=False).input_ids) >= FIRST:
            rows[split].append({"id": article["pmcid"], "text": f"{opening}\n\n{evidence}", "label": label})
            counts["kept"] += 1
    folder.mkdir(parents=True, exist_ok=True)
    for split, found in rows.items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found)
        files.write_bytes(folder / f"{split}.jsonl", lines.encode())
    labels = {
        split: {
            label: sum(row["label"] == label for row in found) for label in ("difference", "no-difference")
        }
        for split, found in rows.items()
    }
    return counts | {"labels": labels}


def _is_opening(name: str) -> bool:
    return any(word in name for word in OPENING)


def _conclusions(data: Path) -> dict[str, str | None]:
    with lzma.open(data / "abstract_sections.jsonl.xz", "rt", encoding="utf-8") as stream:
        records = [json.loads(line) for line in stream]
    return {
        record["pmcid"]: direction(
            " ".join(part["text"] for part in record["sections"] if part["label"] == "CONCLUSIONS")
        )
        for record in records
    }


def _articles(data: Path) -> Iterator[dict[str, str]]:
    for name in FULLTEXT:
        with lzma.open(data / name, "rt", encoding="utf-8") as stream:
            for line in stream:
                yield json.loads(line)
