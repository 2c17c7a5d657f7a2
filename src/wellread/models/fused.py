"""The element-wise parts of a layer with fewer passes over memory: a ModernBERT's, and any layout's dropout.

The stock layer writes every intermediate result of the gated feed-forward and of the rotary positions to
memory, and keeps it for the way back.  Here the gate keeps only its input and works its activation out again
on the way back, and the rotation fills one buffer in either direction.  On the CPU each is one pass of
compiled kernels (sparsity/kernels/elementwise.cpp), which work in float32 and take bfloat16 from a product,
and bring it to the next, as it is; elsewhere torch operations do it with the bits of the stock layer.  The
kernels' rotation has these bits too; their GELU is as near the true one as torch's.
Weights, names and all that is saved stay the stock model's.
"""

from __future__ import annotations

import ctypes
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.modernbert.modeling_modernbert import ModernBertAttention, ModernBertMLP

from wellread.models import dropout
from wellread.precision import widened
from wellread.sparsity.kernels import build as kernels


def fuse(model: PreTrainedModel) -> PreTrainedModel:
    """Have a ModernBERT's layers, and the dropout of any layout, take the short way, in place."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            vars(module)["forward"] = partial(dropout.layer, module)
        elif isinstance(module, ModernBertMLP) and module.config.hidden_activation == "gelu":
            vars(module)["forward"] = partial(feed_forward, module)
        elif isinstance(module, ModernBertAttention):
            vars(module)["forward"] = partial(attend, module)
    return model


def unfuse(model: PreTrainedModel) -> PreTrainedModel:
    """Give the layers their stock ``forward`` back, in place."""
    for module in model.modules():
        if isinstance(module, (ModernBertMLP, ModernBertAttention, nn.Dropout)):
            vars(module).pop("forward", None)
    return model


def feed_forward(module: ModernBertMLP, hidden_states: Tensor) -> Tensor:
    """(..., d) -> (..., d): Wo(drop(gelu(a) * g)), where a and g are the halves of Wi(x)."""
    rate = module.drop.p if module.training else 0.0
    return module.Wo(gated_gelu(module.Wi(hidden_states), rate))


def gated_gelu(halves: Tensor, rate: float = 0.0) -> Tensor:
    """(..., 2 n) -> (..., n): drop(gelu(first half) * second half), worked out in float32 or wider.

    Args:
        halves: (..., 2 n).
        rate: the chance that dropout makes an element 0.
    """
    if not kernels.load_elementwise():
        halves = widened(halves)
    within = 0 < rate < 1 and kernels.elementwise("gated_gelu", halves)
    drop = (rate, dropout.draw_seed()) if within else (0.0, 0)
    gated: Tensor = _GatedGelu.apply(halves, *drop)
    return dropout.dropout(gated, rate) if rate and not within else gated


def attend(
    module: ModernBertAttention,
    hidden_states: Tensor,
    position_embeddings: tuple[Tensor, Tensor],
    attention_mask: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """The stock attention layer, (1, T, d) -> (1, T, d), with the positions rotated in one go."""
    kind = hidden_states.device.type
    if hidden_states.dtype != torch.float32 or (kind != "cpu" and torch.is_autocast_enabled(kind)):
        # The stock rotation widens to float32 and back.
        return ModernBertAttention.forward(
            module, hidden_states, position_embeddings, attention_mask, **options
        )
    shape = hidden_states.shape[:-1]
    qkv = module.Wqkv(hidden_states).view(*shape, 3, -1, module.head_dim)
    # A table that all rows share is not contiguous then, and torch operations take it.
    query, key, value = rotated(qkv, *(table.expand(*shape, -1) for table in position_embeddings))
    attention = ALL_ATTENTION_FUNCTIONS[module.config._attn_implementation]
    output, weights = attention(
        module,
        query.transpose(1, 2),
        key.transpose(1, 2),
        value.transpose(1, 2),
        attention_mask,
        dropout=module.attention_dropout if module.training else 0.0,
        scaling=module.head_dim**-0.5,
        sliding_window=module.sliding_window,
        deterministic=module.deterministic_flash_attn,
        **options,
    )
    return module.out_drop(module.Wo(output.reshape(*shape, -1))), weights


def rotated(qkv: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values from their common projection, queries and keys turned by their positions.

    With the halves x1, x2 of a head the rotation is (x1 cos - x2 sin, x2 cos + x1 sin), and its gradient the
    rotation back.

    Args:
        qkv: (..., T, 3, H, D).
        cos: (..., T, D), of two equal halves.
        sin: the same.

    Returns:
        (..., T, H, D) each; float32 where qkv is bfloat16 on the CPU.
    """
    found: tuple[Tensor, Tensor, Tensor] = _Rotate.apply(
        qkv if _rotation("rotate", qkv, cos, sin) else widened(qkv), cos, sin
    )
    return found


class _GatedGelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, halves: Tensor, rate: float, seed: int) -> Tensor:  # type: ignore[override]
        halves = halves.contiguous()
        ctx.save_for_backward(halves)
        ctx.rule = (seed, rate)
        run = kernels.elementwise("gated_gelu", halves)
        if run is None:
            a, gate = halves.chunk(2, dim=-1)
            return F.gelu(a).mul_(gate)
        result = halves.new_empty(*halves.shape[:-1], halves.shape[-1] // 2)
        run(*_tensors(halves), *_rows(result), *_rule(ctx), *_tensors(result), _threads())
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (halves,) = ctx.saved_tensors
        gradient, result = gradient.contiguous(), torch.empty_like(halves)
        run = kernels.elementwise("gated_gelu_backward", halves)
        if run is None:
            return _gated_gelu_backward(halves, gradient, result), None, None
        run(*_tensors(halves, gradient), *_rows(gradient), *_rule(ctx), *_tensors(result), _threads())
        return result, None, None


def _gated_gelu_backward(halves: Tensor, gradient: Tensor, result: Tensor) -> Tensor:
    a, gate = halves.chunk(2, dim=-1)
    to_a, to_gate = result.chunk(2, dim=-1)
    activation = F.gelu(a)
    torch.mul(gradient, activation, out=to_gate)
    torch.mul(gradient, gate, out=activation)
    torch.ops.aten.gelu_backward.grad_input(activation, a, grad_input=to_a)
    return result


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(cos, sin)
        ctx.kind = qkv.dtype
        run = _rotation("rotate", qkv, cos, sin)
        if run is None:
            both = torch.empty_like(qkv[..., :2, :, :])
            _turn(qkv[..., :2, :, :], cos, sin, both)
            query, key = both.unbind(-3)
            return query, key, qkv[..., 2, :, :].clone()
        query, key, value = (cos.new_empty(*qkv.shape[:-3], *qkv.shape[-2:]) for _ in range(3))
        given, made = _tensors(qkv, cos, sin), _tensors(query, key, value)
        run(*given, *_heads(query), *made, _threads())
        return query, key, value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        cos, sin = ctx.saved_tensors
        query, key, value = (gradient.contiguous() for gradient in gradients)
        result = query.new_empty(*query.shape[:-2], 3, *query.shape[-2:], dtype=ctx.kind)
        run = _rotation("rotate_backward", result, query, key, value, cos, sin)
        if run is None:
            for place, part in enumerate((query, key)):
                _turn(part.unsqueeze(-3), cos, -sin, result[..., place : place + 1, :, :])
            result[..., 2, :, :] = value
        else:
            run(*_tensors(query, key, value, cos, sin), *_heads(query), *_tensors(result), _threads())
        return result, None, None


def _turn(source: Tensor, cos: Tensor, sin: Tensor, target: Tensor) -> None:
    half = source.shape[-1] // 2
    c, s = (table[..., None, None, :half].to(source.dtype) for table in (cos, sin))
    x1, x2 = source[..., :half], source[..., half:]
    y1, y2 = target[..., :half], target[..., half:]
    torch.mul(x1, c, out=y1).sub_(x2 * s)
    torch.mul(x2, c, out=y2).add_(x1 * s)


def _rotation(name: str, qkv: Tensor, *others: Tensor) -> Any:
    """A compiled function, where it can work on these; the others, which meet no product, are float32."""
    fitting = all(one.dtype == torch.float32 and one.is_contiguous() for one in others)
    return kernels.elementwise(name, qkv) if fitting else None


def _tensors(*tensors: Tensor) -> list[ctypes.c_void_p]:
    return [ctypes.c_void_p(one.data_ptr()) for one in tensors]


def _longs(*numbers: int) -> list[ctypes.c_long]:
    return [ctypes.c_long(number) for number in numbers]


def _rows(matrix: Tensor) -> list[ctypes.c_long]:
    """Rows and columns of a (..., n) tensor."""
    width = matrix.shape[-1]
    return _longs(matrix.numel() // max(1, width), width)


def _heads(query: Tensor) -> list[ctypes.c_long]:
    """Tokens, heads, and half the width of a head of a (..., T, H, D) tensor."""
    heads, width = query.shape[-2:]
    return _longs(query.numel() // (heads * width), heads, width // 2)


def _rule(ctx: Any) -> tuple[ctypes.c_uint64, ctypes.c_double]:
    """Seed and rate of the dropout."""
    seed, rate = ctx.rule
    return ctypes.c_uint64(seed), ctypes.c_double(rate)


def _threads() -> int:
    return torch.get_num_threads()
