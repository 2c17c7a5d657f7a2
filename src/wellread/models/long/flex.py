"""Windowed attention with global tokens in one compiled kernel (GPU), for all sequences of a packed row.

Blocks of tokens that do not see each other are skipped, so time is linear in the length.  The kernel is asked
once, on a small input, whether it gives what :mod:`.window` gives; where it does not, it is not used.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from wellread.models.long.window import windowed as in_blocks
from wellread.models.runs import by_runs

TOLERANCE = 0.03  # half precision against half precision, on numbers of the size of one


def usable(value: Tensor, dropout: float) -> bool:
    """Whether the kernel can take a row: half precision on a GPU, no dropout, and it works there."""
    half = value.dtype in (torch.float16, torch.bfloat16)
    return value.is_cuda and half and not dropout and _works(value.device, value.shape[-1])


def windowed(
    query: Tensor, key: Tensor, value: Tensor, lengths: list[int], distance: int, leading: int
) -> Tensor:
    """Attention as in :func:`wellread.models.long.window.windowed`, of a packed row.

    Args:
        query: (T, H, D).
        key: (T, H, D).
        value: (T, H, D).
        lengths: of the sequences, T tokens in all.
        distance: the largest |i - j| that is seen.
        leading: so many first tokens of each sequence are global.

    Returns:
        (T, H, D).
    """
    mask = _block_mask(tuple(lengths), distance, leading, query.device)
    rows = [part.transpose(0, 1)[None] for part in (query, key, value)]
    return _kernel(query.is_cuda)(*rows, block_mask=mask)[0].transpose(0, 1)


@lru_cache(maxsize=2)
def _kernel(compiled: bool) -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True) if compiled else flex_attention


@lru_cache(maxsize=4)  # the layers of a step share their mask
def _block_mask(lengths: tuple[int, ...], distance: int, leading: int, device: torch.device) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    sizes = torch.tensor(lengths, device=device)
    owner = torch.arange(len(lengths), device=device).repeat_interleave(sizes)
    place = torch.arange(len(owner), device=device) - (sizes.cumsum(0) - sizes)[owner]

    def sees(_batch: Tensor, _head: Tensor, i: Tensor, j: Tensor) -> Tensor:
        near = ((i - j).abs() <= distance) | (place[i] < leading) | (place[j] < leading)
        return (owner[i] == owner[j]) & near

    return create_block_mask(sees, None, None, len(owner), len(owner), device=str(device))


@lru_cache(maxsize=8)
def _works(device: torch.device, size: int) -> bool:
    lengths = [300, 40, 300]
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(3, sum(lengths), 2, size, generator=generator)
    query, key, value = drawn.to(device, torch.bfloat16)
    try:
        found = windowed(query, key, value, lengths, 64, 1)
    except Exception:  # no compiler, an old driver: what fails differs from machine to machine
        return False
    wanted = by_runs(partial(in_blocks, distance=64, leading=1), (query, key, value), lengths)
    return bool((found - wanted).abs().max() < TOLERANCE)
