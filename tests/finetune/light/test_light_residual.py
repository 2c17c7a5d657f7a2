"""Gated residual networks: the formula, the closed gate, the place on top of the last layer."""

import pytest
import torch
import toy
from equipped import BATCH, made

from wellread.finetune.light.residual import GatedResidual
from wellread.models import packed


def test_the_formula():
    torch.manual_seed(0)
    block, a = GatedResidual(6, 4), torch.randn(5, 6)
    u = torch.nn.functional.elu(a @ block.w2.weight.T + block.w2.bias)
    v = u @ block.w1.weight.T + block.w1.bias
    gate = torch.sigmoid(v @ block.w4.weight.T + block.w4.bias) * (v @ block.w5.weight.T + block.w5.bias)
    assert torch.allclose(block(a), torch.nn.functional.layer_norm(a + gate, (6,)), atol=1e-6)


def test_a_closed_gate_leaves_the_norm_of_the_input():
    block, a = GatedResidual(6, 4), torch.randn(5, 6)
    torch.nn.init.constant_(block.w4.bias, -1e4)
    assert torch.equal(block(a), torch.nn.functional.layer_norm(a, (6,)))


@pytest.mark.parametrize("layout", toy.LAYOUTS)
def test_the_blocks_stand_on_top_of_the_last_hidden_states(layout, tokenizer):
    plain, model = made("full", layout, tokenizer), made("residual", layout, tokenizer, blocks=2)
    assert len(model.light) == 2
    hidden = packed.hidden_states(plain, BATCH)
    assert torch.allclose(packed.hidden_states(model, BATCH), model.light(hidden), atol=1e-6)


def test_the_body_takes_no_part_in_the_gradient(tokenizer):
    model = made("residual", "modernbert", tokenizer).train()
    seen = []
    model.base_model.final_norm.register_forward_hook(lambda m, given, out: seen.append(out.requires_grad))
    packed.hidden_states(model, BATCH)
    assert seen == [False]
