"""The name table of light-weight methods, and what the fine-tuning loop asks of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from wellread import rng
from wellread.finetune.light import bitfit, houlsby, lora, prefix, prompts, residual, tiny_attention
from wellread.models.build import seeded
from wellread.settings import LightSettings

# What is added stands in ``model.light``; BitFit adds nothing that a stock checkpoint could not hold.
METHODS: dict[str, Callable[[Any, LightSettings, float], nn.Module | None]] = {
    "lora": lora.equip,
    "houlsby": houlsby.equip,
    "lightweight": houlsby.equip_shared,
    "tiny-attention": tiny_attention.equip,
    "residual": residual.equip,
    "prompt": prompts.equip,
    "prefix": prefix.equip,
    "bitfit": bitfit.equip,
}
HEADS = ("classifier.", "score.", "head.")


def equip(model: Any, settings: LightSettings, dropout: float, seed: int) -> None:
    """Add what the method adds and freeze the rest but the head, in place; "full" leaves the model alone.

    With ``settings.frozen`` false nothing is frozen.

    Args:
        model: a stock model on the CPU, with packed attention.
        settings: the recipe's [finetune.light].
        dropout: of LoRA's inputs.
        seed: of the new weights; the global generator is left as it is.
    """
    if settings.method == "full":
        return
    if settings.keeps_weights:
        for name, weight in model.named_parameters():
            weight.requires_grad_(_is_head(model, name))
    with seeded(rng.derive(seed, "finetune-light")):
        added = METHODS[settings.method](model, settings, dropout)
    if added is not None:
        model.light = added


def finish(model: Any, settings: LightSettings) -> None:
    """After training: write into the weights what can be; a "lora" model is a stock model again."""
    if settings.method == "lora":
        lora.merge(model, settings)


def added_tokens(settings: LightSettings) -> int:
    """Positions that the method takes from the longest input."""
    return settings.vectors if settings.method in ("prompt", "prefix") else 0


def count(model: Any) -> tuple[int, int]:
    """(numbers that are trained, numbers of the whole model)."""
    weights = list(model.parameters())
    return sum(w.numel() for w in weights if w.requires_grad), sum(w.numel() for w in weights)


def _is_head(model: Any, name: str) -> bool:
    """Whether a weight belongs to a fresh head; a language-model head is no such thing."""
    fresh = type(model).__name__.endswith("Classification")
    return fresh and (name.startswith(HEADS) or ".pooler." in name)
