import numpy as np
import pytest
from sentences import batch_of

from wellread.objectives import masking
from wellread.objectives.units import spans


def lengths_in_words(text):
    """Words of each span, sequence by sequence."""
    first, size = spans.units(text)
    assert first[0] == 0 and first[-1] + size[-1] == len(text)
    assert (first[1:] == first[:-1] + size[:-1]).all()
    border = np.searchsorted(text.words, first)
    assert (text.words[border] == first).all(), "a span begins within a word"
    owner = text.sequence[first]
    assert (owner == text.sequence[first + size - 1]).all(), "a span reaches over a border"
    counts = np.diff(border, append=len(text.words))
    return [counts[owner == number] for number in range(text.sequences)]


def test_spans_tile_the_text_by_whole_words():
    rows = [[5, (6, 7), (8, 9, 10)] * 20, [5], [(5, 6)] * 7]
    found = lengths_in_words(masking.read(batch_of(rows), 3, 1))
    assert [counts.sum() for counts in found] == [60, 1, 7]


def test_lengths_are_geometric_with_at_most_10_words_and_3_8_on_average():
    text = masking.read(batch_of([[5] * 400] * 300), 0, 0)
    whole = np.concatenate([counts[:-1] for counts in lengths_in_words(text)])
    assert whole.max() == 10
    assert whole.mean() == pytest.approx(3.8, abs=0.05)
    wanted = 0.8 ** np.arange(10) * 0.2 / (1 - 0.8**10)
    assert np.bincount(whole, minlength=11)[1:] / len(whole) == pytest.approx(wanted, abs=0.006)


def test_spans_change_with_epoch_and_sample_only():
    def first(epoch, sample, seed=0):
        return tuple(spans.units(masking.read(batch_of([[5] * 99], [sample]), seed, epoch)).first)

    assert first(0, 7) == first(0, 7)
    assert len({first(0, 7), first(1, 7), first(0, 8), first(0, 7, seed=1)}) == 4
