import math

import numpy as np
import pytest
import torch

from wellread.models.heads import mean_states
from wellread.objectives import contrastive
from wellread.objectives.contrastive import POSITIVES, cut, draw, nt_xent
from wellread.settings import ModelSettings
from wellread.sparsity.flops import matrix_weights, step_flops
from wellread.tokens.batch import pack

CLS, SEP, MASK = 1, 2, 3


def batch_of(sizes, samples=None):
    """Samples whose token ids count on, so that a span is known by its tokens."""
    rows = [[CLS, *range(1000 * n + 10, 1000 * n + 10 + size), SEP] for n, size in enumerate(sizes)]
    return pack(rows, [[-1, *range(size), -1] for size in sizes], samples)


def rows_of(batch):
    return [part.tolist() for part in batch.input_ids.split(batch.lengths)]


def brute_force(anchors, positives, temperature):
    vectors = [vector / math.sqrt(sum(vector * vector)) for vector in [*anchors, *positives]]
    n, total = len(anchors), 0.0
    for i in range(2 * n):
        partner = i + n if i < n else i - n
        around = [math.exp(vectors[i] @ vectors[k] / temperature) for k in range(2 * n) if k != i]
        total -= math.log(math.exp(vectors[i] @ vectors[partner] / temperature) / sum(around))
    return total / (2 * n)


@pytest.mark.parametrize(("n", "temperature"), [(2, 0.05), (7, 0.05), (7, 1.0)])
def test_the_loss_is_that_of_a_loop_over_pairs(n, temperature):
    generator = torch.Generator().manual_seed(n)
    anchors, positives = torch.randn(2, n, 9, generator=generator).unbind()
    expected = brute_force(anchors.double().numpy(), positives.double().numpy(), temperature)
    assert float(nt_xent(anchors, positives, temperature)) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_a_single_pair_has_no_loss():
    assert float(nt_xent(torch.randn(1, 5), torch.randn(1, 5), 0.05)) == 0


def test_a_mean_does_not_depend_on_what_stands_beside():
    states = torch.randn(12, 4)
    assert torch.equal(mean_states(states, [5, 7])[0], mean_states(states[:5], [5])[0])


def test_spans_lie_in_the_text_and_positives_near_their_anchor():
    sizes = np.tile(np.arange(32, 532), 8)
    spans = draw(sizes, np.arange(len(sizes)), seed=0, epoch=1)
    assert spans.first.min() == 0 and (spans.first + spans.size <= sizes[:, None]).all()
    assert (spans.size >= 8).all() and (spans.size <= sizes[:, None] // 2).all()
    anchor, end = spans.first[:, :1], spans.first[:, :1] + spans.size[:, :1]
    near, size = spans.first[:, 1:], spans.size[:, 1:]
    assert (near >= anchor - size).all() and (near <= end).all()
    overlaps = (near < end) & (near + size > anchor)
    assert 0.5 < overlaps.mean() < 1  # not all of them do


def test_lengths_follow_the_beta_distributions():
    sizes = np.full(20_000, 1024)
    share = (draw(sizes, np.arange(len(sizes)), 0, 0).size - 32) / 480
    for column, (a, b) in enumerate([(4, 2)] + [(2, 4)] * POSITIVES):
        assert share[:, column].mean() == pytest.approx(a / (a + b), abs=0.01)
        assert share[:, column].var() == pytest.approx(a * b / (a + b) ** 2 / (a + b + 1), rel=0.05)


def test_spans_depend_on_seed_epoch_and_sample_alone():
    sizes, samples = np.array([100, 300, 200]), np.array([5, 6, 7])
    whole = draw(sizes, samples, 0, 0)
    alone = draw(sizes[1:2], samples[1:2], 0, 0)
    assert np.array_equal(whole.first[1:2], alone.first) and np.array_equal(whole.size[1:2], alone.size)
    for seed, epoch in ((1, 0), (0, 1)):
        assert not np.array_equal(whole.first, draw(sizes, samples, seed, epoch).first)


def test_spans_are_read_between_special_tokens_and_anchors_as_masked():
    batch = batch_of([40, 5, 64], [8, 9, 11])
    masked = batch_of([40, 5, 64], [8, 9, 11])
    masked.input_ids[masked.word_ids >= 0] = MASK
    read, found = cut(batch, masked, seed=0, epoch=0)
    assert found == 2  # the second sample is too short
    spans = draw(np.array([40, 64]), np.array([8, 11]), 0, 0)
    rows = rows_of(read)
    assert len(rows) == 2 * (1 + POSITIVES)
    assert rows[:2] == [[CLS, *[MASK] * size, SEP] for size in spans.size[:, 0]]
    for n, row in enumerate(rows[2:]):
        sample, column = divmod(n, POSITIVES)
        first = 1000 * (0, 2)[sample] + 10 + spans.first[sample, 1 + column]
        assert row == [CLS, *range(first, first + spans.size[sample, 1 + column]), SEP]
    assert read.position_ids.tolist() == [place for row in rows for place in range(len(row))]
    assert read.sample_ids.tolist() == [8, 11, *[8] * POSITIVES, *[11] * POSITIVES]


def test_without_a_long_sample_there_are_no_spans():
    assert cut(batch_of([31, 4]), batch_of([31, 4]), 0, 0)[1] == 0


def test_the_extra_pass_is_counted():
    model = ModelSettings(layers=2, hidden=32, heads=2)
    spans = draw(np.full(400, 510), np.arange(400), 0, 0).size + 2
    read = step_flops(model, 300, spans.reshape(-1).tolist(), 0, 0.0)[0] / 400
    whole = step_flops(model, 300, [512], round(0.3 * 512), 0.0)[0]
    dense, accounted = contrastive.passes(model, 300, 0.3, 0.75)
    assert dense == pytest.approx(read / whole, rel=0.05)
    # The spans have no head, which stays dense: of a sparse step they are less.
    spared = 0.75 * 2 * 3 * 2 * 512 * matrix_weights(model)
    read -= spared * spans.sum() / 400 / 512
    assert accounted == pytest.approx(read / (whole - spared), rel=0.05) and accounted < 0.9 * dense
