import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wellread.objectives import masking
from wellread.tokens.batch import pack

# A sequence as the sizes of its words, between two special tokens.
sequences = st.lists(st.integers(1, 5), max_size=30)
batches = st.lists(sequences, min_size=1, max_size=8)
rates = st.floats(0.01, 1.0)


def word_row(sizes):
    return [-1, *(word for word, size in enumerate(sizes) for _ in range(size)), -1]


def batch_of(rows, sample_ids=None):
    words = [word_row(sizes) for sizes in rows]
    return pack([[7] * len(row) for row in words], words, sample_ids)


def by_sequence(batch, positions):
    """Chosen positions within each sequence."""
    starts = batch.cu_seqlens.tolist()
    return [
        [position - start for position in positions.tolist() if start <= position < stop]
        for start, stop in zip(starts, starts[1:], strict=False)
    ]


@given(batches, rates, st.integers(0, 5), st.integers(0, 3))
def test_token_budget_is_exact(rows, rate, seed, epoch):
    batch = batch_of(rows)
    positions = masking.choose(batch, rate, False, seed, epoch)
    assert positions.tolist() == sorted(set(positions.tolist()))
    assert (batch.word_ids[positions] >= 0).all()
    for sizes, chosen in zip(rows, by_sequence(batch, positions), strict=True):
        maskable = sum(sizes)
        budget = int(np.floor(rate * maskable + 0.5))
        assert len(chosen) == (max(1, budget) if maskable else 0)


@given(batches, rates, st.integers(0, 5))
def test_whole_words_are_never_cut_and_meet_the_budget_within_half_a_word(rows, rate, seed):
    batch = batch_of(rows)
    positions = masking.choose(batch, rate, True, seed, 0)
    for sizes, chosen in zip(rows, by_sequence(batch, positions), strict=True):
        words = word_row(sizes)
        masked = {words[position] for position in chosen}
        assert -1 not in masked
        assert len(chosen) == sum(sizes[word] for word in masked)
        if sizes:
            assert masked
            budget = int(np.floor(rate * sum(sizes) + 0.5))
            assert len(masked) == 1 or abs(len(chosen) - budget) <= max(sizes) / 2


@given(batches, st.booleans(), st.integers(0, 3))
def test_a_sample_gets_the_same_mask_in_any_company(rows, whole_word, epoch):
    ids = [100 + 7 * number for number in range(len(rows))]
    batch = batch_of(rows, ids)
    together = by_sequence(batch, masking.choose(batch, 0.3, whole_word, 3, epoch))
    turned = batch_of(rows[::-1], ids[::-1])
    backwards = by_sequence(turned, masking.choose(turned, 0.3, whole_word, 3, epoch))[::-1]
    for row, sample, chosen, other in zip(rows, ids, together, backwards, strict=True):
        assert chosen == other
        alone = batch_of([row], [sample])
        assert masking.choose(alone, 0.3, whole_word, 3, epoch).tolist() == chosen


def test_seed_epoch_and_sample_each_change_the_mask():
    row = [1] * 200
    draws = {
        tuple(masking.choose(batch_of([row], [sample]), 0.3, False, seed, epoch).tolist())
        for sample, seed, epoch in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    }
    assert len(draws) == 4


@settings(deadline=None)
@given(st.booleans())
def test_every_token_is_chosen_equally_often(whole_word):
    rows = [[1, 2, 1, 3, 1, 2]] * 4000
    batch = batch_of(rows)
    chosen = masking.choose(batch, 0.3, whole_word, 0, 0)
    share = torch.zeros(batch.tokens).index_fill(0, chosen, 1.0).view(4000, -1).mean(0)[1:-1]
    budget = 3 if not whole_word else None
    if budget:
        assert torch.allclose(share, torch.full_like(share, budget / 10), atol=0.03)
    else:
        single = share[[0, 3, 7]]
        assert float(single.max() - single.min()) < 0.03


def test_nothing_to_mask():
    batch = batch_of([[], []])
    assert masking.choose(batch, 0.3, True, 0, 0).tolist() == []


def test_validation_mask_knows_no_recipe():
    batch = batch_of([[1] * 100, [2] * 50])
    positions = masking.validation_positions(batch)
    assert [len(chosen) for chosen in by_sequence(batch, positions)] == [15, 15]
