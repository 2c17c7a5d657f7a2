"""Masks: exact counts, balance, and nothing but the arguments decides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wellread.sparsity.patterns import BLOCK, mask
from wellread.sparsity.structure import Structure

LEVELS = st.sampled_from([0.0, 0.5, 0.75, 0.875]) | st.floats(0.0, 0.999)


def blocks(live: torch.Tensor, size: int) -> np.ndarray:
    rows, columns = live.shape[0] // size, live.shape[1] // size
    return live.reshape(rows, size, columns, size).numpy().sum((1, 3))


@settings(max_examples=60, deadline=None)
@given(outputs=st.integers(1, 40), inputs=st.integers(1, 40), level=LEVELS, seed=st.integers(0, 2**31 - 1))
def test_unstructured_count_is_exact(outputs, inputs, level, seed):
    live = mask((outputs, inputs), level, "unstructured", seed, "layer")
    assert live.dtype == torch.bool
    assert live.shape == (outputs, inputs)
    assert int(live.sum()) == round((1 - level) * outputs * inputs)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 6),
    columns=st.integers(1, 9),
    pattern=st.sampled_from(["block8", "block16"]),
    level=LEVELS,
    seed=st.integers(0, 2**31 - 1),
)
def test_blocks_are_whole_and_balanced(rows, columns, pattern, level, seed):
    size = BLOCK[pattern]
    live = mask((rows * size, columns * size), level, pattern, seed, "layer")
    counts = blocks(live, size)
    assert set(counts.ravel()) <= {0, size * size}
    wanted = max(1, round((1 - level) * columns))
    assert ((counts > 0).sum(1) == wanted).all()
    assert live.any(1).all(), "an output was cut off"


@pytest.mark.parametrize("pattern", BLOCK)
def test_seed_and_name_decide_and_nothing_else(pattern):
    shape = (64, 96) if BLOCK[pattern] < 64 else (640, 960)
    first = mask(shape, 0.75, pattern, 3, "layers.0.mlp.Wi")
    torch.manual_seed(99)
    np.random.seed(99)
    assert torch.equal(first, mask(shape, 0.75, pattern, 3, "layers.0.mlp.Wi"))
    assert not torch.equal(first, mask(shape, 0.75, pattern, 4, "layers.0.mlp.Wi"))
    assert not torch.equal(first, mask(shape, 0.75, pattern, 3, "layers.1.mlp.Wi"))


@pytest.mark.parametrize("inputs", [64, 8, 10, 3, 1])
def test_two_of_four(inputs):
    live = mask((30, inputs), 0.5, "2:4", 0, "layer")
    assert live.shape == (30, inputs)
    for first in range(0, inputs, 4):
        group = live[:, first : first + 4]
        assert (group.sum(1) == min(2, group.shape[1])).all()
    assert Structure.of(live).two_of_four == (inputs % 4 == 0)
    assert not Structure.of(mask((30, 64), 0.5, "unstructured", 0, "layer")).two_of_four


def test_two_of_four_is_spread_evenly():
    share = sum(mask((16, 16), 0.5, "2:4", seed, "x").float() for seed in range(800)) / 800
    assert ((share - 0.5).abs() < 4.5 * (0.25 / 800) ** 0.5).all()


def test_positions_are_spread_evenly():
    """Over many seeds every weight lives equally often (4.5 standard errors)."""
    error = (0.25 * 0.75 / 800) ** 0.5
    for shape, pattern in [((16, 16), "unstructured"), ((32, 64), "block8")]:
        share = sum(mask(shape, 0.75, pattern, seed, "x").float() for seed in range(800)) / 800
        assert ((share - 0.25).abs() < 4.5 * error).all()


def test_masks_stay_the_same_from_version_to_version():
    """A checkpoint's masks are drawn again on resuming: these bits must never change."""
    live = mask((8, 8), 0.75, "unstructured", 0, "layers.0.attn.Wo")
    rows, columns = live.nonzero().T.tolist()
    assert rows == [0, 0, 0, 2, 2, 3, 5, 5, 6, 6, 6, 7, 7, 7, 7, 7]
    assert columns == [0, 5, 7, 0, 6, 4, 0, 3, 0, 3, 6, 0, 2, 4, 5, 7]


def test_blocks_are_cut_at_the_border_of_a_shape_that_is_no_multiple():
    live = mask((12, 20), 0.5, "block8", 0, "layer")
    assert live.shape == (12, 20)
    corners = live[::8, ::8]
    whole = corners.repeat_interleave(8, 0).repeat_interleave(8, 1)[:12, :20]
    assert torch.equal(live, whole)
    assert (corners.sum(1) == 2).all()
