"""Codes of 2 to 8 bits without gaps between them: the first code in the highest bits of the first byte."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def pack(codes: Tensor, bits: int) -> Tensor:
    """(N,) uint8 codes below 2^bits as (ceil(N bits / 8),) bytes; the last byte is filled with zeros."""
    if bits == 8:
        return codes.clone()
    spread = np.unpackbits(codes.cpu().numpy()[:, None], axis=1)[:, 8 - bits :]
    return torch.from_numpy(np.packbits(spread))


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """The first ``count`` codes of what :func:`pack` gives: (count,) uint8."""
    if bits == 8:
        return packed[:count].clone()
    spread = np.unpackbits(packed.cpu().numpy(), count=count * bits).reshape(count, bits)
    return torch.from_numpy(np.packbits(spread, axis=1)[:, 0] >> (8 - bits))


def bytes_of(count: int, bits: int) -> int:
    """Bytes that ``count`` codes take."""
    return -(-count * bits // 8)
