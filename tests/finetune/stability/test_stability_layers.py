"""Depths follow the model's own structure, for every layout and head."""

import pytest
import toy
from shape import LAYERS

from wellread.finetune.stability.layers import blocks, depths

STACK = {"modernbert": "model.layers", "bert": "bert.encoder.layer", "llama": "model.layers"}
STACK["gpt2"] = "transformer.h"
ABOVE = {"modernbert": ("model.final_norm", "head.", "classifier."), "bert": ("bert.pooler", "classifier.")}
ABOVE |= {"llama": ("model.norm", "score."), "gpt2": ("transformer.ln_f", "score.", "classifier.")}


@pytest.mark.parametrize("kind", ["classify", "tag"])
@pytest.mark.parametrize("layout", toy.LAYOUTS)
def test_depth_counts_from_the_head_down(layout, kind, model):
    made = model(layout, kind)
    name, modules = blocks(made)
    assert (name, len(modules)) == (STACK[layout], LAYERS)
    found = depths(made)
    assert list(found) == [name for name, _ in made.named_parameters()]
    for number in range(LAYERS):
        inside = {depth for name, depth in found.items() if name.startswith(f"{STACK[layout]}.{number}.")}
        assert inside == {LAYERS - number}
    for name, depth in found.items():
        if not name.startswith(STACK[layout]):
            assert depth == (0 if name.startswith(ABOVE[layout]) else LAYERS + 1), name


def test_a_model_without_a_stack_is_refused(model):
    made = model()
    made.config.num_hidden_layers = 7
    with pytest.raises(TypeError, match="no stack of 7 blocks"):
        depths(made)
