"""Sliding-window attention with global tokens, in time linear in the length (Longformer, arXiv 2004.05150).

Token i sees token j where |i - j| <= distance, or where one of them is global; the first ``leading`` tokens
of a sequence are.  Queries are taken in blocks, each with the keys that it can reach: no mask over all pairs
of tokens is ever built.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def windowed(
    query: Tensor, key: Tensor, value: Tensor, distance: int, leading: int = 0, **options: Any
) -> Tensor:
    """Attention within a window and both ways with the leading tokens.

    Args:
        query: (n, H, L, D), n sequences of one length.
        key: (n, G, L, D), with G <= H heads.
        value: (n, G, L, D).
        distance: the largest |i - j| that is seen.
        leading: so many first tokens see all tokens and are seen by all.
        options: of :func:`torch.nn.functional.scaled_dot_product_attention`.

    Returns:
        (n, H, L, D).
    """
    rest = local_rows(query, key, value, distance, leading, **options)
    if not leading:
        return rest
    first = scaled_dot_product_attention(query[:, :, :leading], key, value, **options)
    return torch.cat([first, rest], dim=2)


def local_rows(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    distance: int,
    leading: int = 0,
    *,
    whole: int | None = None,
    **options: Any,
) -> Tensor:
    """What the tokens that are not global see, (n, H, L - leading, D).

    Arguments are those of :func:`windowed`; up to ``whole`` tokens (default four times the distance) a
    sequence is one block.
    """
    length = query.shape[2]
    if length <= max(distance + 1, leading):
        return scaled_dot_product_attention(query[:, :, leading:], key, value, **options)
    block = max(2 * distance, 64)
    if length - leading <= (4 * distance if whole is None else whole):
        block = length
    outputs = []
    for begin in range(leading, length, block):
        end = min(length, begin + block)
        first, last = max(leading, begin - distance), min(length, end + distance)
        band = _band(1 << (last - first - 1).bit_length(), distance, query.device)
        mask = band[begin - first : end - first, : last - first]
        keys, values = key[:, :, first:last], value[:, :, first:last]
        if leading:
            mask = torch.cat([mask.new_ones(end - begin, leading), mask], dim=1)
            keys = torch.cat([key[:, :, :leading], keys], dim=2)
            values = torch.cat([value[:, :, :leading], values], dim=2)
        outputs.append(
            scaled_dot_product_attention(query[:, :, begin:end], keys, values, attn_mask=mask, **options)
        )
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)


@lru_cache(maxsize=16)
def _band(size: int, distance: int, device: torch.device) -> Tensor:
    """(size, size) bool, True where |i - j| <= distance."""
    position = torch.arange(size, device=device)
    return (position[:, None] - position[None, :]).abs() <= distance
