"""Dev and test examples cut from a train file that comes alone, none of which is in train in disguise."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from wellread import rng
from wellread.tasks.near import join, leader, near_groups
from wellread.tasks.task import Example, Kind, names_of

SPLIT_SEED = 20240501
CUT = 0.1
LARGE = 2 * CUT  # a group with a larger share of the examples stays in train
ENOUGH = 3  # groups of a class, so that each of three splits can have one


def cut(train: list[Example], missing: list[str], kind: Kind) -> dict[str, list[Example]]:
    """Cut the missing splits from train, 10% each, but at least one example each.

    Examples of one document, and equal or nearly equal texts (:func:`wellread.tasks.near.near_groups`), stay
    together.  Where such a group goes is drawn by a hash of its first document or text: other examples beside
    it do not move it.  Only a class that would be absent from a split gets there its group that was drawn
    nearest, if it has one for each split; and a label that would be absent from train brings its group there.

    Args:
        train: examples.
        missing: of "dev" and "test".
        kind: of the task.

    Returns:
        The missing splits and "train", in the order of the examples; a split is empty where there are fewer
        groups than splits.
    """
    groups = _groups(train)
    names = [train[members[0]].doc or _text(train[members[0]]) for members in groups]
    draws = rng.uniform(SPLIT_SEED, "cut", [text_key(name) for name in names]).tolist()
    small = [group for group, members in enumerate(groups) if len(members) <= max(1, LARGE * len(train))]
    split_of = ["train"] * len(groups)
    for number, split in enumerate(missing):
        for group in small:
            if number * CUT <= draws[group] < (number + 1) * CUT:
                split_of[group] = split
    labels = [train[members[0]].label for members in groups]
    for number, split in enumerate(missing):
        middle = (number + 0.5) * CUT
        nearest = sorted(small, key=lambda group: (abs(draws[group] - middle), group))
        free = [group for group in nearest if split_of[group] == "train"]
        if split not in split_of and free and split_of.count("train") > 1:
            split_of[free[0]] = split
        if kind == "classify":
            _give_each_class_one(split, split_of, nearest, labels)
    _leave_train_every_label(
        split_of, [{n for i in members for n in names_of(train[i], kind)} for members in groups]
    )
    result: dict[str, list[Example]] = {split: [] for split in ("train", *missing)}
    placed = {index: split for members, split in zip(groups, split_of, strict=True) for index in members}
    for index, example in enumerate(train):
        result[placed[index]].append(example)
    return result


def _groups(examples: list[Example]) -> list[list[int]]:
    """Numbers of the examples that stay together, in the order of their first."""
    texts = [" ".join(_text(example).casefold().split()) for example in examples]
    groups = near_groups(texts)
    for keys in (texts, [example.doc for example in examples]):
        first: dict[str, int] = {}
        for number, key in enumerate(keys):
            if key:
                join(groups, first.setdefault(key, number), number)
    members: dict[int, list[int]] = defaultdict(list)
    for number in range(len(examples)):
        members[leader(groups, number)].append(number)
    return list(members.values())


def _give_each_class_one(
    split: str, split_of: list[str], nearest: list[int], labels: Sequence[object]
) -> None:
    """Move one group of each class that the split lacks out of train, where the class has enough."""
    for label in sorted(set(labels), key=str):
        own = [group for group in nearest if labels[group] == label]
        if len(own) >= ENOUGH and all(split_of[group] != split for group in own):
            free = [group for group in own if split_of[group] == "train"]
            if len(free) > 1:
                split_of[free[0]] = split


def _leave_train_every_label(split_of: list[str], names: list[set[str]]) -> None:
    """Move groups back to train whose labels would stand nowhere in it."""
    known = {name for split, found in zip(split_of, names, strict=True) if split == "train" for name in found}
    for group, found in enumerate(names):
        if not found <= known:
            split_of[group] = "train"
            known |= found


def _text(example: Example) -> str:
    return f"{example.text}\t{example.second or ''}"


def text_key(text: str) -> int:
    """A 63-bit hash of a string, as a key for ``rng``."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
