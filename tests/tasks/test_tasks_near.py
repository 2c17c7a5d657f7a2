"""The near-duplicate search against comparing all pairs."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from wellread.tasks.near import near_groups, near_pairs


def runs(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    size = min(3, len(words))
    return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)} if words else set()


def all_pairs(texts: list[str], groups: list[int], threshold: float) -> list[tuple[int, int]]:
    found = []
    for late in range(len(texts)):
        for early in range(len(texts)):
            one, other = runs(texts[early]), runs(texts[late])
            if groups[early] < groups[late] and one and len(one & other) >= threshold * len(one | other):
                found.append((early, late))
                break
    return found


@settings(deadline=None, max_examples=150)
@given(st.data(), st.sampled_from([0.5, 0.8, 1.0]))
def test_equals_comparing_all_pairs(data: st.DataObject, threshold: float) -> None:
    texts = data.draw(
        st.lists(st.lists(st.sampled_from("abc"), max_size=9).map(" ".join), min_size=1, max_size=12)
    )
    groups = [data.draw(st.integers(0, 2)) for _ in texts]
    found = sorted((early, late) for early, late, _ in near_pairs(texts, groups, threshold))
    assert found == sorted(all_pairs(texts, groups, threshold))


@settings(deadline=None, max_examples=150)
@given(st.data(), st.sampled_from([0.5, 0.8, 1.0]))
def test_groups_are_what_all_pairs_connect(data: st.DataObject, threshold: float) -> None:
    texts = data.draw(
        st.lists(st.lists(st.sampled_from("abc"), max_size=9).map(" ".join), min_size=1, max_size=12)
    )
    groups = list(range(len(texts)))
    for _ in texts:
        for late in range(len(texts)):
            for early in range(late):
                one, other = runs(texts[early]), runs(texts[late])
                if one and len(one & other) >= threshold * len(one | other):
                    groups[early] = groups[late] = min(groups[early], groups[late])
    assert near_groups(texts, threshold) == groups


def test_a_changed_word_in_a_long_text_is_found() -> None:
    generator = random.Random(0)
    words = [f"w{generator.randrange(5000)}" for _ in range(200)]
    changed = [*words[:100], "other", *words[101:]]
    unlike = [f"v{number}" for number in range(200)]
    texts = [" ".join(unlike), " ".join(words), " ".join(changed).upper()]
    [(early, late, similarity)] = near_pairs(texts, [0, 0, 1])
    assert (early, late) == (1, 2) and 0.95 < similarity < 1
