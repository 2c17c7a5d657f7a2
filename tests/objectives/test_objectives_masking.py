from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wellread import rng
from wellread.objectives import masking
from wellread.objectives.units import pmi, spans, words
from wellread.tokens.batch import pack

# A sequence as the sizes of its words, between two special tokens.
sequences = st.lists(st.integers(1, 5), max_size=30)
batches = st.lists(sequences, min_size=1, max_size=8)
rates = st.floats(0.01, 1.0)
quick = settings(deadline=None, max_examples=40)
TOKEN, WORD = [(1.0, masking.tokens)], [(1.0, words.units)]
MIXED = [(0.5, masking.tokens), (0.2, words.units), (0.3, spans.units)]
policies = st.sampled_from([TOKEN, WORD, MIXED, [(1.0, spans.units)]])


def word_row(sizes):
    return [-1, *(word for word, size in enumerate(sizes) for _ in range(size)), -1]


def batch_of(rows, sample_ids=None):
    rows = [word_row(sizes) for sizes in rows]
    return pack([[7] * len(row) for row in rows], rows, sample_ids)


def choose(batch, rate, kinds=TOKEN, seed=0, epoch=0):
    return masking.choose(batch, rate, seed, epoch, kinds).positions


def by_sequence(batch, positions):
    """Chosen positions within each sequence."""
    starts = batch.cu_seqlens.tolist()
    return [
        [position - start for position in positions.tolist() if start <= position < stop]
        for start, stop in zip(starts, starts[1:], strict=False)
    ]


def plain_mask(batch, rate, seed, epoch):
    """Plain masked language modelling, written as plainly: the tokens with the smallest keys."""
    chosen = []
    for start, stop, sample in zip(
        batch.cu_seqlens.tolist(), batch.cu_seqlens.tolist()[1:], batch.sample_ids.tolist(), strict=False
    ):
        maskable = [place for place in range(stop - start) if batch.word_ids[start + place] >= 0]
        budget = max(1, int(np.floor(rate * len(maskable) + 0.5)))
        keys = {place: int(rng.bits(seed, "masking", epoch, sample, place)) for place in maskable}
        chosen += sorted(start + place for place in sorted(maskable, key=keys.get)[:budget])
    return chosen


@quick
@given(batches, rates, st.integers(0, 5), st.integers(0, 3), st.floats(0.01, 9))
def test_a_single_weight_is_plain_masking_bit_for_bit(rows, rate, seed, epoch, weight):
    batch = batch_of(rows, [31 * number for number in range(len(rows))])
    found = choose(batch, rate, [(weight, masking.tokens)], seed, epoch)
    assert found.tolist() == plain_mask(batch, rate, seed, epoch)


@quick
@given(batches, rates, st.integers(0, 5), st.integers(0, 3))
def test_token_budget_is_exact(rows, rate, seed, epoch):
    batch = batch_of(rows)
    positions = choose(batch, rate, TOKEN, seed, epoch)
    assert positions.tolist() == sorted(set(positions.tolist()))
    assert (batch.word_ids[positions] >= 0).all()
    for sizes, chosen in zip(rows, by_sequence(batch, positions), strict=True):
        maskable = sum(sizes)
        budget = int(np.floor(rate * maskable + 0.5))
        assert len(chosen) == (max(1, budget) if maskable else 0)


@quick
@given(batches, rates, st.integers(0, 5))
def test_whole_words_are_never_cut_and_meet_the_budget_within_half_a_word(rows, rate, seed):
    batch = batch_of(rows)
    positions = choose(batch, rate, WORD, seed)
    for sizes, chosen in zip(rows, by_sequence(batch, positions), strict=True):
        named = word_row(sizes)
        masked = {named[position] for position in chosen}
        assert -1 not in masked
        assert len(chosen) == sum(sizes[word] for word in masked)
        if sizes:
            assert masked
            budget = int(np.floor(rate * sum(sizes) + 0.5))
            assert len(masked) == 1 or abs(len(chosen) - budget) <= max(sizes) / 2


@quick
@given(batches, rates, st.integers(0, 5))
def test_mixed_units_meet_the_budget_within_one_unit_and_spare_special_tokens(rows, rate, seed):
    batch = batch_of(rows)
    chosen = masking.choose(batch, rate, seed, 0, MIXED)
    assert (batch.word_ids[chosen.positions] >= 0).all()
    assert chosen.positions.unique().equal(chosen.positions)
    text = masking.read(batch, seed, 0)
    largest = {}
    for _, kind in MIXED:
        for first, size in zip(*kind(text), strict=True):
            owner = text.sequence[first]
            largest[owner] = max(largest.get(owner, 0), size)
    for number, (sizes, masked) in enumerate(zip(rows, by_sequence(batch, chosen.positions), strict=True)):
        if sizes:
            budget = int(np.floor(rate * sum(sizes) + 0.5))
            assert abs(len(masked) - max(1, budget)) < largest[number]


@quick
@given(batches, policies, st.integers(0, 3))
def test_a_sample_gets_the_same_mask_in_any_company(rows, kinds, epoch):
    ids = [100 + 7 * number for number in range(len(rows))]
    batch = batch_of(rows, ids)
    together = by_sequence(batch, choose(batch, 0.3, kinds, 3, epoch))
    turned = batch_of(rows[::-1], ids[::-1])
    backwards = by_sequence(turned, choose(turned, 0.3, kinds, 3, epoch))[::-1]
    for row, sample, chosen, other in zip(rows, ids, together, backwards, strict=True):
        assert chosen == other
        alone = batch_of([row], [sample])
        assert choose(alone, 0.3, kinds, 3, epoch).tolist() == chosen


@pytest.mark.parametrize("kinds", [TOKEN, MIXED])
def test_seed_epoch_and_sample_each_change_the_mask(kinds):
    row = [1] * 200
    draws = {
        tuple(choose(batch_of([row], [sample]), 0.3, kinds, seed, epoch).tolist())
        for sample, seed, epoch in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    }
    assert len(draws) == 4


@pytest.mark.parametrize("whole_word", [False, True])
def test_every_token_is_chosen_equally_often(whole_word):
    rows = [[1, 2, 1, 3, 1, 2]] * 4000
    batch = batch_of(rows)
    chosen = choose(batch, 0.3, WORD if whole_word else TOKEN)
    share = torch.zeros(batch.tokens).index_fill(0, chosen, 1.0).view(4000, -1).mean(0)[1:-1]
    if whole_word:
        single = share[[0, 3, 7]]
        assert float(single.max() - single.min()) < 0.03
    else:
        assert torch.allclose(share, torch.full_like(share, 0.3), atol=0.03)


@pytest.mark.parametrize("weight", [0.2, 0.5, 0.8])
def test_weights_are_shares_of_the_masked_tokens(weight):
    """Kinds on separate halves of the text, of different sizes, so that each token tells its kind."""

    def singles(text):
        return masking.Units(
            places := np.flatnonzero(np.arange(len(text)) % 12 < 6), np.ones(len(places), int)
        )

    def runs(text):
        return masking.Units(first := np.flatnonzero(np.arange(len(text)) % 12 == 6), np.full(len(first), 6))

    batch = batch_of([[1] * 240] * 300)
    positions = choose(batch, 0.15, [(weight, singles), (1 - weight, runs)])
    within = (positions % 242 - 1) % 12
    assert float((within < 6).float().mean()) == pytest.approx(weight, abs=0.03)


def test_a_kind_of_weight_0_is_drawn_from_last():
    def fifth(text):
        return masking.Units(first := np.arange(0, len(text), 5), np.ones(len(first), int))

    batch = batch_of([[1] * 50, [1] * 100])
    found = by_sequence(batch, choose(batch, 0.3, [(1.0, fifth), (0.0, masking.tokens)]))
    for size, chosen in zip((50, 100), found, strict=True):
        assert len(chosen) == 0.3 * size
        assert set(range(1, size + 1, 5)) <= set(chosen)


def test_an_empty_list_of_phrases_is_whole_word_masking():
    batch = batch_of([[1, 2, 3] * 20, [4, 1] * 9])
    empty = [(0.7, partial(pmi.units, phrases={}))]
    assert choose(batch, 0.3, empty).equal(choose(batch, 0.3, WORD))


def test_each_token_knows_its_unit():
    batch = batch_of([[1, 2, 3] * 20])
    chosen = masking.choose(batch, 0.3, 0, 0, WORD)
    named = batch.word_ids
    assert named[chosen.positions].equal(named[chosen.units])
    assert (named[chosen.units - 1] != named[chosen.units]).all()


def test_nothing_to_mask():
    batch = batch_of([[], []])
    assert choose(batch, 0.3, MIXED).tolist() == []


def test_validation_mask_knows_no_recipe():
    batch = batch_of([[1] * 100, [2] * 50])
    positions = masking.validation_positions(batch)
    assert [len(chosen) for chosen in by_sequence(batch, positions)] == [15, 15]
    assert positions.tolist() == plain_mask(batch, 0.15, masking.VALIDATION_SEED, 0)
