"""Which weights of a matrix live: random masks with an exact count."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from wellread import rng

Pattern = Literal["unstructured", "2:4", "block4", "block8", "block16", "block32", "block64", "block128"]
BLOCK: dict[str, int] = {
    "unstructured": 1,
    "2:4": 1,
    "block4": 4,
    "block8": 8,
    "block16": 16,
    "block32": 32,
    "block64": 64,
    "block128": 128,
}


def mask(shape: tuple[int, int], level: float, pattern: Pattern, seed: int, name: str) -> Tensor:
    """A random mask, a pure function of its arguments.

    ``unstructured`` keeps exactly round((1 - level) * outputs * inputs) weights anywhere (SPDF,
    arXiv 2303.10464).  ``2:4`` keeps two of every four neighbouring inputs, whatever the level (Mishra et
    al., arXiv 2104.08378).  ``block4`` ... ``block128`` keep whole square blocks, the same number in every
    row of blocks: round((1 - level) * blocks in a row) and at least one, so that no output is cut off.  Where
    the shape is no multiple of the block, the last row and column of blocks are cut.

    Args:
        shape: (outputs, inputs) of the matrix.
        level: share of zeros, in [0, 1).
        pattern: see above.
        seed: of the run.
        name: of the matrix; keeps the masks of different layers apart.

    Returns:
        bool tensor of ``shape``, True where the weight lives.
    """
    if pattern == "2:4":
        return _two_of_four(shape, seed, name)
    size = BLOCK[pattern]
    outputs, inputs = shape
    rows, columns = -(-outputs // size), -(-inputs // size)
    keys = rng.bits(seed, f"sparsity {name}", np.arange(rows * columns))
    if pattern == "unstructured":
        keys = keys[None]
        live = round((1 - level) * keys.size)
    else:
        keys = keys.reshape(rows, columns)
        live = max(1, round((1 - level) * columns))
    chosen = np.zeros(keys.shape, dtype=bool)
    if live:
        first = np.argpartition(keys, live - 1, axis=1)[:, :live]
        np.put_along_axis(chosen, first, True, axis=1)
    return spread(torch.from_numpy(chosen.reshape(rows, columns)), size, shape)


def _two_of_four(shape: tuple[int, int], seed: int, name: str) -> Tensor:
    outputs, inputs = shape
    groups = -(-inputs // 4)
    keys = rng.bits(seed, f"sparsity {name}", np.arange(outputs * groups * 4)).reshape(outputs, groups * 4)
    keys[:, inputs:] = np.iinfo(keys.dtype).max  # beyond the border: chosen last
    ranks = keys.reshape(outputs, groups, 4).argsort(-1).argsort(-1)
    return torch.from_numpy((ranks < 2).reshape(outputs, groups * 4)[:, :inputs].copy())


def spread(grid: Tensor, block: int, shape: tuple[int, int]) -> Tensor:
    """One place for each block -> one for each weight of a matrix of ``shape``, where the last are cut."""
    return grid.repeat_interleave(block, 0).repeat_interleave(block, 1)[: shape[0], : shape[1]]
