"""Prefix tuning: P learnt keys and values before those of the text, in each layer (arXiv 2101.00190)."""

from __future__ import annotations

from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from wellread.finetune.light.prompts import random_words
from wellread.models import packed
from wellread.settings import LightSettings
from wellread.tokens.batch import pack

NAME, NOTING = "wellread_prefixed", "wellread_noting"


class Prefix(nn.Module):
    """Keys and values, (layers, G, P, D) each, for G heads of D dimensions."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys, self.values = nn.Parameter(keys), nn.Parameter(values)


def equip(model: Any, settings: LightSettings, _dropout: float) -> nn.Module:
    """A prefix that begins as the keys and values of random entries of the vocabulary.

    A decoder's first outputs are thus those of the text after these words.  A local layer sees the whole
    prefix from everywhere.

    Returns:
        The prefix: 2 * layers * P * (width of the keys) parameters.
    """
    noted: dict[int, tuple[Tensor, Tensor]] = {}
    words, training = pack([random_words(model, settings.vectors).tolist()]), model.training
    model.set_attn_implementation(NOTING)
    hook = model.base_model.register_forward_pre_hook(partial(_add, noted=noted), with_kwargs=True)
    with torch.no_grad():
        packed.hidden_states(model.eval(), words)
    hook.remove()
    model.train(training).set_attn_implementation(NAME)
    keys, values = (torch.stack([noted[layer][part] for layer in sorted(noted)]) for part in (0, 1))
    prefix = Prefix(keys, values)
    model.base_model.register_forward_pre_hook(partial(_put_before, prefix), with_kwargs=True)
    return prefix


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: Tensor | None,
    *,
    prefix: Prefix,
    lengths: list[int],
    **options: Any,
) -> tuple[Tensor, None]:
    """Packed attention in which every sequence also sees the prefix; otherwise as that of models/packed.

    Args:
        module: the attention layer.
        query: (1, H, T, D).
        key: (1, G, T, D).
        value: (1, G, T, D).
        prefix: of all layers.
        lengths: of the sequences, T in all.
        options: of transformers, see :func:`wellread.models.packed.attention`.

    Returns:
        (1, T, H, D), and None for the attention weights.
    """
    before = [part[module.layer_idx].to(value.dtype) for part in (prefix.keys, prefix.values)]
    causal, window = bool(getattr(module, "is_causal", False)), options.get("sliding_window")
    runs = [(length, sum(1 for _ in run)) for length, run in groupby(lengths)]
    sizes = [length * count for length, count in runs]
    parts = zip(*(x[0].transpose(0, 1).split(sizes) for x in (query, key, value)), strict=True)
    outputs = []
    for (length, count), run in zip(runs, parts, strict=True):
        q, k, v = (x.unflatten(0, (count, length)).transpose(1, 2).to(value.dtype) for x in run)
        k, v = (torch.cat([b.expand(count, *b.shape), x], 2) for b, x in zip(before, (k, v), strict=True))
        output = scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=_seen(length, before[0].shape[1], window, causal=causal, device=q.device),
            dropout_p=options.get("dropout", 0.0),
            scale=options.get("scaling"),
            enable_gqa=key.shape[1] != query.shape[1],
        )
        outputs.append(output.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs)[None], None


def _seen(length: int, size: int, window: int | None, *, causal: bool, device: torch.device) -> Tensor | None:
    """(length, size + length) bool, what each token sees of prefix and text; None for everything."""
    if window is None and not causal:
        return None
    place = torch.arange(length, device=device)
    ahead = place[None] - place[:, None]
    text = ahead <= 0 if causal else ahead.abs() < (window or 0)
    return torch.cat([text.new_ones(length, size), text], dim=1)


def _put_before(prefix: Prefix, _body: Any, args: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return args, named | {"prefix": prefix, "position_ids": named["position_ids"] + prefix.keys.shape[2]}


def _add(_body: Any, args: Any, named: dict[str, Any], **more: Any) -> tuple[Any, dict[str, Any]]:
    return args, named | more


def _note(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **options: Any) -> Any:
    """Packed attention that keeps the keys and values of each layer in ``noted``."""
    options.pop("noted")[module.layer_idx] = key[0].clone(), value[0].clone()
    return packed.attention(module, query, key, value, mask, **options)


def _no_mask(*_: Any, **__: Any) -> None:
    """No mask, as for packed attention."""


for _name, _function in ((NAME, attention), (NOTING, _note)):
    AttentionInterface.register(_name, _function)
    AttentionMaskInterface.register(_name, _no_mask)
