"""BitFit: layouts without biases get zeros that change nothing, and stay stock checkpoints."""

import pytest
import torch
import toy
from equipped import logits, made
from transformers import AutoModelForSequenceClassification

from wellread.models import build, packed


@pytest.mark.parametrize("layout", toy.LAYOUTS)
def test_every_bias_of_the_body_is_trained_and_nothing_else_of_it(layout, tokenizer):
    model = made("bitfit", layout, tokenizer)
    trained = {name for name, weight in model.base_model.named_parameters() if weight.requires_grad}
    pooler = {name for name in trained if name.startswith("pooler.")}
    assert (
        trained - pooler
        == {name for name, _ in model.base_model.named_parameters() if name.endswith("bias")} - pooler
    )
    for module in model.base_model.modules():
        if isinstance(module, torch.nn.Linear):
            assert module.bias is not None


@pytest.mark.parametrize("layout", toy.LAYOUTS)
def test_the_trained_model_is_a_stock_checkpoint(layout, tokenizer, tmp_path):
    model = made("bitfit", layout, tokenizer)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_()
    before = logits(model)
    build.save(packed.disable(model), tokenizer, tmp_path)
    stock, facts = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not facts["missing_keys"] and not facts["unexpected_keys"]
    assert torch.allclose(logits(packed.enable(stock.eval())), before, atol=1e-5)
