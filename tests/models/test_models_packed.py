"""Packed models equal the stock padded ones, in outputs and gradients, for all four layouts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import stock
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from wellread.models import build, heads, packed

# ModernBERT's local layers here see 4 tokens to each side: 5 is the last length that needs no mask.
MIXTURES = {
    "single token": [1],
    "single token first": [1, 17, 1],
    "window and just above": [4, 5, 6, 8, 9, 10],
    "equal neighbours": [7, 7, 7, 12, 12, 7, 1, 1],
    "longest": [stock.MAX_LENGTH, 1, stock.MAX_LENGTH],
}


def language_model(layout: str, **changes):
    settings = stock.settings(layout, **changes)
    objective = "clm" if settings.causal else "mlm"
    model = build.build(settings, stock.tokenizer(), objective, seed=1)
    stock.randomise(model)
    return model.eval()


def gradients(model, output, weights) -> dict[str, torch.Tensor]:
    model.zero_grad()
    (output * weights).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(model, batch, run_packed, run_stock, tolerance=1e-5):
    """Outputs and every parameter's gradient agree, relative to the largest entry."""
    expected = run_stock(packed.disable(model))
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(5))
    wanted = gradients(model, expected, weights)
    got = run_packed(packed.enable(model))
    found = gradients(model, got, weights)
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= tolerance * max(1.0, expected.detach().abs().max())
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        scale = max(1.0, float(gradient.abs().max()))
        assert (found[name] - gradient).abs().max() <= tolerance * scale, name


def stock_logits(batch):
    inputs = stock.padded(batch)

    def run(model):
        return model(**inputs).logits[inputs["attention_mask"].bool()]

    return run


def packed_logits(batch):
    return lambda model: heads.lm_logits(model, packed.hidden_states(model, batch))


@pytest.mark.parametrize("lengths", MIXTURES.values(), ids=MIXTURES.keys())
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("layout", stock.LAYOUTS)
def test_language_model_equals_padded_stock(layout, training, lengths):
    model = language_model(layout).train(training)
    batch = stock.batch(lengths)
    assert_same(model, batch, packed_logits(batch), stock_logits(batch))


@pytest.mark.parametrize("layout", stock.LAYOUTS)
def test_every_length_up_to_the_maximum(layout):
    model = language_model(layout, layers=2, global_every=2)
    batch = stock.batch(list(range(1, stock.MAX_LENGTH + 1)))
    assert_same(model, batch, packed_logits(batch), stock_logits(batch))


@hypothesis_settings(max_examples=15, deadline=None)
@given(
    layout=st.sampled_from(stock.LAYOUTS),
    lengths=st.lists(st.integers(1, stock.MAX_LENGTH), min_size=1, max_size=6),
    window=st.integers(1, 60),
    seed=st.integers(0, 1000),
)
def test_any_mixture_and_window(layout, lengths, window, seed):
    model = language_model(layout, layers=2, global_every=2, local_attention=window)
    batch = stock.batch(lengths, seed)
    assert_same(model, batch, packed_logits(batch), stock_logits(batch))


def test_real_window_and_long_sequences():
    """At the scale of real models: a window of 128 and sequences around and far above it."""
    model = language_model("modernbert", max_length=700, local_attention=128, global_every=2, layers=2)
    batch = stock.batch([700, 65, 66, 128, 129, 385, 512, 513, 640, 641])
    assert_same(model, batch, packed_logits(batch), stock_logits(batch))


@hypothesis_settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=4),
    window=st.integers(1, 80),
    seed=st.integers(0, 1000),
)
def test_blocks_of_a_local_layer_equal_one_mask(lengths, window, seed):
    """Long sequences go through local layers in blocks; the stock model masks all pairs."""
    model = language_model("modernbert", max_length=300, layers=2, global_every=2, local_attention=window)
    batch = stock.batch(lengths, seed)
    assert_same(model, batch, packed_logits(batch), stock_logits(batch))


def test_bert_is_told_which_text_of_a_pair_a_token_belongs_to():
    """As public BERT checkpoints expect; the other layouts know no types."""
    model = heads.task_model(stock.settings("bert"), stock.tokenizer(), "classify", ("a", "b"), 0.0, seed=2)
    stock.randomise(model)
    plain = stock.batch([6, 1, 9, 9])
    types = torch.cat([(torch.arange(length) >= length // 2).long() for length in plain.lengths])
    batch = replace(plain, token_type_ids=types)
    rows = torch.nn.utils.rnn.pad_sequence(types.split(plain.lengths), batch_first=True)
    inputs = {**stock.padded(plain), "token_type_ids": rows}
    assert_same(model, batch, lambda m: heads.sequence_logits(m, batch), lambda m: m(**inputs).logits)
    packed.enable(model)
    assert not torch.allclose(heads.sequence_logits(model, batch), heads.sequence_logits(model, plain))
    other = packed.enable(language_model("modernbert"))
    assert torch.equal(packed.hidden_states(other, batch), packed.hidden_states(other, plain))


@pytest.mark.parametrize("layout", stock.LAYOUTS)
@pytest.mark.parametrize("kind", ["classify", "multilabel", "regress", "tag"])
def test_task_heads_equal_padded_stock(layout, kind):
    labels = ("score",) if kind == "regress" else ("a", "b", "c")
    model = heads.task_model(stock.settings(layout), stock.tokenizer(), kind, labels, 0.0, seed=2)
    stock.randomise(model)
    batch = stock.batch([3, 1, 9, 9, 48, 5])
    inputs = stock.padded(batch)
    if kind == "tag":
        assert_same(model, batch, lambda m: heads.token_logits(m, batch), stock_logits(batch))
    else:
        assert_same(model, batch, lambda m: heads.sequence_logits(m, batch), lambda m: m(**inputs).logits)


def test_modernbert_first_token_pooling_equals_stock():
    model = heads.task_model(
        stock.settings("modernbert"), stock.tokenizer(), "classify", ("a", "b"), 0.0, seed=2
    )
    model.config.classifier_pooling = "cls"
    batch = stock.batch([3, 1, 9, 48])
    inputs = stock.padded(batch)
    assert_same(model, batch, lambda m: heads.sequence_logits(m, batch), lambda m: m(**inputs).logits)


@pytest.mark.parametrize("layout", stock.LAYOUTS)
def test_editing_one_sequence_leaves_the_others_bitwise_unchanged(layout):
    model = packed.enable(language_model(layout))
    batch = stock.batch([6, 11, 11, 1, 30])
    begin, end = 6, 17
    edited = stock.batch([6, 11, 11, 1, 30])
    edited.input_ids[begin:end] = edited.input_ids[begin:end].flip(0)
    assert not torch.equal(edited.input_ids, batch.input_ids)
    with torch.no_grad():
        before, after = packed.hidden_states(model, batch), packed.hidden_states(model, edited)
    assert torch.equal(before[:begin], after[:begin])
    assert torch.equal(before[end:], after[end:])
    assert not torch.equal(before[begin:end], after[begin:end])


@pytest.mark.parametrize("layout", ["llama", "gpt2"])
def test_decoders_never_see_the_future(layout):
    model = packed.enable(language_model(layout))
    batch, edited = stock.batch([9, 20]), stock.batch([9, 20])
    edited.input_ids[15] = 5 + (edited.input_ids[15] - 4) % (stock.VOCAB - 5)
    with torch.no_grad():
        before, after = packed.hidden_states(model, batch), packed.hidden_states(model, edited)
    assert torch.equal(before[:15], after[:15])
    assert not torch.equal(before[15:], after[15:])


def test_local_layers_see_exactly_the_window():
    """One local layer: the output of token i depends on token j exactly where |i - j| <= 4."""
    model = packed.enable(language_model("modernbert", layers=2, global_every=2))
    layer = model.model.layers[1]
    assert layer.attention_type == "sliding_attention"
    value = torch.eye(24).reshape(1, 1, 24, 24)
    scores = torch.zeros(1, 1, 24, 24)
    seen, _ = packed.attention(
        layer.attn,
        scores,
        scores,
        value,
        None,
        lengths=[24],
        cu_seqlens=torch.tensor([0, 24], dtype=torch.int32),
        sliding_window=layer.attn.sliding_window,
    )
    position = torch.arange(24)
    assert torch.equal(seen[0, :, 0] > 0, (position[:, None] - position[None]).abs() <= 4)


@pytest.mark.parametrize("layout", stock.LAYOUTS)
def test_attention_dropout_acts_in_training_only(layout, monkeypatch):
    model = packed.enable(language_model(layout, dropout=0.3))
    batch = stock.batch([12, 30])
    drops = []
    loop, kernel = packed._sequences, packed.compiled.attend

    def spy_on_loop(query, key, value, rule):
        drops.append(rule.dropout)
        return loop(query, key, value, rule)

    def spy_on_kernel(*tensors, dropout, **rule):
        drops.append(dropout)
        return kernel(*tensors, dropout=dropout, **rule)

    monkeypatch.setattr(packed, "_sequences", spy_on_loop)
    monkeypatch.setattr(packed.compiled, "attend", spy_on_kernel)
    with torch.no_grad():
        quiet = packed.hidden_states(model, batch)
        assert torch.equal(quiet, packed.hidden_states(model, batch))
        quiet_calls = len(drops)
        model.train()
        torch.manual_seed(0)
        first = packed.hidden_states(model, batch)
        second = packed.hidden_states(model, batch)
        torch.manual_seed(0)
        again = packed.hidden_states(model, batch)
    assert set(drops[:quiet_calls]) == {0.0}
    assert set(drops[quiet_calls:]) == {0.3}
    assert not torch.equal(first, second)
    assert torch.equal(first, again)


def test_grouped_query_checkpoints_run_packed():
    """A public Llama with fewer key heads than query heads."""
    config = build.build_config(stock.settings("llama", heads=4), stock.tokenizer())
    config.num_key_value_heads = 2
    with build.seeded(0):
        model = build.MODELS["clm"].from_config(config).eval()
    batch = stock.batch([1, 8, 8, 30])
    assert_same(model, batch, packed_logits(batch), stock_logits(batch))


@pytest.mark.parametrize("layout", stock.LAYOUTS)
def test_gradient_checkpointing_changes_nothing(layout):
    model = packed.enable(language_model(layout)).train()
    batch = stock.batch([3, 20, 7])
    weights = torch.randn(30, stock.VOCAB, generator=torch.Generator().manual_seed(3))
    plain = gradients(model, packed_logits(batch)(model), weights)
    model.gradient_checkpointing_enable()
    again = gradients(model, packed_logits(batch)(model), weights)
    for name, gradient in plain.items():
        assert torch.equal(gradient, again[name]), name


def test_padded_call_of_an_enabled_model_is_refused():
    model = packed.enable(language_model("modernbert"))
    with pytest.raises(ValueError, match="cu_seqlens"):
        model(**stock.padded(stock.batch([3, 4])))


@pytest.mark.parametrize("layout", stock.LAYOUTS)
def test_packed_switch_is_not_saved(layout, tmp_path: Path):
    model = packed.enable(language_model(layout))
    build.save(model, stock.tokenizer(), tmp_path)
    for path in tmp_path.glob("*.json"):
        assert packed.NAME not in path.read_text()
    assert packed.disable(model).config._attn_implementation == "sdpa"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("layout", stock.LAYOUTS)
def test_varlen_kernel_equals_the_loop(layout):
    model = language_model(layout).cuda().to(torch.bfloat16)
    batch = stock.batch([1, 5, 6, 9, 30, 48]).to("cuda")
    expected = language_model(layout).cuda()
    with torch.no_grad():
        got = packed.hidden_states(packed.enable(model), batch).float()
        wanted = packed.hidden_states(packed.enable(expected), batch)
    assert (got - wanted).abs().max() < 0.05 * wanted.abs().max()


def test_varlen_call_has_the_right_window(monkeypatch):
    """What the GPU kernel is asked for, checked without one."""
    import torch.nn.attention.varlen as varlen

    calls = []

    def fake(query, key, value, cu_q, cu_k, max_q, max_k, **options):
        calls.append((max_q, max_k, options))
        return query

    monkeypatch.setattr(varlen, "varlen_attn", fake)
    tensor = torch.zeros(7, 2, 4)
    seams = torch.tensor([0, 3, 7], dtype=torch.int32)
    for causal, distance, window in [
        (False, None, (-1, -1)),
        (True, None, (-1, 0)),
        (False, 64, (64, 64)),
    ]:
        packed._varlen(tensor, tensor, tensor, seams, 4, packed._Rule(0.5, causal, distance, 0.0))
        assert calls[-1] == (4, 4, {"scale": 0.5, "window_size": window, "enable_gqa": False})


@pytest.mark.parametrize("layout", ["modernbert", "bert", "llama"])
def test_a_tail_that_rounds_the_tokens_up_changes_nothing(layout):
    """To the rounding of another order of sums, and without a gradient of its own."""
    model = packed.enable(language_model(layout))
    batch = stock.batch([30, 1, 6])
    longer = packed._with_tail(batch, 11)
    assert longer.tokens == 48 and longer.sequences == 4 and longer.lengths[-1] == 11

    def states(given):
        model.zero_grad()
        hidden = packed._hidden_states(model, given)[: batch.tokens]
        hidden.square().sum().backward()
        return hidden, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    (found, gradients), (expected, wanted) = states(longer), states(batch)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for name, gradient in wanted.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-4, msg=name)


def test_under_autocast_few_numbers_of_tokens_are_multiplied(monkeypatch):
    model = packed.enable(language_model("modernbert"))
    seen = []
    run = packed._hidden_states
    monkeypatch.setattr(packed, "_hidden_states", lambda m, b: seen.append(b.tokens) or run(m, b))
    for size in (33, 34, 36, 31):
        batch = stock.batch([size - 10, 10])
        assert packed.hidden_states(model, batch).shape[0] == size
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert packed.hidden_states(model, batch).shape[0] == size
    assert seen == [33, 34, 34, 34, 36, 36, 31, 31]
