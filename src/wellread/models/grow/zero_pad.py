"""Width at any ratio: the old model stands in a corner of the new one, and nothing new reaches its outputs.

New coordinates of the residual stream hold nothing: zero under RMSNorm, and under LayerNorm the mean of the
old ones, so that the mean which the norm takes off stays.  Either way the sum of squares is the old one over
more coordinates, which the norms' gains and epsilon undo.  New heads and neurons are random and start with
zero outgoing weights.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from wellread.models.grow.shapes import EPSILON, Shape, axes_of, blank, columns, places, tied


@torch.no_grad()
def zero_pad(small: PreTrainedModel, config: PreTrainedConfig, seed: int) -> PreTrainedModel:
    """A wider model that computes what the small one does; ``small`` stays as it is.

    It is exact for layouts whose residual stream is read through norms only (Llama, GPT-2).

    Args:
        small: a stock Llama or GPT-2 model with its head.
        config: of the wider model, with as many layers; its epsilon is changed in the model's own copy.
        seed: of the new weights.
    """
    before, after = Shape.of(small.config).axes, Shape.of(config).axes
    config = copy.deepcopy(config)
    layout, ratio = config.model_type, before["e"] / after["e"]
    setattr(config, EPSILON[layout], getattr(config, EPSILON[layout]) * ratio)
    large = blank(small, config, seed)
    skip = large.get_output_embeddings() if tied(large) else None
    for name, module in large.named_modules():
        axes = axes_of(name, module) if getattr(module, "weight", None) is not None else None
        if axes is None or module is skip:
            continue
        source = small.get_submodule(name)
        old, new = columns(source), columns(module)
        outputs, inputs = axes
        columns_kept = places(outputs, before, after) if outputs else torch.arange(new.shape[1])
        rows_kept = places(inputs, before, after) if inputs else torch.arange(new.shape[0])
        bias, old_bias = getattr(module, "bias", None), getattr(source, "bias", None)
        if old.shape[0] == 1 and not inputs:  # a norm
            new.fill_(math.sqrt(ratio))
            new[:, columns_kept] = old * math.sqrt(ratio)
            old_filler = 0.0
        else:
            if outputs == "e":
                new.zero_()
                new[rows_kept] = _filler(old, layout, new.shape[1])
            if not outputs:
                new.zero_()
            new[rows_kept[:, None], columns_kept] = old
            old_filler = 0.0 if old_bias is None else float(_filler(old_bias[None], layout, 1))
        if bias is not None and old_bias is not None:
            bias.fill_(old_filler if outputs == "e" else 0.0)
            bias[columns_kept] = old_bias
    return large


def _filler(old: Tensor, layout: str, width: int) -> Tensor:
    """What is written to new coordinates of the residual stream: (rows, ``width``)."""
    mean = old.mean(1, keepdim=True) if layout == "gpt2" else torch.zeros_like(old[:, :1])
    return mean.expand(-1, width)
