"""Constrained decoding against every sequence there is."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellread.tasks.decoding import best_valid
from wellread.tasks.examples import iob2_tags

LABELS = ("O", "B-x", "I-x", "B-y", "I-y")


def valid(row):
    return list(iob2_tags(row)) == row


def by_trying_all(scores):
    """The best sum of a valid sequence, and all sequences that have it."""
    rows = range(len(scores))
    found = [
        (scores[rows, path].sum(), path)
        for path in map(list, itertools.product(range(len(LABELS)), repeat=len(scores)))
        if valid([LABELS[number] for number in path])
    ]
    top = max(value for value, _ in found)
    return top, [path for value, path in found if value > top - 1e-9]


@given(st.integers(0, 10_000), st.lists(st.integers(1, 5), min_size=1, max_size=3))
def test_it_is_the_best_of_all_valid_sequences(seed, lengths):
    scores = np.random.default_rng(seed).normal(size=(sum(lengths), len(LABELS)))
    begins = np.zeros(len(scores), dtype=bool)
    begins[np.cumsum([0, *lengths[:-1]])] = True
    found = best_valid(LABELS, scores, begins)
    for start, length in zip(np.flatnonzero(begins), lengths, strict=True):
        _, paths = by_trying_all(scores[start : start + length])
        assert found[start : start + length].tolist() in paths


def test_what_a_word_alone_would_get_gives_way_where_it_is_not_valid():
    scores = np.array([[2.0, 1.9, 0, 0, 0], [0, 0, 3.0, 0, 2.9]])
    one, two = np.array([True, False]), np.array([True, True])
    assert [LABELS[number] for number in best_valid(LABELS, scores, one)] == ["B-x", "I-x"]
    assert [LABELS[number] for number in best_valid(LABELS, scores[:, [0, 3, 4, 1, 2]], two)] == ["O", "O"]


def test_a_valid_row_is_the_best_tag_of_each_word():
    scores = np.eye(len(LABELS))[[0, 1, 2, 2, 3, 4, 0]]
    assert best_valid(LABELS, scores, np.arange(7) == 0).tolist() == [0, 1, 2, 2, 3, 4, 0]


def test_an_inner_tag_without_a_beginning_of_its_own_may_begin():
    labels = ("O", "I-x", "I-y", "B-y")
    scores = np.array([[0, 1.0, 0, 0], [0, 1.0, 0, 0], [0, 0, 2.0, 1.5]])
    assert best_valid(labels, scores, np.arange(3) == 0).tolist() == [1, 1, 3]


@pytest.mark.parametrize("words", [0, 3])
def test_nothing_and_no_numbers(words):
    found = best_valid(LABELS, np.full((words, len(LABELS)), np.nan), np.arange(words) == 0)
    assert found.tolist() == [0] * words
