import numpy as np
import pytest
import torch

from wellread.objectives import pairs
from wellread.tokens.batch import pack

CLS, SEP, STOP = 1, 2, 3


def batch_of(rows, samples=None):
    """Texts of single-token words between [CLS] and [SEP]."""
    words = [[-1, *range(len(row)), -1] for row in rows]
    return pack([[CLS, *row, SEP] for row in rows], words, samples)


def made(batch, kind="sop", store=None, epoch=0, seed=0):
    return pairs.pair(batch, kind, SEP, np.array([STOP]), store, seed, epoch)


def rows_of(batch):
    starts = batch.cu_seqlens.tolist()
    return [batch.input_ids[a:b].tolist() for a, b in zip(starts, starts[1:], strict=False)]


class Corpus:
    """Stands for a token store of 1,000 words."""

    n_tokens = 1000

    def gather(self, index):
        return 5000 + index, np.ones(len(index), bool)


TEXT = [*range(10, 20), STOP, *range(20, 32)]


def test_sop_swaps_the_segments_of_half_of_the_samples_at_a_full_stop():
    batch = batch_of([TEXT] * 4000)
    answers, found = pairs.labels(batch, 0, 0), made(batch)
    assert abs(answers.mean() - 0.5) < 0.03
    first, second = TEXT[:11], TEXT[11:-1]
    for row, answer in zip(rows_of(found)[:200], answers[:200], strict=True):
        one, two = (second, first) if answer else (first, second)
        assert row == [CLS, *one, SEP, *two, SEP]


def test_nsp_takes_the_second_segment_from_elsewhere():
    batch = batch_of([TEXT] * 50)
    starts = set()
    for row, answer in zip(rows_of(made(batch, "nsp", Corpus())), pairs.labels(batch, 0, 0), strict=True):
        assert row[:13] == [CLS, *TEXT[:11], SEP] and row[-1] == SEP
        second = np.array(row[13:-1])
        if answer:
            starts.add(second[0])
            assert (second >= 5000).all() and (np.diff(second) == 1).all()
        else:
            assert second.tolist() == TEXT[11:-1]
    assert len(starts) > 15


def test_samples_keep_their_length_and_special_tokens_stay_special():
    batch = batch_of([TEXT, TEXT[:5], list(range(10, 40))])
    for kind in ("sop", "nsp"):
        found = made(batch, kind, Corpus())
        assert found.lengths == batch.lengths and found.cu_seqlens.equal(batch.cu_seqlens)
        special = torch.isin(found.input_ids, torch.tensor([CLS, SEP]))
        assert (found.word_ids == -1).equal(special)
        rows = found.word_ids.split(found.lengths)
        for row, length in zip(rows, found.lengths, strict=True):
            words = row[row >= 0].tolist()
            assert words == sorted(words) and words[0] == 0 and words[-1] < length
    assert rows_of(found)[1] == [CLS, *TEXT[:5], SEP] and pairs.labels(batch, 0, 0)[1] == -1


def test_without_a_full_stop_the_cut_is_at_the_middle_word():
    batch = batch_of([list(range(10, 41))])
    (row,) = rows_of(made(batch))
    assert row.index(SEP) in (16, 17)


def test_token_types_tell_the_segments_apart():
    found = made(batch_of([TEXT]))
    border = found.input_ids.tolist().index(SEP)
    assert found.token_type_ids.tolist() == [0] * (border + 1) + [1] * (found.tokens - border - 1)


@pytest.mark.parametrize("kind", ["sop", "nsp"])
def test_pairs_are_a_function_of_seed_epoch_and_sample(kind):
    rows, ids = [TEXT, TEXT[::-1], TEXT], [5, 9, 13]
    together = rows_of(made(batch_of(rows, ids), kind, Corpus()))
    turned = rows_of(made(batch_of(rows[::-1], ids[::-1]), kind, Corpus()))
    assert together == turned[::-1]
    answers = {tuple(pairs.labels(batch_of([TEXT] * 40), seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}
    assert len(answers) == 4
