"""BigBird's block-sparse attention, in time linear in the length (Zaheer et al., arXiv 2007.14062).

A sequence is cut into blocks.  The first and the last block see everything and are seen by everything; every
other block sees itself, its two neighbours, and some blocks drawn at random.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

LOCAL = 5  # first block, three neighbours, last block


def shortest(block: int, random: int) -> int:
    """The length up to which a sequence is attended to fully: the pattern needs more blocks than it sees."""
    return (LOCAL + 2 * random) * block


def blocked(query: Tensor, key: Tensor, value: Tensor, block: int, random: Tensor) -> Tensor:
    """Attention by blocks of tokens.

    Args:
        query: (n, H, L, D), n sequences of one length, of more than ``shortest(block, r)`` tokens.
        key: (n, H, L, D).
        value: (n, H, L, D).
        block: tokens in a block; the last may be shorter.
        random: (H, B - 2, r) int64 blocks of keys that the inner blocks of each head see besides, for the B
            blocks of a sequence; (1, B - 2, r) for the same in all heads.  A block that is named again
            counts again, as in transformers.

    Returns:
        (n, H, L, D).
    """
    count, heads, length, size = query.shape
    inner = -(-length // block) - 2
    table, seen = _plan(random, inner)
    keys, values = (_gather(_cut(part, block), table) for part in (key, value))
    there = torch.arange((inner + 2) * block, device=query.device).view(-1, block) < length
    mask = (there[table] & seen[..., None]).flatten(-2)  # (H or 1, B - 2, K)
    mask = mask.transpose(0, 1)[None, :, :, None].expand(count, -1, -1, -1, -1).flatten(0, 1)
    inside = query[:, :, block : (inner + 1) * block].unflatten(2, (inner, block)).transpose(1, 2)
    output = scaled_dot_product_attention(inside.flatten(0, 1), keys, values, attn_mask=mask)
    output = output.unflatten(0, (count, inner)).transpose(1, 2).flatten(2, 3)
    ends = [
        scaled_dot_product_attention(query[:, :, part], key, value)
        for part in (slice(block), slice((inner + 1) * block, None))
    ]
    return torch.cat([ends[0], output.reshape(count, heads, inner * block, size), ends[1]], dim=2)


def _plan(random: Tensor, inner: int) -> tuple[Tensor, Tensor]:
    """(H or 1, B - 2, 5 + r): blocks of keys of each inner block, and whether they count there.

    The second block's left neighbour is the first block, which is there already; likewise at the end.
    """
    own = torch.arange(1, inner + 1, device=random.device)
    columns = torch.stack([own * 0, own - 1, own, own + 1, own * 0 + inner + 1], dim=1)
    seen = torch.ones_like(columns, dtype=torch.bool)
    seen[0, 1] = seen[-1, 3] = False
    heads = random.shape[0]
    table = torch.cat([columns.expand(heads, -1, -1), random], dim=2)
    return table, torch.cat([seen.expand(heads, -1, -1), torch.ones_like(random, dtype=torch.bool)], dim=2)


def _cut(part: Tensor, block: int) -> Tensor:
    """(n, H, L, D) -> (n, H, B, block, D), the last block filled up with zeros."""
    return pad(part, (0, 0, 0, -part.shape[2] % block)).unflatten(2, (-1, block))


def _gather(part: Tensor, table: Tensor) -> Tensor:
    """(n, H, B, block, D) and (H or 1, B - 2, k) -> (n * (B - 2), H, k * block, D)."""
    # index_select, not part[:, head, table]: on CPU the way back of the latter adds number by number.
    if table.shape[0] == 1:
        chosen = part.index_select(2, table.flatten()).unflatten(2, table.shape[1:])
    else:
        head = torch.arange(len(table), device=part.device)[:, None, None] * part.shape[2]
        chosen = part.flatten(1, 2).index_select(1, (head + table).flatten()).unflatten(1, table.shape)
    return chosen.flatten(3, 4).transpose(1, 2).flatten(0, 1)
