"""What is cut from train: no text of it in disguise, every class, and the same whatever stands beside."""

from __future__ import annotations

import random

import pytest

from wellread.tasks.cut import cut
from wellread.tasks.near import near_pairs
from wellread.tasks.task import Example

MISSING = ["dev", "test"]


def sentence(seed: int) -> str:
    generator = random.Random(seed)
    return " ".join(f"w{generator.randrange(3000)}" for _ in range(12))


def examples(number: int, label: str = "a", first: int = 0) -> list[Example]:
    return [Example(f"{label}{n}", sentence(n), label) for n in range(first, first + number)]


def test_copies_stay_together() -> None:
    plain = examples(100)
    disguised = [Example(f"u{n}", one.text.upper(), "a") for n, one in enumerate(plain)]
    dotted = [Example(f"d{n}", f"{one.text} .", "a") for n, one in enumerate(plain)]
    splits = cut([*plain, *disguised, *dotted], MISSING, "classify")
    assert sum(map(len, splits.values())) == 300
    found = [(one.text, number) for number, split in enumerate(splits) for one in splits[split]]
    assert not list(near_pairs([text for text, _ in found], [number for _, number in found]))
    assert min(map(len, splits.values())) > 0


def test_short_texts_that_are_equal_stay_together() -> None:
    given = [Example(str(n), ("yes", "No", "no ", "!", "?")[n % 5], "a") for n in range(60)]
    splits = cut(given, MISSING, "classify")
    place = {one.text.casefold().strip(): split for split in splits for one in splits[split]}
    assert all(place[one.text.casefold().strip()] == split for split in splits for one in splits[split])


@pytest.mark.parametrize("seed", range(20))
def test_a_rare_class_is_in_every_split(seed: int) -> None:
    given = [*examples(110, "common", 1000 * seed), *examples(10, "rare", 1000 * seed + 500)]
    splits = cut(given, MISSING, "classify")
    assert all({one.label for one in splits[split]} == {"common", "rare"} for split in splits)
    assert sum(one.label == "rare" for one in splits["train"]) >= 1


@pytest.mark.parametrize("seed", range(20))
def test_train_has_every_label(seed: int) -> None:
    one = Example("r", sentence(seed), ("B-Rare", *["O"] * 11), tokens=tuple(sentence(seed).split()))
    given = [
        Example(str(n), sentence(n), ("O",) * 12, tokens=tuple(sentence(n).split())) for n in range(100, 130)
    ]
    assert one in cut([one, *given], MISSING, "tag")["train"]
    rare = examples(1, "rare", seed)
    assert rare[0] in cut([*rare, *examples(30, "common", 100)], MISSING, "classify")["train"]


def test_what_stands_beside_moves_nothing() -> None:
    few, many = cut(examples(300), MISSING, "classify"), cut(examples(500), MISSING, "classify")
    for split in few:
        assert {one.id for one in few[split]} <= {one.id for one in many[split]}


def test_a_document_that_holds_most_stays_in_train() -> None:
    given = [Example(str(n), sentence(n), "a", doc="d" if n < 70 else f"d{n}") for n in range(100)]
    for seed in range(5):
        named = [Example(e.id, e.text, e.label, doc=f"{e.doc}-{seed}") for e in given]
        splits = cut(named, MISSING, "classify")
        assert sum(one.doc == f"d-{seed}" for one in splits["train"]) == 70


def test_one_document_cannot_be_cut() -> None:
    splits = cut([Example(str(n), sentence(n), "a", doc="d") for n in range(50)], MISSING, "classify")
    assert len(splits["train"]) == 50 and not splits["dev"] and not splits["test"]
