import numpy as np
import pytest
import torch

from wellread.objectives import masking, replacement
from wellread.objectives.units import words
from wellread.tokens.batch import pack

ORDINARY = np.arange(100, 200)
MASK = 4


@pytest.fixture(scope="module")
def batch():
    """200 sequences of 100 words of two pieces each; a sequence's tokens are its own."""
    rows = [[1, *([1000 + number] * 200), 2] for number in range(200)]
    ids = [[-1, *(place // 2 for place in range(200)), -1] for _ in rows]
    return pack(rows, ids)


def shown(batch, salient=(), kinds=masking.PLAIN, epoch=0):
    chosen = masking.choose(batch, 0.3, 0, epoch, kinds)
    text = masking.read(batch, 0, epoch)
    return chosen, replacement.shown(batch, chosen, MASK, ORDINARY, text, np.asarray(salient, dtype=np.int64))


def test_80_10_10(batch):
    chosen, ids = shown(batch)
    kept = ids == batch.input_ids[chosen.positions]
    other = torch.isin(ids, torch.from_numpy(ORDINARY))
    assert bool(((ids == MASK) | kept | other).all())
    for found, share in ((ids == MASK, 0.8), (kept, 0.1), (other, 0.1)):
        assert float(found.float().mean()) == pytest.approx(share, abs=0.015)
    assert len(ids[other].unique()) == len(ORDINARY)


def test_all_tokens_of_a_unit_fare_alike(batch):
    chosen, ids = shown(batch, kinds=[(1.0, words.units)])
    fate = torch.where(ids == MASK, 0, torch.where(ids >= 1000, 1, 2)).view(-1, 2)
    assert fate[:, 0].equal(fate[:, 1]) and len(fate.unique()) == 3


def test_salient_tokens_come_from_the_same_sequence(batch):
    marked = batch.input_ids.clone()
    places = torch.arange(1, batch.tokens, 202)  # the first token of each sequence
    marked[places] = 5000 + torch.arange(200)
    from dataclasses import replace

    changed = replace(batch, input_ids=marked)
    chosen, ids = shown(changed, salient=np.arange(0, 200 * 200, 200))
    sequence = chosen.positions // 202
    other = ids != changed.input_ids[chosen.positions]
    other &= ids != MASK
    assert int(other.sum()) > 800
    assert ids[other].equal(5000 + sequence[other])


def test_what_is_shown_changes_with_the_epoch_only(batch):
    assert shown(batch)[1].equal(shown(batch)[1])
    assert not shown(batch)[1].equal(shown(batch, epoch=1)[1])
