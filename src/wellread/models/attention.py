"""Softmax attention over packed sequences on the CPU, in one call for all of them and in one autograd node.

The compiled kernel (sparsity/kernels/attention.cpp) takes the sequences as they lie in the row: nothing is
cut apart, padded or copied together, and local layers touch their window only.  Under autocast, where a
processor is made for it, factors of its products are bfloat16.  :func:`reference` is the same a sequence at a
time, in plain operations.
"""

from __future__ import annotations

import ctypes
import itertools
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.backends.cuda import flash_sdp_enabled

from wellread.models.dropout import draw_seed, factors
from wellread.precision import wants_bfloat16
from wellread.sparsity.kernels import build


def available(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether the kernel can take these: float32 on the CPU, compiled, and fused kernels wanted.

    Like torch's own it cannot be differentiated twice; ``sdpa_kernel(SDPBackend.MATH)`` switches both off.
    """
    kinds = {tensor.dtype for tensor in (query, key, value)}
    wanted = query.device.type == "cpu" and kinds == {torch.float32} and flash_sdp_enabled()
    return wanted and build.load_attention() is not None


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seqlens: Tensor,
    *,
    scale: float,
    causal: bool = False,
    distance: int | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """(T, H, D) -> (T, H, D), each sequence attending to itself.

    Args:
        query: (T, H, D).
        key: (T, G, D), where H is a multiple of G.
        value: (T, G, D).
        cu_seqlens: (S + 1,) int32, on the CPU.
        scale: of the scores.
        causal: no token sees a later one.
        distance: the largest |i - j| that is seen, None for any.
        dropout: the chance of a weight to become 0, below 1; the mask is drawn from torch's generator.
    """
    reach = -1 if distance is None else distance
    drop = (draw_seed() if dropout else 0, dropout)
    halves = wants_bfloat16() and query.shape[-1] % 2 == 0 and build.fast_bfloat16()
    return _Attention.apply(query, key, value, cu_seqlens, scale, causal, reach, drop, halves)


def reference(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seqlens: Tensor,
    *,
    scale: float,
    causal: bool = False,
    distance: int | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """The same, plainly; with dropout it draws the mask that :func:`attend` draws."""
    tokens, heads = query.shape[:2]
    longest = max([0, *cu_seqlens.diff().tolist()])
    dropped = (
        factors(draw_seed(), heads * tokens, longest, dropout).view(heads, tokens, -1) if dropout else None
    )
    key, value = (x.repeat_interleave(heads // x.shape[1], dim=1) for x in (key, value))
    outputs = []
    for begin, end in itertools.pairwise(cu_seqlens.tolist()):
        q, k, v = (x[begin:end].transpose(0, 1) for x in (query, key, value))
        apart = torch.arange(end - begin)[:, None] - torch.arange(end - begin)
        seen = torch.ones_like(apart, dtype=torch.bool)
        if causal:
            seen &= apart >= 0
        if distance is not None:
            seen &= apart.abs() <= distance
        weights = (q @ k.mT * scale).masked_fill(~seen, -torch.inf).softmax(-1)
        if dropped is not None:
            weights = weights * dropped[:, begin:end, : end - begin].to(weights.dtype)
        outputs.append((weights @ v).transpose(0, 1))
    return torch.cat(outputs)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cu_seqlens: Tensor,
        scale: float,
        causal: bool,
        reach: int,
        drop: tuple[int, float],
        halves: bool,
    ) -> Tensor:
        query, key, value, starts = (x.contiguous() for x in (query, key, value, cu_seqlens))
        result, logs = torch.empty_like(query), query.new_empty(query.shape[1], query.shape[0])
        ctx.save_for_backward(query, key, value, starts, result, logs)
        ctx.rule = (scale, causal, reach, drop, halves)
        sizes = _sizes(query, key, starts, *ctx.rule)
        _call("wellread_attention", (query, key, value, starts), sizes, (result, logs))
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        query, key, value, starts, result, logs = ctx.saved_tensors
        gradient = gradient.contiguous()
        found = [torch.empty_like(x) for x in (query, key, value)]
        given = (query, key, value, result, logs, gradient, starts)
        _call("wellread_attention_backward", given, _sizes(query, key, starts, *ctx.rule), found)
        return (*found, None, None, None, None, None, None)


def _call(name: str, given: Any, sizes: list[Any], made: Any) -> None:
    library = build.load_attention()
    assert library is not None
    pointers = [[ctypes.c_void_p(one.data_ptr()) for one in tensors] for tensors in (given, made)]
    if getattr(library, name)(*pointers[0], *sizes, *pointers[1], torch.get_num_threads()):
        raise MemoryError("no memory for attention's scratch space")


def _sizes(
    query: Tensor,
    key: Tensor,
    starts: Tensor,
    scale: float,
    causal: bool,
    reach: int,
    drop: tuple[int, float],
    halves: bool,
) -> list[Any]:
    tokens, heads, size = query.shape
    numbers = (len(starts) - 1, tokens, heads, key.shape[1], size, reach)
    rule = (ctypes.c_int(causal), ctypes.c_float(scale), ctypes.c_uint64(drop[0]), ctypes.c_double(drop[1]))
    return [*map(ctypes.c_long, numbers), *rule, ctypes.c_int(halves)]
