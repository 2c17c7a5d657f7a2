"""TinyAttention: within each sequence only, backwards only in decoders, as written out in full."""

import pytest
import torch
import toy
from equipped import BATCH, ROWS, logits, made, randomise

from wellread.finetune.light.tiny_attention import TinyAttention
from wellread.tokens.batch import pack


@pytest.mark.parametrize("causal", [False, True])
def test_the_formula(causal):
    torch.manual_seed(0)
    adapter = TinyAttention(6, 3, causal=causal)
    torch.nn.init.normal_(adapter.out.weight)
    lengths = [4, 2]
    adapter.bounds = {"cu_seqlens": torch.tensor([0, 4, 6], dtype=torch.int32), "lengths": lengths}
    hidden = torch.randn(1, 6, 6)
    rows = []
    for h in hidden[0].split(lengths):
        q, k, v = (h @ adapter.qkv.weight.T + adapter.qkv.bias).chunk(3, dim=-1)
        heads = []
        for head in range(3):
            scores = q[:, head, None] * k[None, :, head]
            if causal:
                scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)
            heads.append(scores.softmax(-1) @ v[:, head])
        rows.append(h + torch.stack(heads, 1) @ adapter.out.weight.T + adapter.out.bias)
    assert torch.allclose(adapter(hidden)[0], torch.cat(rows), atol=1e-5)


@pytest.mark.parametrize("layout", toy.LAYOUTS)
def test_sequences_do_not_see_each_other(layout, tokenizer):
    model = randomise(made("tiny-attention", layout, tokenizer))
    alone = torch.cat([logits(model, pack([row])) for row in ROWS])
    assert torch.allclose(logits(model, BATCH), alone, atol=1e-5)


@pytest.mark.parametrize("layout", ["llama", "gpt2"])
def test_decoders_do_not_look_ahead(layout, tokenizer):
    model = randomise(made("tiny-attention", layout, tokenizer, "tag"))
    whole, begun = logits(model, pack([ROWS[2]])), logits(model, pack([ROWS[2][:4]]))
    assert torch.allclose(whole[:4], begun, atol=1e-5)


def test_a_padded_batch_is_refused(tokenizer):
    model = made("tiny-attention", "bert", tokenizer)
    model.set_attn_implementation("sdpa")
    with pytest.raises(ValueError, match="cu_seqlens"):
        model(input_ids=torch.tensor([[5, 6]]))
