"""Depth: new layers are copies of old ones."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from wellread.models.grow.shapes import STACKS, axes_of, blank


def layer_sources(small: int, large: int, how: str) -> list[int]:
    """Which old layer each new one copies.

    Args:
        small: number of old layers.
        large: number of new layers.
        how: "stack" puts the whole stack on top of itself, l mod ``small`` (StackBERT, Gong et al., 2019);
            "interleave" puts copies beside their layers; "identity" is as "stack".
    """
    if how == "interleave":
        return [layer * small // large for layer in range(large)]
    return [layer % small for layer in range(large)]


@torch.no_grad()
def deepen(small: PreTrainedModel, config: PreTrainedConfig, how: str, seed: int) -> PreTrainedModel:
    """A deeper model; ``small`` stays as it is.

    Args:
        small: a stock model of one of the four layouts.
        config: of the deeper model, of the same width.
        how: as in :func:`layer_sources`; with "identity" the new layers add nothing at first, which keeps the
            function in layouts whose norms come first (not BERT).
        seed: of what no old layer has.
    """
    large: Any = blank(small, config, seed)
    name = STACKS[config.model_type]
    old: Any = small.get_submodule(name)
    new: Any = large.get_submodule(name)
    rest = {key: value for key, value in small.state_dict().items() if not key.startswith(f"{name}.")}
    large.load_state_dict(rest, strict=False)
    count = small.config.num_hidden_layers
    for number, source in enumerate(layer_sources(count, config.num_hidden_layers, how)):
        layer = new[number]
        layer.load_state_dict(old[source].state_dict(), strict=False)
        if config.model_type == "modernbert" and source == 0 < number:
            # The first layer has no norm of its own: it reads what the norm of the embeddings gives.
            layer.attn_norm.load_state_dict(large.model.embeddings.norm.state_dict())
        if how == "identity" and number >= count:
            for key, module in layer.named_modules():
                axes = axes_of(f"{name}.{number}.{key}", module) if hasattr(module, "weight") else None
                if axes and axes[0] == "e" and axes[1]:
                    for parameter in module.parameters(recurse=False):
                        parameter.zero_()
    return large
