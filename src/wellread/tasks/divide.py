"""Splits for a benchmark that is published as one file, and the traps of such files.

Collections scraped from the web hold the same text more than once, some of it under different labels.  Nearly
equal texts (:mod:`wellread.tasks.near`) therefore stay in one split together, and those under more than one
label are left out: no reader could tell which is meant.
"""

from __future__ import annotations

from collections import defaultdict

from wellread import rng
from wellread.tasks.cut import SPLIT_SEED, text_key
from wellread.tasks.near import near_groups
from wellread.tasks.rows import Row


def divide(rows: list[Row], shares: dict[str, float]) -> tuple[dict[str, list[Row]], dict[str, int]]:
    """Rows of a classification task by split, the same every time; each label is shared out alike.

    Args:
        rows: with "text" and "label".
        shares: of "dev" and "test"; the rest is train.

    Returns:
        The rows by split, in the order of the file, and how many were left out because nearly equal texts
        have other labels.
    """
    groups: dict[int, list[int]] = defaultdict(list)
    for number, group in enumerate(near_groups([str(row.values["text"]) for row in rows])):
        groups[group].append(number)
    clear: dict[str, list[list[int]]] = defaultdict(list)
    for members in groups.values():
        labels = {str(rows[number].values["label"]) for number in members}
        if len(labels) == 1:
            clear[labels.pop()].append(members)
    split_of: dict[int, str] = {}
    for _, found in sorted(clear.items()):
        keys = [text_key(str(rows[members[0]].values["text"])) for members in found]
        draws = rng.uniform(SPLIT_SEED, "divide", keys)
        ranked = [members for _, members in sorted(zip(draws.tolist(), found, strict=True))]
        first = 0.0
        for split, share in sorted(shares.items()):
            begin, end = (round(len(ranked) * part) for part in (first, first + share))
            first += share
            split_of |= {number: split for members in ranked[begin:end] for number in members}
        split_of |= {n: "train" for members in ranked[round(len(ranked) * first) :] for n in members}
    splits: dict[str, list[Row]] = {split: [] for split in ("train", *sorted(shares))}
    for number, split in sorted(split_of.items()):
        splits[split].append(rows[number])
    return splits, {"left_out_under_two_labels": len(rows) - len(split_of)}
