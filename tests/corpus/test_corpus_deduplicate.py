"""Duplicates against brute force, in any amount of memory."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wellread.corpus import deduplicate
from wellread.corpus.deduplicate import KEPT, NEAR, SAME_ID, SAME_TEXT, Fingerprints, rows_per_band


def found(tmp_path, documents, threshold=0.8):
    folder = tmp_path / f"prints{random.random()}"
    folder.mkdir()
    prints = Fingerprints(folder, threshold)
    for identifier, text in documents:
        prints.add(identifier, text)
    prints.close()
    return prints.duplicates().tolist()


def shingles(text):
    words = text.lower().split()
    return {tuple(words[at : at + 5]) for at in range(max(len(words) - 4, 1))}


def jaccard(one, other):
    return len(one & other) / len(one | other)


def generated(seed, count=120, length=150, vocabulary=2000):
    """Random texts, each second one an earlier one with some words changed."""
    draw = random.Random(seed)
    texts = []
    for number in range(count):
        if number % 2 and texts:
            words = draw.choice(texts).split()
            for _ in range(draw.choice([1, 2, 5, 10, 20])):
                words[draw.randrange(len(words))] = f"w{draw.randrange(vocabulary)}"
        else:
            words = [f"w{draw.randrange(vocabulary)}" for _ in range(length)]
        texts.append(" ".join(words))
    return texts


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_near_duplicates_against_brute_force(tmp_path, seed, threshold):
    """Outside the margin of the estimate (0.12: over two deviations of 128 permutations) nothing differs."""
    texts = generated(seed)
    states = found(tmp_path, [(str(number), text) for number, text in enumerate(texts)], threshold)
    sets = [shingles(text) for text in texts]
    margin, sure_near, sure_kept = 0.12, 0, 0
    for number, state in enumerate(states):
        nearest = max((jaccard(sets[number], sets[before]) for before in range(number)), default=0.0)
        if nearest == 1.0:
            assert state == SAME_TEXT
        elif nearest >= min(threshold + margin, 0.97):
            sure_near += 1
            assert state == NEAR, nearest
        elif nearest <= threshold - margin:
            sure_kept += 1
            assert state == KEPT, nearest
    assert sure_near > 5
    assert sure_kept > 40


def test_the_estimate_is_unbiased(tmp_path):
    """The share of equal signature entries is close to the true Jaccard similarity, on average over pairs."""
    texts = generated(9, count=200)
    folder = tmp_path / "prints"
    folder.mkdir()
    prints = Fingerprints(folder, 0.8)
    for number, text in enumerate(texts):
        prints.add(str(number), text)
    prints.close()
    signatures = np.fromfile(folder / "signatures", np.uint32).reshape(-1, deduplicate.PERMUTATIONS)
    assert len(signatures) == 200
    sets = [shingles(text) for text in texts]
    pairs = [
        (one, other) for one in range(200) for other in range(one) if jaccard(sets[one], sets[other]) > 0.1
    ]
    errors = [
        (signatures[one] == signatures[other]).mean() - jaccard(sets[one], sets[other])
        for one, other in pairs
    ]
    assert len(pairs) > 50
    assert abs(np.mean(errors)) < 0.02
    assert np.max(np.abs(errors)) < 0.2


def test_exact_duplicates_and_ids(tmp_path):
    documents = [
        ("a", "The same text, more or less."),
        ("b", "the  SAME text,\nmore or less."),
        ("a", "Quite another text with the id of the first."),
        ("c", "Quite another text with the id of the first."),
        ("d", "The same text, more or less?"),
    ]
    # The third is dropped for its id, so the fourth is the first of its text that is kept.
    assert found(tmp_path, documents, 0) == [KEPT, SAME_TEXT, SAME_ID, KEPT, KEPT]


def test_texts_without_words_are_no_near_duplicates(tmp_path):
    assert found(tmp_path, [("a", "..."), ("b", "?!"), ("c", "---")]) == [KEPT, KEPT, KEPT]


def test_no_documents(tmp_path):
    assert found(tmp_path, []) == []


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["x y", "X  y", "z", "q r s t u v"])),
        max_size=30,
    )
)
def test_ids_and_texts_against_a_set(tmp_path_factory, documents):
    ids, texts, expected = set(), set(), []
    for identifier, text in documents:
        plain = " ".join(text.lower().split())
        if identifier in ids:
            expected.append(SAME_ID)
            continue
        ids.add(identifier)
        expected.append(SAME_TEXT if plain in texts else KEPT)
        texts.add(plain)
    assert found(tmp_path_factory.mktemp("prints"), documents, 0) == expected


@pytest.mark.parametrize("rows", [9, 64])
def test_the_outcome_does_not_depend_on_the_memory_bounds(tmp_path, monkeypatch, rows):
    documents = [(str(number % 50), text) for number, text in enumerate(generated(3, count=60))]
    expected = found(tmp_path, documents)
    monkeypatch.setattr(deduplicate, "_ROWS", rows)
    monkeypatch.setattr(deduplicate, "_PAIRS", rows)
    monkeypatch.setattr(deduplicate, "_BATCH_SHINGLES", rows * 100)
    monkeypatch.setattr(deduplicate, "_BATCH_DOCUMENTS", rows)
    assert found(tmp_path, documents) == expected
    assert {SAME_ID, NEAR} <= set(expected)


def test_a_prefix_of_the_corpus_is_judged_the_same(tmp_path):
    """A document is compared with earlier ones only, so more documents after it change nothing."""
    documents = [(str(number), text) for number, text in enumerate(generated(5))]
    whole = found(tmp_path, documents)
    assert found(tmp_path, documents[:70]) == whole[:70]


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99])
def test_the_banding_misses_at_most_one_percent_at_the_threshold(threshold):
    rows = rows_per_band(threshold)
    missed = (1 - threshold**rows) ** (deduplicate.PERMUTATIONS // rows)
    assert deduplicate.PERMUTATIONS % rows == 0
    assert missed <= 0.01
