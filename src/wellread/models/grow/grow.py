"""A checkpoint grown to the shape of the recipe's [model]: first wider, then deeper."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from wellread import rng
from wellread.errors import RecipeError
from wellread.models.grow.deepen import deepen
from wellread.models.grow.shapes import Shape, axes_of, check, larger, places
from wellread.models.grow.widen import widen
from wellread.models.grow.zero_pad import zero_pad
from wellread.settings import ModelSettings, SparsitySettings
from wellread.sparsity import linear
from wellread.sparsity.patterns import BLOCK, mask, spread

NEAR = 0.02  # by how much the share of zeros may differ from the recipe's level
DENSE = 0.01  # share of zeros up to which a checkpoint is a dense one


def grow(small: PreTrainedModel, settings: ModelSettings, seed: int) -> PreTrainedModel:
    """The grown model; ``small`` stays as it is.

    Args:
        small: a dense stock model of one of the four layouts, with the head of its pre-training.
        settings: the recipe's [model]: the shape, ``grow`` and ``grow_depth``.
        seed: of all that is drawn.

    Raises:
        RecipeError: the growth is impossible.
    """
    check(Shape.of(small.config), settings)
    return _grow(small, settings, seed, masks=False)


def _grow(small: PreTrainedModel, settings: ModelSettings, seed: int, masks: bool) -> PreTrainedModel:
    model, shape = small, Shape.of(small.config)
    if (settings.hidden, settings.inner) != (shape.hidden, shape.inner):
        wide = larger(small.config, settings, shape.layers)
        if settings.grow == "zero-pad":
            model = zero_pad(model, wide, rng.derive(seed, "widen"))
        else:
            advanced = settings.grow == "advanced"
            model = widen(model, wide, rng.derive(seed, "widen"), advanced=advanced, masks=masks)
    if settings.layers > shape.layers:
        deep = larger(model.config, settings, settings.layers)
        how = "stack" if masks and settings.grow_depth == "identity" else settings.grow_depth
        model = deepen(model, deep, how, rng.derive(seed, "deepen"))
    return model


def living(
    small: PreTrainedModel, settings: ModelSettings, sparsity: SparsitySettings, seed: int
) -> dict[str, Tensor] | None:
    """Where the weights of the grown (or the same) model live, taken from a sparse checkpoint.

    A copy lives where its original does, so the function stays; what zero-padding adds is drawn as in any
    sparse model.

    Args:
        small: the checkpoint, its zeros in place.
        settings: as in :func:`grow`.
        sparsity: level and pattern that the grown model is to have.
        seed: of what is drawn.

    Returns:
        (outputs, inputs) bool of each matrix, by its name from the base model on; None where the checkpoint
        or the recipe is dense, and the masks are drawn.

    Raises:
        RecipeError: the checkpoint has another level, or growth does not keep it.
    """
    found = linear.share_of_zeros(small)
    if sparsity.level == 0 or found < DENSE:
        return None
    usual = _usual_level(small, sparsity)
    if abs(found - usual) > NEAR:
        raise RecipeError(
            f"the checkpoint at model.start has {found:.3f} of its weights at zero, the recipe {usual:.3f}",
            where="pretrain.sparsity.level",
            fix="set level and pattern to the checkpoint's, or level to 0",
        )
    if settings.grow == "zero-pad" and settings.layout == "gpt2":
        raise RecipeError(
            'grow is "zero-pad", which needs dense matrices in gpt2',
            where="model.grow",
            fix='set model.grow = "function-preserving", or pretrain.sparsity.level = 0',
        )
    marked = copy.deepcopy(small)
    with torch.no_grad():
        for _, weight in linear.dense_weights(marked):
            weight.copy_(weight != 0)
    grown = _grow(marked, settings, seed, masks=True) if settings.grow != "none" else marked
    live = {name: weight != 0 for name, weight in linear.dense_weights(grown)}
    if settings.grow == "zero-pad":
        live = _padded(live, small, grown, sparsity, seed)
    live = {name: _blocks(matrix, BLOCK[sparsity.pattern]) for name, matrix in live.items()}
    zeros = 1 - sum(int(matrix.sum()) for matrix in live.values()) / sum(m.numel() for m in live.values())
    if abs(zeros - found) > NEAR:
        raise RecipeError(
            f"growth would leave {zeros:.3f} of the weights at zero, the checkpoint has {found:.3f}",
            where="pretrain.sparsity.pattern",
            fix="grow from and to sizes that are multiples of the block, or choose smaller blocks",
        )
    return live


def _usual_level(small: PreTrainedModel, sparsity: SparsitySettings) -> float:
    """The share of zeros that drawn masks would have: with few blocks in a row it is not the level."""
    size, zeros, total = BLOCK[sparsity.pattern], 0.0, 0
    for _, weight in linear.dense_weights(small):
        blocks = -(-weight.shape[1] // size)
        share = max(1, round((1 - sparsity.level) * blocks)) / blocks if size > 1 else 1 - sparsity.level
        zeros, total = zeros + (1 - share) * weight.numel(), total + weight.numel()
    return zeros / total


def _padded(
    live: dict[str, Tensor], small: Any, large: Any, sparsity: SparsitySettings, seed: int
) -> dict[str, Tensor]:
    """New masks with the old ones in their corners."""
    before, after = Shape.of(small.config).axes, Shape.of(large.config).axes
    found = {}
    for name, matrix in live.items():
        drawn = mask((matrix.shape[0], matrix.shape[1]), sparsity.level, sparsity.pattern, seed, name)
        axes = axes_of(name, large.base_model.get_submodule(name))
        assert axes is not None
        rows, columns = (places(axis, before, after) for axis in axes)
        drawn[rows[:, None], columns] = matrix[rows[:, None], columns]
        found[name] = drawn
    return found


def _blocks(matrix: Tensor, block: int) -> Tensor:
    """Whole blocks live where anything in them does."""
    if block == 1:
        return matrix
    outputs, inputs = matrix.shape
    padded = torch.nn.functional.pad(matrix, (0, -inputs % block, 0, -outputs % block))
    grid = padded.unfold(0, block, block).unfold(1, block, block).any(-1).any(-1)
    return spread(grid, block, (outputs, inputs))
