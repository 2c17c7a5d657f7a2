"""Batches of encoded texts: packed with their words, in an order that is a function of the place."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wellread.finetune import batches, encode


def test_selected_sequences_are_packed_with_their_words(tokenizer):
    sentences = [["group", "of"], ["ibuprofen"], ["cell"] * 30]
    encoded = encode.sentences(tokenizer, sentences, 12)
    index = np.array([2, 0, 1])
    batch, places, words = batches.select(encoded, index)
    every = np.split(encoded.input_ids, encoded.offsets[1:-1])
    expected = [every[number].tolist() for number in index]
    assert batch.lengths == [len(row) for row in expected]
    assert batch.input_ids.tolist() == [token for row in expected for token in row]
    assert batch.position_ids.tolist() == [place for row in expected for place in range(len(row))]
    pieces = [batch.input_ids[place].item() for place in places]
    sequence = np.searchsorted(encoded.word_offsets, words, side="right") - 1
    assert pieces == encoded.input_ids[encoded.offsets[sequence] + encoded.word_positions[words]].tolist()


@given(st.integers(1, 50), st.integers(0, 200), st.integers(1, 64), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_order_is_a_function_of_the_place_and_shows_all_before_any_again(count, first, size, seed):
    part = batches.order(count, first, size, seed)
    whole = batches.order(count, 0, first + size, seed)
    assert part.tolist() == whole[first:].tolist()
    for epoch in range((first + size) // count):
        assert sorted(whole[epoch * count : (epoch + 1) * count].tolist()) == list(range(count))


def test_order_is_frozen():
    assert batches.order(10, 0, 20, 3).tolist() == FROZEN_ORDER


FROZEN_ORDER = [3, 7, 1, 6, 4, 8, 0, 9, 5, 2, 6, 3, 5, 0, 1, 8, 7, 4, 9, 2]


def test_batches_by_length_hold_every_sequence_once():
    lengths = np.random.default_rng(0).integers(1, 90, 500)
    parts = batches.by_length(lengths, 256)
    assert sorted(np.concatenate(parts).tolist()) == list(range(500))
    ranked = lengths[np.concatenate(parts)]
    assert (np.diff(ranked) <= 0).all()
    assert all(lengths[index].sum() <= 256 + 89 for index in parts)
    assert batches.by_length(lengths[:0], 256) == []
