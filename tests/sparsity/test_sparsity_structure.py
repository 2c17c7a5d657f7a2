"""Packing keeps every living weight and nothing else, for blocks and single weights, in every shape."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wellread.sparsity.structure import TILE, Structure


def mask(outputs: int, inputs: int, block: int, share: float, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.rand(-(-outputs // block), -(-inputs // block), generator=generator) < share
    return blocks.repeat_interleave(block, 0).repeat_interleave(block, 1)[:outputs, :inputs]


SHAPES = st.tuples(st.integers(1, 150), st.integers(1, 150))


@given(SHAPES, st.sampled_from([1, 4, 8, 16, 32]), st.floats(0, 1), st.integers(0, 99))
def test_pack_and_unpack_are_inverse_and_the_mask_comes_back(shape, block, share, seed):
    live = mask(*shape, block, share, seed)
    structure = Structure.of(live, block)
    dense = torch.randn(shape) * live
    values = structure.pack(dense)
    assert values.shape == structure.values_shape
    assert torch.equal(structure.unpack(values), dense)
    assert torch.equal(structure.live(), live)
    assert not values[~structure.inside()].any()


@given(SHAPES, st.sampled_from([1, 4, 16]), st.floats(0, 1), st.integers(0, 99))
def test_the_transposed_pattern_holds_the_same_values(shape, block, share, seed):
    live = mask(*shape, block, share, seed)
    structure, turned = Structure.of(live, block), Structure.of(live.T.contiguous(), block)
    assert torch.equal(structure.back_starts, turned.starts)
    assert torch.equal(structure.back_columns, turned.columns)
    dense = torch.randn(shape) * live
    values = structure.pack(dense)[structure.order.long()]
    expected = turned.pack(dense.T)
    assert torch.equal(values if block == 1 else values.transpose(1, 2), expected)


def test_single_weights_lie_tile_by_tile():
    live = torch.zeros(2, TILE + 2, dtype=torch.bool)
    for place in ((0, 0), (1, 3), (0, TILE), (1, TILE + 1)):
        live[place] = True
    structure = Structure.of(live)
    assert structure.starts.tolist() == [0, 1, 2, 2, 3, 4]
    assert structure.columns.tolist() == [0, 3, 0, 1]


@pytest.mark.parametrize("block", [1, 8])
def test_pack_and_unpack_pass_gradients(block):
    structure = Structure.of(mask(20, 28, block, 0.4, 0), block)
    values = torch.randn(structure.values_shape, dtype=torch.float64)
    values[~structure.inside()] = 0
    assert torch.autograd.gradcheck(structure.unpack, values.requires_grad_())
    assert torch.autograd.gradcheck(
        structure.pack, torch.randn(20, 28, dtype=torch.float64, requires_grad=True)
    )


def test_indices_take_less_than_the_weights_they_stand_for():
    """At 75% the indices of single weights are 1.7 times their 4 bytes, those of blocks nothing."""
    for block, bound in ((1, 1.7), (16, 0.02)):
        structure = Structure.of(mask(768, 768, block, 0.25, 0), block)
        arrays = (
            structure.starts,
            structure.columns,
            structure.back_starts,
            structure.back_columns,
            structure.order,
        )
        size = sum(array.numel() * array.element_size() for array in arrays)
        assert size / (4 * structure.pack(torch.zeros(768, 768)).numel()) < bound
