"""nf4 and fp4: sixteen fixed values times the largest weight of a block, and scales in 8 bits.

nf4 is from QLoRA (Dettmers et al., arXiv 2305.14314): quantiles of a normal distribution, zero among them.
fp4 is that of bitsandbytes, sign, two bits of exponent and one of mantissa; it is not the OCP format E2M1.
Double quantisation writes the scales, less their mean, in the 8-bit dynamic format of 8-bit optimisers
(Dettmers et al., arXiv 2110.02861), in blocks of 256.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["nf4", "fp4"]

# fmt: off
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)
FP4_MAGNITUDES = (0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0)  # in twelfths, by the code's lower three bits
# fmt: on
FLOOR = 1e-38  # of a block's scale
SCALE_BLOCK = 256  # scales that share a second scale


@cache
def values(kind: Kind) -> Tensor:
    """(16,) float32 values by code, as multiples of a block's scale."""
    if kind == "nf4":
        return torch.tensor(NF4)
    magnitudes = torch.tensor(FP4_MAGNITUDES) / 12
    return torch.cat([magnitudes, -magnitudes])


def encode(weights: Tensor, kind: Kind, block: int) -> tuple[Tensor, Tensor]:
    """Codes of weights in order.

    Args:
        weights: (N,) float32.
        kind: of the code book.
        block: weights that share a scale; the last block may be shorter.

    Returns:
        (N,) uint8 codes, (blocks,) float32 scales, each the largest magnitude of its block.
    """
    blocks = -(-len(weights) // block)
    padded = torch.nn.functional.pad(weights, (0, blocks * block - len(weights))).view(blocks, block)
    scales = padded.abs().amax(1).clamp(min=FLOOR)
    codes = _nearest(padded / scales[:, None], kind)
    return codes.flatten()[: len(weights)].contiguous(), scales


def decode(codes: Tensor, scales: Tensor, kind: Kind, block: int) -> Tensor:
    """(N,) float32 values of the codes that :func:`encode` gives."""
    table = values(kind).to(codes.device)
    return table[codes.long()] * scales.repeat_interleave(block)[: len(codes)]


def encode_scales(scales: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Double quantisation.

    Args:
        scales: (blocks,) float32.

    Returns:
        (blocks,) uint8 codes, (ceil(blocks / 256),) float32 scales of scales, () float32 mean.
    """
    mean = scales.mean()
    rest = scales - mean
    count = -(-len(rest) // SCALE_BLOCK)
    padded = torch.nn.functional.pad(rest, (0, count * SCALE_BLOCK - len(rest))).view(count, SCALE_BLOCK)
    tops = padded.abs().amax(1).clamp(min=FLOOR)
    table = dynamic_map().to(scales.device)
    codes = torch.bucketize(padded / tops[:, None], _middles(table)).to(torch.uint8)
    return codes.flatten()[: len(scales)].contiguous(), tops, mean


def decode_scales(codes: Tensor, tops: Tensor, mean: Tensor) -> Tensor:
    """(blocks,) float32 scales of what :func:`encode_scales` gives."""
    table = dynamic_map().to(codes.device)
    return table[codes.long()] * tops.repeat_interleave(SCALE_BLOCK)[: len(codes)] + mean


@cache
def dynamic_map() -> Tensor:
    """(256,) rising float32 values of the signed 8-bit dynamic format, in [-1, 1].

    Seven decades, the lowest with one value and each next with twice as many, at the middles of equal parts
    from a tenth of the decade to its end; their negatives; 0 and 1.
    """
    found = [torch.tensor([0.0, 1.0])]
    for decade in range(7):
        edges = torch.linspace(0.1, 1, 2**decade + 1)
        middles = (edges[:-1] + edges[1:]) / 2 * 10.0 ** (decade - 6)
        found += [middles, -middles]
    return torch.cat(found).sort().values


def _nearest(shares: Tensor, kind: Kind) -> Tensor:
    """uint8 codes of shares in [-1, 1]; halfway between two values the lower (fp4: the smaller) one."""
    table = values(kind).to(shares.device)
    if kind == "nf4":
        return torch.bucketize(shares, _middles(table)).to(torch.uint8)
    magnitudes, order = table[:8].sort()
    code = order[torch.bucketize(shares.abs(), _middles(magnitudes))]
    return torch.where((shares < 0) & (code != 0), code + 8, code).to(torch.uint8)


def _middles(table: Tensor) -> Tensor:
    return (table[:-1] + table[1:]) / 2
