"""LoRA: the change is that of the formula, merges exactly, and what is left is a stock checkpoint."""

import pytest
import torch
import toy
from equipped import LONG, logits, made, randomise
from transformers import AutoModelForSequenceClassification

from wellread.finetune.light import lora, sites
from wellread.models import build, packed
from wellread.settings import LightSettings

ALL = ("query", "key", "value", "output", "ffn")


@pytest.mark.parametrize("layout", toy.LAYOUTS)
def test_merged_equals_unmerged(layout, tokenizer):
    settings = LightSettings(method="lora", targets=ALL, rank=3)
    model = randomise(made("lora", layout, tokenizer, targets=ALL, rank=3))
    before = logits(model, LONG)
    assert (before - logits(made("full", layout, tokenizer), LONG)).abs().max() > 1e-2
    lora.merge(model, settings)
    assert not hasattr(model, "light")
    assert torch.allclose(logits(model, LONG), before, atol=1e-5)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("layout", toy.LAYOUTS)
def test_the_change_is_that_of_the_formula(layout, tokenizer):
    model = randomise(made("lora", layout, tokenizer, targets=("key",), rank=2, alpha=6.0))
    plain = made("full", layout, tokenizer)
    changes = zip(sites.sites(plain, ("key",)), model.light, strict=True)
    for site, change in changes:
        assert site.weight.shape == (32, 32)
        assert change.scale == 3.0
        with torch.no_grad():
            site.weight.add_(3.0 * change.b @ change.a)
    assert torch.allclose(logits(model), logits(plain), atol=1e-5)


def test_the_thirds_of_a_fused_projection(tokenizer):
    """Queries stand first, then keys, then values; only those named change."""
    for layout in ("modernbert", "gpt2"):
        changed = randomise(made("lora", layout, tokenizer))
        before = {name: weight.clone() for name, weight in changed.named_parameters()}
        lora.merge(changed, LightSettings(method="lora"))
        name = "layers.0.attn.Wqkv.weight" if layout == "modernbert" else "h.0.attn.c_attn.weight"
        after, old = changed.base_model.get_parameter(name), before[f"{changed.base_model_prefix}.{name}"]
        dim = 0 if layout == "modernbert" else 1
        parts = zip(after.chunk(3, dim), old.chunk(3, dim), strict=True)
        assert [torch.equal(*pair) for pair in parts] == [False, True, False]


def test_dropout_falls_on_the_inputs_of_the_change_only(tokenizer):
    change = lora.LowRank(8, 8, LightSettings(rank=2), 0.5)
    torch.nn.init.ones_(change.b)
    x = torch.ones(200, 8)
    assert change.train()(x).std(0).min() > 0
    assert torch.equal(change.eval()(x), (x @ change.a.T @ change.b.T) * 8.0)


def test_the_merged_model_is_a_stock_checkpoint(tokenizer, tmp_path):
    model = randomise(made("lora", "bert", tokenizer))
    lora.merge(model, LightSettings(method="lora"))
    before = logits(model)
    build.save(packed.disable(model), tokenizer, tmp_path)
    stock, facts = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not facts["missing_keys"] and not facts["unexpected_keys"]
    assert torch.allclose(logits(packed.enable(stock.eval())), before, atol=1e-6)
