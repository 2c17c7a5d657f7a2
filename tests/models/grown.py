"""Tiny models that the tests of growth grow."""

from __future__ import annotations

import torch
from stock import LAYOUTS, randomise, settings, tokenizer
from transformers.models.llama import modeling_llama

from wellread.models.build import MODELS, build_config, seeded

__all__ = ["LAYOUTS", "logits", "make", "shape"]


def _norm(module, hidden):
    """Llama's norm in the precision of its input; the stock one takes float64 down to float32."""
    scale = (hidden.square().mean(-1, keepdim=True) + module.variance_epsilon).rsqrt()
    return module.weight * (hidden * scale)


class _Norm(modeling_llama.LlamaRMSNorm):
    def forward(self, hidden_states):
        return _norm(self, hidden_states)


def make(layout, dtype=torch.float32, *, layers=3, hidden=32, **changes):
    """A model of 3 x 32 with two heads, none of whose norms and biases is trivial, in evaluation."""
    model_settings = settings(layout, layers=layers, hidden=hidden, heads=hidden // 16, init_std=0.1)
    config = build_config(model_settings, tokenizer())
    for name, value in changes.items():
        setattr(config, name, value)
    head = "clm" if model_settings.causal else "mlm"
    with seeded(0):
        model = MODELS[head].from_config(config, attn_implementation="sdpa", dtype=torch.float32)
    randomise(model)
    return model.to(dtype).eval()


def shape(layout, **changes):
    """The [model] of a growth; heads of 16 dimensions."""
    changes = {"start": "small", "grow": "function-preserving", "hidden": 32} | changes
    return settings(layout, **({"heads": changes["hidden"] // 16} | changes))


@torch.no_grad()
def logits(model):
    """Of two sequences of 20 tokens, longer than the window of local layers."""
    for module in model.modules():
        if isinstance(module, modeling_llama.LlamaRMSNorm) and model.dtype == torch.float64:
            module.__class__ = _Norm
    ids = torch.randint(5, 97, (2, 20), generator=torch.Generator().manual_seed(0))
    return model(input_ids=ids).logits.double()
