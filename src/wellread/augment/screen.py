"""Which generated examples are let in: none near dev, test or train, labels in their shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from wellread import rng
from wellread.tasks.near import near_pairs
from wellread.tasks.task import Example, Task


def clean_sources(task: Task) -> tuple[list[Example], int]:
    """Training examples whose texts and contexts stand in neither dev nor test, and how many do."""
    held_out = [*task.splits["dev"], *task.splits["test"]]
    train = task.splits["train"]
    dirty: set[int] = set()
    for texts in (lambda one: one.text, lambda one: one.text_pair or ""):
        dirty |= _near([texts(one) for one in held_out], [texts(one) for one in train])
    documents = {one.doc for one in held_out if one.doc}
    dirty |= {number for number, one in enumerate(train) if one.doc in documents}
    return [one for number, one in enumerate(train) if number not in dirty], len(dirty)


def admit(task: Task, made: Sequence[Example]) -> tuple[list[Example], Counter[str]]:
    """The generated examples that are near no dev or test example and say something that train does not.

    Texts are near when the Jaccard similarity of their three-word runs is at least 0.8 (texts without such a
    run, when their words are equal); as everywhere in Wellread.

    Args:
        task: the original.
        made: generated examples.

    Returns:
        Those let in, and the others counted by reason.
    """
    counts: Counter[str] = Counter()
    held_out = [*task.splits["dev"], *task.splits["test"]]
    near_test = _near([one.text for one in held_out], [one.text for one in made])
    near_train = _near([one.text for one in task.splits["train"]], [one.text for one in made])
    seen: set[str] = set()
    kept = []
    for number, one in enumerate(made):
        words = _words(one.text)
        reason = (
            "near dev or test"
            if number in near_test
            else "near train"
            if number in near_train
            else "generated twice"
            if words in seen
            else ""
        )
        if reason:
            counts[reason] += 1
            continue
        seen.add(words)
        kept.append(one)
    return kept, counts


def in_shares(made: Sequence[Example], train: Sequence[Example]) -> list[Example]:
    """As many of the generated examples as keep the labels in the shares that they have in train.

    The first of each label stay; a label of which none was generated is passed over.
    """
    share = Counter(str(one.label) for one in train)
    have = Counter(str(one.label) for one in made)
    total = min((have[label] / share[label] for label in have), default=0.0)
    room = {label: int(np.floor(total * share[label] + 1e-9)) for label in have}
    kept = []
    for one in made:
        if room[str(one.label)] > 0:
            room[str(one.label)] -= 1
            kept.append(one)
    return kept


def shuffled(made: Sequence[Example], seed: int) -> list[Example]:
    """The generated examples with their labels exchanged at random: a control that must not help."""
    if not made:
        return []
    place = rng.permute(np.arange(len(made)), len(made), seed, "augment-shuffle")
    return [replace(one, label=made[other].label) for one, other in zip(made, place.tolist(), strict=True)]


def _near(first: Sequence[str], second: Sequence[str]) -> set[int]:
    """Numbers of the texts of ``second`` that are near one of ``first``."""
    groups = [0] * len(first) + [1] * len(second)
    found = {later - len(first) for _, later, _ in near_pairs([*first, *second], groups)}
    equal = {words for text in first if (words := _words(text))}
    return found | {number for number, text in enumerate(second) if _words(text) in equal}


def _words(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.casefold()).split())
