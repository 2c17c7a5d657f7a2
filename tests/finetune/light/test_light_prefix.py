"""Prefixes: at the start a decoder's is the text after real words; in any model it is plain attention."""

import pytest
import torch
import toy
from equipped import BATCH, LONG, ROWS, logits, made, randomise
from transformers import DynamicCache

from wellread import rng
from wellread.finetune.light import prefix, prompts
from wellread.models import packed
from wellread.models.build import seeded
from wellread.tokens.batch import pack

SIZE = 3


@pytest.mark.parametrize("layout", ["llama", "gpt2"])
def test_a_new_prefix_is_words_before_the_text(layout, tokenizer):
    model, plain = made("prefix", layout, tokenizer, vectors=SIZE), made("full", layout, tokenizer)
    with seeded(rng.derive(1, "finetune-light")):
        words = prompts.random_words(plain, SIZE).tolist()
    whole = packed.hidden_states(plain, pack([words + row for row in ROWS]))
    text = torch.cat([row[SIZE:] for row in whole.split([len(row) + SIZE for row in ROWS])])
    assert torch.allclose(packed.hidden_states(model, BATCH), text, atol=1e-5)


@pytest.mark.parametrize("layout", ["llama", "gpt2"])
def test_decoders_as_a_stock_model_with_a_cache(layout, tokenizer):
    model, stock = randomise(made("prefix", layout, tokenizer, vectors=SIZE)), made("full", layout, tokenizer)
    packed.disable(stock)
    for row in ROWS:
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(zip(model.light.keys, model.light.values, strict=True)):
            cache.update(keys[None], values[None], layer)
        expected = stock.base_model(
            input_ids=torch.tensor([row]),
            position_ids=torch.arange(SIZE, SIZE + len(row))[None],
            past_key_values=cache,
        ).last_hidden_state[0]
        assert torch.allclose(packed.hidden_states(model, pack([row])), expected, atol=1e-5)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("causal", [False, True])
def test_the_attention_written_out(window, causal):
    if causal and window:
        pytest.skip("no layout has a causal window")
    torch.manual_seed(0)
    lengths, heads, dimension = [5, 5, 2], 2, 4
    q, k, v = torch.randn(3, 1, heads, 12, dimension)
    learnt = prefix.Prefix(torch.randn(2, heads, SIZE, dimension), torch.randn(2, heads, SIZE, dimension))
    layer = torch.nn.Module()
    layer.layer_idx, layer.is_causal = 1, causal
    found, _ = prefix.attention(
        layer, q, k, v, None, prefix=learnt, lengths=lengths, sliding_window=window, scaling=0.7
    )
    begin = 0
    for length in lengths:
        part = slice(begin, begin + length)
        begin += length
        for head in range(heads):
            keys = torch.cat([learnt.keys[1, head], k[0, head, part]])
            values = torch.cat([learnt.values[1, head], v[0, head, part]])
            scores = 0.7 * q[0, head, part] @ keys.T
            for i in range(length):
                for j in range(length):
                    if (window and abs(i - j) >= window) or (causal and j > i):
                        scores[i, SIZE + j] = -torch.inf
            assert torch.allclose(found[0, part, head], scores.softmax(-1) @ values, atol=1e-5)


@pytest.mark.parametrize("layout", toy.LAYOUTS)
def test_sequences_do_not_see_each_other(layout, tokenizer):
    model = randomise(made("prefix", layout, tokenizer, vectors=SIZE))
    for batch in (BATCH, LONG):
        rows = batch.input_ids.split(batch.lengths)
        alone = torch.cat([logits(model, pack([row.tolist()])) for row in rows])
        assert torch.allclose(logits(model, batch), alone, atol=1e-5)


@pytest.mark.parametrize("layout", ["modernbert", "bert"])
def test_a_prefix_that_nobody_attends_to_changes_nothing(layout, tokenizer):
    """Keys far against every query have no weight; what is left is the text at shifted positions."""
    model, plain = made("prefix", layout, tokenizer, vectors=1), made("full", layout, tokenizer)
    before = prefix.attention

    def unseen(module, query, key, value, mask, *, prefix, lengths, **options):
        empty = type(prefix)(prefix.keys[:, :, :0].detach(), prefix.values[:, :, :0].detach())
        return before(module, query, key, value, mask, prefix=empty, lengths=lengths, **options)

    prefix.AttentionInterface.register(prefix.NAME, unseen)
    try:
        found = packed.hidden_states(model, LONG)
    finally:
        prefix.AttentionInterface.register(prefix.NAME, before)
    expected = plain.base_model(
        input_ids=LONG.input_ids[None],
        position_ids=LONG.position_ids[None] + 1,
        cu_seqlens=LONG.cu_seqlens,
        lengths=LONG.lengths,
    ).last_hidden_state[0]
    assert torch.allclose(found, expected, atol=1e-5)
