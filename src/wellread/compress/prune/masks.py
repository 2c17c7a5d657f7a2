"""Which weights of a model live: chosen from scores, and held at zero while the model trains."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers.pytorch_utils import Conv1D

from wellread.sparsity.linear import STACKS
from wellread.sparsity.patterns import BLOCK, Pattern, spread


def matrices(model: Any) -> dict[str, Any]:
    """Attention and feed-forward matrices (``nn.Linear`` or ``Conv1D``) by name from the base model on."""
    stack = STACKS[model.config.model_type]
    found = model.base_model.get_submodule(stack).named_modules()
    return {f"{stack}.{name}": module for name, module in found if isinstance(module, (nn.Linear, Conv1D))}


def oriented(matrix: Any, weight: Tensor) -> Tensor:
    """A tensor of the shape of the matrix's weight as (outputs, inputs), or the other way round."""
    return weight.T if isinstance(matrix, Conv1D) else weight


def choose(score: Tensor, level: float, pattern: Pattern, *, by_row: bool = False) -> Tensor:
    """The weights of the largest scores.

    Blocks are ranked by the mean of their scores, those that the border cuts by what is inside.  Of n units
    round((1 - level) * n) live, and at least one; between equals the first.

    Args:
        score: (outputs, inputs).
        level: share that is pruned, in [0, 1).
        pattern: single weights, or blocks.
        by_row: rank within each row (of blocks), not within the whole matrix.

    Returns:
        (outputs, inputs) bool, True where the weight lives.
    """
    size = BLOCK[pattern]
    grid = score if size == 1 else _means(score, size)
    rows = grid if by_row else grid.reshape(1, -1)
    live = max(1, round((1 - level) * rows.shape[1]))
    first = rows.argsort(dim=1, descending=True, stable=True)[:, :live]
    chosen = torch.zeros_like(rows, dtype=torch.bool).scatter_(1, first, True)
    return spread(chosen.view(grid.shape), size, (score.shape[0], score.shape[1]))


def _means(score: Tensor, size: int) -> Tensor:
    """(outputs, inputs) -> (rows of blocks, columns of blocks)."""
    return nn.functional.avg_pool2d(score[None], size, ceil_mode=True, count_include_pad=False)[0]


class Masked(nn.Module):
    """A weight of which only some places count, as a parametrisation.

    The weight itself stays dense and named; what the layer sees is zero elsewhere, at every moment, so the
    best weights of a run hold the mask too.  With ``moving`` each backward pass adds the movement of every
    weight, dead ones too: minus gradient times weight (Sanh et al., arXiv 2005.07683, straight-through).
    Plain descent on scores has a learning rate, but the ranking of the scores does not depend on it.

    Attributes:
        live: float of the weight's shape, 1 or 0.
        movement: of the same shape.
    """

    live: Tensor
    movement: Tensor

    def __init__(self, live: Tensor, moving: bool) -> None:
        super().__init__()
        self.register_buffer("live", live)
        self.register_buffer("movement", torch.zeros_like(live))
        self.moving = moving

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with zeros."""
        return _Mask.apply(weight, self.live, self.movement if self.moving and self.training else None)


class _Mask(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, weight: Tensor, live: Tensor, movement: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(weight, live)
        ctx.movement = movement
        return weight * live

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        weight, live = ctx.saved_tensors
        if ctx.movement is not None:
            ctx.movement.addcmul_(gradient, weight, value=-1)
        return gradient * live, None, None


def attach(model: Any, live: dict[str, Tensor] | None = None, *, moving: bool = False) -> dict[str, Masked]:
    """Mask the matrices of a model, in place.

    Args:
        model: with dense matrices.
        live: (outputs, inputs) bool by name; default all of them alive.
        moving: collect the movement of the weights.

    Returns:
        The masks by name.
    """
    masks = {}
    for name, matrix in matrices(model).items():
        alive = torch.ones_like(matrix.weight) if live is None else oriented(matrix, live[name]).float()
        masks[name] = Masked(alive.detach().contiguous(), moving)
        parametrize.register_parametrization(matrix, "weight", masks[name])
    return masks


def detach(model: Any) -> Any:
    """Write the zeros into the weights and take the masks away, in place."""
    for matrix in matrices(model).values():
        if parametrize.is_parametrized(matrix, "weight"):
            parametrize.remove_parametrizations(matrix, "weight", leave_parametrized=True)
    return model


@torch.no_grad()
def update(model: Any, masks: dict[str, Masked], level: float, pattern: Pattern) -> None:
    """Choose anew which weights live: by movement where it is collected, else by magnitude."""
    found = matrices(model)
    for name, mask in masks.items():
        matrix = found[name]
        weight = matrix.parametrizations.weight.original
        score = mask.movement if mask.moving else weight.square()
        mask.live.copy_(oriented(matrix, choose(oriented(matrix, score), level, pattern)))
