"""Tiny equipped models and a packed batch that the tests of light-weight methods share."""

import torch
import toy

from wellread.finetune.light import methods
from wellread.models import heads, packed
from wellread.settings import LightSettings
from wellread.tokens.batch import pack

ROWS = [[5, 9, 17, 33, 21, 8], [40, 12], [7, 7, 30, 52, 11, 60, 61, 62, 14], [9], [13, 25]]
BATCH = pack(ROWS)
LONG = pack([list(range(5, 50)), [40, 12]])  # beyond ModernBERT's local window of 16


def made(method, layout, tokenizer, kind="classify", equip=True, **changes):
    """A tiny model in evaluation mode with packed attention, equipped unless told otherwise."""
    model = heads.task_model(toy.model(layout), tokenizer, kind, ("a", "b", "c"), 0.0, 0)
    packed.enable(model).eval()
    if equip:
        methods.equip(model, LightSettings(method=method, **changes), 0.0, 1)
    return model


def logits(model, batch=BATCH):
    token = type(model).__name__.endswith("TokenClassification")
    return (heads.token_logits if token else heads.sequence_logits)(model, batch)


def randomise(model, size=0.3):
    """Noise on all that a method added, so that nothing is zero any more."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in model.light.parameters():
            weight.add_(size * torch.randn(weight.shape, generator=generator))
    return model
