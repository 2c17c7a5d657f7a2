"""Packed attention: several sequences in one row, each attending only to itself.

transformers hands an attention function the whole row (1, T) and passes unknown keywords through, so a stock
model runs on a packed batch once its attention is switched to ``wellread_packed`` and it is given
``position_ids`` and ``cu_seqlens``.  No mask of T x T is ever built: all sequences share one call of a
compiled kernel on the CPU, or of a variable-length kernel on the GPU; elsewhere each gets its own
scaled-dot-product call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from wellread.models import attention as compiled
from wellread.models.fused import fuse, unfuse
from wellread.models.long import encoder as long
from wellread.models.long import window
from wellread.models.runs import by_runs
from wellread.precision import common_rows, widened
from wellread.tokens.batch import PackedBatch

NAME = "wellread_packed"
LONG = 8  # a sequence is long for a local layer from so many times the window's reach on


def enable(model: PreTrainedModel) -> PreTrainedModel:
    """Switch a stock model to packed attention, in place; it then wants :func:`hidden_states`."""
    if model.config.model_type in long.LAYOUTS:
        return model  # its layers are run by long.encoder, its own forward stays as it is
    model.set_attn_implementation(NAME)
    return fuse(model)


def disable(model: PreTrainedModel) -> PreTrainedModel:
    """Switch a model back to the stock attention (SDPA) on padded batches, in place."""
    if model.config.model_type in long.LAYOUTS:
        return model
    model.set_attn_implementation("sdpa")
    return unfuse(model)


def hidden_states(model: PreTrainedModel, batch: PackedBatch) -> Tensor:
    """The last hidden states of a packed batch.

    Args:
        model: a model with or without a head, its packed attention switched on.
        batch: T tokens in S sequences.

    Returns:
        (T, d) hidden states, after the final norm where the layout has one.
    """
    if model.config.model_type in long.LAYOUTS:
        return long.hidden_states(model, batch)
    # Light-weight methods may put tokens into each sequence.
    tail = 0 if hasattr(model, "light") else common_rows(batch.tokens, batch.input_ids.device) - batch.tokens
    if tail:
        return _hidden_states(model, _with_tail(batch, tail))[: batch.tokens]
    return _hidden_states(model, batch)


def _with_tail(batch: PackedBatch, count: int) -> PackedBatch:
    """The batch and one more sequence of so many tokens 0, whose states nobody reads."""
    zeros = torch.zeros(count)
    added = {
        **dict.fromkeys(("input_ids", "word_ids", "token_type_ids"), zeros),
        **dict.fromkeys(("sample_ids", "document_ids", "slots"), zeros[:1]),
        "position_ids": torch.arange(count),
        "cu_seqlens": batch.cu_seqlens[-1:] + count,
    }
    longer = {
        name: torch.cat([given, added[name].to(given)])
        for name, given in vars(batch).items()
        if given is not None
    }
    return PackedBatch(**longer)


def _hidden_states(model: PreTrainedModel, batch: PackedBatch) -> Tensor:
    extra: dict[str, Any] = {} if model.config.model_type == "modernbert" else {"use_cache": False}
    if model.config.model_type == "bert" and batch.token_type_ids is not None:
        extra["token_type_ids"] = batch.token_type_ids[None]
    if batch.slots is not None:
        extra["slots"] = (batch.slots.tolist(), batch.position_ids)
    output = model.base_model(
        input_ids=batch.input_ids[None],
        position_ids=batch.position_ids[None],
        cu_seqlens=batch.cu_seqlens,
        lengths=batch.lengths,
        **extra,
    )
    hidden: Tensor = output.last_hidden_state.squeeze(0)
    return hidden


@dataclass(frozen=True)
class _Rule:
    """How the tokens of a sequence see each other; ``distance`` is the largest |i - j|, None for any."""

    scale: float | None
    causal: bool
    distance: int | None
    dropout: float


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: Tensor | None,
    cu_seqlens: Tensor | None = None,
    lengths: list[int] | None = None,
    slots: tuple[list[int], Tensor] | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """The attention function that transformers calls in every layer.

    Args:
        module: the attention layer; its ``is_causal`` says whether it is a decoder's.
        query: (1, H, T, D).
        key: (1, G, T, D), with G <= H heads.
        value: (1, G, T, D).
        _mask: None under this implementation.
        cu_seqlens: (S + 1,) int32.
        lengths: the same as a list, to spare a copy from the device in every layer.
        slots: how many query slots each sequence ends in, and (T,) positions; None without any.
        options: of transformers: ``dropout`` (0 outside training), ``scaling`` and, in ModernBERT's local
            layers, ``sliding_window``, which is 1 + the largest distance |i - j| that is seen.

    Returns:
        (1, T, H, D), and None for the attention weights.
    """
    if cu_seqlens is None or lengths is None:
        raise ValueError("packed attention needs cu_seqlens: call wellread.models.packed.hidden_states")
    wide = options.get("sliding_window")
    rule = _Rule(
        scale=options.get("scaling"),
        causal=bool(getattr(module, "is_causal", False)),
        distance=None if wide is None else wide - 1,
        dropout=options.get("dropout", 0.0),
    )
    # squeeze, not [0], whose way back writes zeros and copies.
    q, k, v = (widened(tensor.squeeze(0).transpose(0, 1)) for tensor in (query, key, value))
    if slots is not None:
        output = _slotted(q, k, v, lengths, slots, rule)
    elif v.is_cuda and not rule.dropout and v.dtype in (torch.float16, torch.bfloat16):
        # Llama's rotary positions widen queries and keys to float32 under autocast.
        output = _varlen(q.to(v.dtype), k.to(v.dtype), v, cu_seqlens, max(lengths), rule)
    elif rule.dropout < 1 and compiled.available(q, k, v):
        scale = q.shape[-1] ** -0.5 if rule.scale is None else rule.scale
        options = {"causal": rule.causal, "distance": rule.distance, "dropout": rule.dropout}
        output = compiled.attend(q, k, v, cu_seqlens, scale=scale, **options)
    else:
        output = _loop(q, k, v, lengths, rule)
    return output[None], None


def _loop(query: Tensor, key: Tensor, value: Tensor, lengths: list[int], rule: _Rule) -> Tensor:
    """(T, H, D) -> (T, H, D), one SDPA call for each run of neighbours of equal length."""
    return by_runs(lambda q, k, v: _sequences(q, k, v, rule), (query, key, value), lengths)


def _sequences(query: Tensor, key: Tensor, value: Tensor, rule: _Rule) -> Tensor:
    """Sequences of one length: (n, H, L, D) -> (n, H, L, D).

    A local layer takes long sequences in blocks of queries, each with the keys that it can see.
    """
    length, distance = query.shape[2], rule.distance
    options: dict[str, Any] = {
        "dropout_p": rule.dropout,
        "scale": rule.scale,
        "enable_gqa": key.shape[1] != query.shape[1],
    }
    if distance is None or length <= distance + 1:
        causal = rule.causal and length > 1
        return scaled_dot_product_attention(query, key, value, is_causal=causal, **options)
    # Shorter sequences are faster whole (measured: equal at 8 distances, a fifth of the step saved at 16).
    return window.local_rows(query, key, value, distance, whole=LONG * distance, **options)


def _slotted(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: list[int],
    slots: tuple[list[int], Tensor],
    rule: _Rule,
) -> Tensor:
    """(T, H, D) -> (T, H, D), where the last tokens of each sequence are seen by themselves alone."""
    counts, positions = slots
    outputs = []
    for q, k, v, place, count in zip(
        *(tensor.split(lengths) for tensor in (query, key, value, positions)), counts, strict=True
    ):
        number = torch.arange(len(q), device=q.device)
        seen = (number < len(q) - count) | (number[:, None] == number)
        if rule.distance is not None:
            seen &= (place[:, None] - place).abs() <= rule.distance
        output = scaled_dot_product_attention(
            q.transpose(0, 1)[None],
            k.transpose(0, 1)[None],
            v.transpose(0, 1)[None],
            attn_mask=seen,
            dropout_p=rule.dropout,
            scale=rule.scale,
            enable_gqa=k.shape[1] != q.shape[1],
        )
        outputs.append(output[0].transpose(0, 1))
    return torch.cat(outputs)


def _varlen(
    query: Tensor, key: Tensor, value: Tensor, cu_seqlens: Tensor, longest: int, rule: _Rule
) -> Tensor:
    """(T, H, D) -> (T, H, D) in one variable-length kernel (GPU, half precision, no dropout)."""
    from torch.nn.attention.varlen import varlen_attn

    side = -1 if rule.distance is None else rule.distance
    output = varlen_attn(
        query,
        key,
        value,
        cu_seqlens,
        cu_seqlens,
        longest,
        longest,
        scale=rule.scale,
        window_size=(side, 0 if rule.causal else side),
        enable_gqa=key.shape[1] != query.shape[1],
    )
    assert isinstance(output, Tensor)
    return output


def _no_mask(*_: Any, **__: Any) -> None:
    """No mask: transformers asks for one once per forward pass; packed attention needs none."""


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, _no_mask)
