"""PubMedQA (Jin et al., 2019, arXiv 1909.06146): its labelled questions with the official split and folds."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from wellread.errors import DataError
from wellread.tasks.rows import Row, file_bytes

LABELS = ("yes", "no", "maybe")  # in the order in which the official split goes through them
FOLDS = 10
SEED = 0


def read(found: dict[str, Path], fold: int) -> dict[str, list[Row]]:
    """Question and context (without section headings and without the long answer) as rows.

    Args:
        found: "questions": ori_pqal.json; "test": test_ground_truth.json.
        fold: which tenth of the 500 questions that are not test is dev; the others are train.

    Raises:
        DataError: not these files, or the split that comes out is not the one of ``test``.
    """
    if not 0 <= fold < FOLDS:
        raise DataError(f"there is no fold {fold}", where="fold", fix=f"give 0 to {FOLDS - 1}")
    path = found["questions"]
    questions, test = _json(path), _json(found["test"])
    try:
        labels = {pmid: str(one["final_decision"]) for pmid, one in questions.items()}
        half, held_out = split(labels)
        rows = {pmid: _row(path, pmid, one) for pmid, one in questions.items()}
    except (TypeError, KeyError, AttributeError):
        raise DataError(
            "not the labelled set of PubMedQA", where=str(path), fix="take ori_pqal.json"
        ) from None
    if set(held_out) != set(test):
        raise DataError(
            "the official split of these questions is not the test set",
            where=str(found["test"]),
            fix="take ori_pqal.json and test_ground_truth.json as published, unchanged",
        )
    tenths = folds(half, labels)
    dev = set(tenths[fold])
    return {
        "train": [rows[pmid] for tenth in tenths for pmid in tenth if pmid not in dev],
        "dev": [rows[pmid] for pmid in tenths[fold]],
        "test": [rows[pmid] for pmid in questions if pmid in test],
    }


def split(labels: dict[str, str]) -> tuple[list[str], list[str]]:
    """The official halves, for cross-validation and for test, each with the labels in equal shares."""
    draw = random.Random(SEED)
    return tuple(_deal(list(labels), labels, 2, draw))  # type: ignore[return-value]


def folds(half: list[str], labels: dict[str, str]) -> list[list[str]]:
    """The official ten folds of the half for cross-validation."""
    draw = random.Random(SEED)
    _deal(list(labels), labels, 2, draw)  # one stream: the folds are drawn after the halves
    return _deal(half, labels, FOLDS, draw)


def _deal(pmids: list[str], labels: dict[str, str], parts: int, draw: random.Random) -> list[list[str]]:
    """Cut each label's questions, shuffled, into parts; a short last part gets one of each other part."""
    dealt: list[list[str]] = [[] for _ in range(parts)]
    for label in LABELS:
        chosen = [pmid for pmid in pmids if labels[pmid] == label]
        draw.shuffle(chosen)
        size = math.ceil(len(chosen) / parts)
        for number, part in enumerate(dealt):
            part += chosen[number * size : (number + 1) * size if number < parts - 1 else None]
    if len(dealt[-1]) != len(dealt[0]):
        for part in dealt[:-1]:
            picked = draw.choice(part)
            dealt[-1].append(picked)
            part.remove(picked)
    return dealt


def _row(path: Path, pmid: str, one: dict[str, Any]) -> Row:
    values = {"text": one["QUESTION"], "text_pair": " ".join(one["CONTEXTS"]), "label": one["final_decision"]}
    return Row(path, 1, {"id": pmid, "doc": pmid, **values})


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(file_bytes(path))
    except (OSError, ValueError):
        raise DataError("not JSON", where=str(path), fix="take the published file") from None
    if not isinstance(values, dict):
        raise DataError("not a JSON object", where=str(path), fix="take the published file")
    return values
