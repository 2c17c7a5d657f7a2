"""Bi-Attention (BiBERT, arXiv 2203.06390): who attends to whom is one bit.

S = sign(Q) sign(K)' / sqrt(d), A = 1 where S >= 0 else 0, output A sign(V): no softmax, no normalisation over
a row.  All three factors are binary, and the sums are whole numbers.  The paper's text lets S = 0 count as 1,
as here; its code lets it count as 0.  With d = 64 a tenth of random scores are zero, so the two are different
models.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from wellread.models.fused import fuse

NAME = "wellread_binary"


def enable(model: PreTrainedModel) -> PreTrainedModel:
    """Switch a model to binary attention over packed batches, in place."""
    model.set_attn_implementation(NAME)
    return fuse(model)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: Tensor | None,
    lengths: list[int] | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """The attention function that transformers calls in every layer; arguments as in ``models.packed``.

    There is no dropout on the bits.

    Returns:
        (1, T, H, D), and None for the attention weights.
    """
    if lengths is None:
        raise ValueError("binary attention needs cu_seqlens: call wellread.models.packed.hidden_states")
    window = options.get("sliding_window")
    # BiBERT passes gradients where |x| < 1, however large queries and keys are; learnt steps come with a
    # range that follows them.
    elastic = getattr(module, "elastic", False)
    with torch.autocast(query.device.type, enabled=False):
        q, k, v = (_signs(tensor[0].transpose(0, 1).float(), elastic) for tensor in (query, key, value))
        runs = [(length, sum(1 for _ in run)) for length, run in groupby(lengths)]
        sizes = [length * count for length, count in runs]
        outputs = []
        for (length, count), *parts in zip(runs, q.split(sizes), k.split(sizes), v.split(sizes), strict=True):
            a, b, c = (part.unflatten(0, (count, length)).transpose(1, 2) for part in parts)
            outputs.append(_sequences(a, b, c, window).transpose(1, 2).flatten(0, 1))
        return torch.cat(outputs)[None], None


def _sequences(query: Tensor, key: Tensor, value: Tensor, window: int | None) -> Tensor:
    """Signs of sequences of one length, (n, H, L, D) each -> (n, H, L, D)."""
    bits = _Positive.apply(query @ key.transpose(2, 3), query.shape[-1] ** 0.5)
    length = query.shape[2]
    if window is not None and length > window:
        place = torch.arange(length, device=query.device)
        bits = bits * ((place[:, None] - place[None, :]).abs() < window)
    return bits @ value


def _signs(values: Tensor, elastic: bool) -> Tensor:
    reach = 2 * values.detach().abs().mean() if elastic and values.requires_grad else 1.0
    return _Clipped.apply(values, reach)


class _Clipped(torch.autograd.Function):
    """sign(x), with the gradient of x where |x| <= reach, else zero."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, reach: Any) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(values.abs() <= reach)
        return torch.where(values >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient * ctx.saved_tensors[0], None


class _Positive(torch.autograd.Function):
    """1 where a score is zero or more, else 0; the gradient of score / root where that is within 1."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, root: float) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(scores.abs() < root)
        ctx.root = root
        return (scores >= 0).to(scores.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient * ctx.saved_tensors[0] / ctx.root, None


def _no_mask(*_: Any, **__: Any) -> None:
    """No mask: sequences are kept apart by their lengths."""


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, _no_mask)
