"""Extended checkpoints load in plain transformers, give the same there, and begin as what they came from."""

import json
from dataclasses import replace

import pytest
import stock
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from wellread.errors import UserError
from wellread.models import build, heads, packed
from wellread.models.long.extend import Extension, check, extend, tiled

WINDOW = Extension(256, "window", window=16)
BLOCKS = Extension(256, "bigbird", block=8, random=2)
FULL = Extension(256, "full")
WAYS = {"window": WINDOW, "bigbird": BLOCKS, "full": FULL}
# Around the window's and the blocks' borders; up to 72 tokens BigBird sees everything.
LENGTHS = [1, 2, 8, 9, 10, 16, 17, 40, 48, 71, 72, 73, 80, 81, 99, 100, 129, 255, 256]


@pytest.fixture(scope="module")
def long(short, tmp_path_factory):
    base = tmp_path_factory.mktemp("long")
    for name, wanted in WAYS.items():
        extend(short["bert"], base / name, wanted)
    extend(short["modernbert"], base / "modernbert", Extension(256))
    return base


def alone(length, seed=0):
    return stock.batch([length], seed=seed).input_ids[None]


def close(got, wanted, tolerance=1e-4):
    assert got.shape == wanted.shape
    assert (got - wanted).abs().max() <= tolerance


@given(rows=st.integers(1, 40), length=st.integers(1, 130))
@hypothesis_settings(max_examples=50, deadline=None)
def test_tiled_rows_repeat_and_the_last_copy_is_cut(rows, length):
    table = torch.randn(rows, 3)
    found = tiled(table, length)
    assert found.shape == (length, 3)
    assert all(torch.equal(found[i], table[i % rows]) for i in range(length))


@pytest.mark.parametrize(
    ("name", "layout"),
    [("window", "longformer"), ("bigbird", "big_bird"), ("full", "bert"), ("modernbert", "modernbert")],
)
@torch.no_grad()
def test_plain_transformers_gives_the_same_at_every_length(long, name, layout):
    """All lengths in one packed row of ours, each alone in the stock model."""
    model = packed.enable(build.load(long / name, "mlm")).eval()
    assert model.config.model_type == layout
    logits = heads.lm_logits(model, packed.hidden_states(model, stock.batch(LENGTHS))).split(LENGTHS)
    texts = stock.batch(LENGTHS).input_ids.split(LENGTHS)
    plain = AutoModelForMaskedLM.from_pretrained(long / name).eval()
    # The longest first: a stock BigBird that has met a short text is dense from then on.
    for ids, got in reversed(list(zip(texts, logits, strict=True))):
        close(got, plain(input_ids=ids[None]).logits[0])
    body = AutoModel.from_pretrained(long / name).eval()
    assert body(input_ids=texts[-1][None]).last_hidden_state.shape == (1, LENGTHS[-1], 32)


def test_gradients_equal_those_of_plain_transformers(long):
    for name in ("window", "bigbird"):
        ids, weights, found = alone(150), torch.randn(150, stock.VOCAB), []
        for ours in (True, False):
            model = AutoModelForMaskedLM.from_pretrained(long / name).train()
            batch = stock.batch([150])
            logits = (
                heads.lm_logits(model, packed.hidden_states(model, batch)) if ours else model(ids).logits[0]
            )
            (logits * weights).sum().backward()
            found.append({key: p.grad for key, p in model.named_parameters() if p.grad is not None})
        assert found[0].keys() == found[1].keys()
        for key, wanted in found[1].items():
            assert (found[0][key] - wanted).abs().max() <= 1e-5 * max(1.0, float(wanted.abs().max())), key


def test_gradients_through_global_tokens_equal_those_of_plain_transformers(long, tmp_path):
    """A classifier's, whose first token has projections of its own."""
    model = heads.task_model(long / "window", stock.tokenizer(), "classify", ("a", "b", "c"), 0.0, seed=2)
    stock.randomise(model)
    build.save(model, stock.tokenizer(), tmp_path)
    weights, found = torch.randn(3), []
    for ours in (True, False):
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
        batch = stock.batch([150])
        logits = heads.sequence_logits(model, batch)[0] if ours else model(alone(150)).logits[0]
        (logits * weights).sum().backward()
        found.append({key: p.grad for key, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert any("key_global" in key for key in found[0])
    for key, wanted in found[1].items():
        close(found[0][key], wanted, 1e-5 * max(1.0, float(wanted.abs().max())))


@torch.no_grad()
def test_the_first_positions_give_what_the_short_model_gave(short, long, tmp_path):
    """A window no shorter than the text, and blocks on short texts, are the full attention of before."""
    wide = tmp_path / "wide"
    extend(short["bert"], wide, Extension(256, "window", window=96))
    for layout, folders in (
        ("bert", [wide, long / "bigbird", long / "full"]),
        ("modernbert", [long / "modernbert"]),
    ):
        before = AutoModelForMaskedLM.from_pretrained(short[layout]).eval()
        for folder in folders:
            after = AutoModelForMaskedLM.from_pretrained(folder).eval()
            for length in (1, 5, 47, 48):
                close(after(alone(length)).logits, before(alone(length)).logits, 1e-5)
    narrow = AutoModelForMaskedLM.from_pretrained(long / "window").eval()
    before = AutoModelForMaskedLM.from_pretrained(short["bert"]).eval()
    assert (narrow(alone(48)).logits - before(alone(48)).logits).abs().max() > 1e-3


@torch.no_grad()
def test_a_global_token_begins_with_the_projections_of_the_others(short, tmp_path):
    """So a fresh classifier with a window over the whole text reads it as the BERT did."""
    extend(short["bert"], tmp_path / "wide", Extension(256, "window", window=96))
    model = heads.task_model(tmp_path / "wide", stock.tokenizer(), "classify", ("a", "b"), 0.0, 1).eval()
    before = packed.enable(build.load(short["bert"], None)).eval()
    batch = stock.batch([48, 5, 17])
    close(packed.hidden_states(model, batch), packed.hidden_states(before, batch), 1e-5)


@pytest.mark.parametrize("kind", ["classify", "multilabel", "regress", "tag"])
@pytest.mark.parametrize("name", ["window", "bigbird", "full", "modernbert"])
@torch.no_grad()
def test_heads_equal_those_of_plain_transformers(long, name, kind, tmp_path):
    labels = ("score",) if kind == "regress" else ("a", "b", "c")
    model = heads.task_model(long / name, stock.tokenizer(), kind, labels, 0.1, seed=2).eval()
    stock.randomise(model)
    build.save(model, stock.tokenizer(), tmp_path)
    packed.enable(model)
    auto = AutoModelForTokenClassification if kind == "tag" else AutoModelForSequenceClassification
    for length in (1, 30, 100, 256):
        plain = auto.from_pretrained(tmp_path).eval()
        batch = stock.batch([length])
        logits = heads.token_logits(model, batch) if kind == "tag" else heads.sequence_logits(model, batch)
        wanted = plain(input_ids=batch.input_ids[None]).logits
        close(logits, wanted[0] if kind == "tag" else wanted)


@torch.no_grad()
def test_both_texts_of_a_pair_keep_their_types(long):
    types = (torch.arange(120) >= 60).long()
    for name in ("window", "bigbird"):
        model = build.load(long / name, "mlm").eval()
        batch = replace(stock.batch([120]), token_type_ids=types)
        plain = AutoModelForMaskedLM.from_pretrained(long / name).eval()
        wanted = plain.base_model(input_ids=alone(120), token_type_ids=types[None]).last_hidden_state[0]
        close(packed.hidden_states(model, batch), wanted)


@torch.no_grad()
def test_editing_one_text_leaves_the_others_bitwise_unchanged(long):
    for name in ("window", "bigbird"):
        model = heads.task_model(long / name, stock.tokenizer(), "classify", ("a", "b"), 0.0, 1).eval()
        batch, edited = stock.batch([90, 110, 110]), stock.batch([90, 110, 110])
        edited.input_ids[95:190] = edited.input_ids[95:190].flip(0)
        before, after = packed.hidden_states(model, batch), packed.hidden_states(model, edited)
        assert torch.equal(before[:90], after[:90])
        assert torch.equal(before[200:], after[200:])
        assert not torch.equal(before[90:200], after[90:200])


def test_the_tokenizer_comes_along_and_knows_the_length(short, long):
    for name in ("window", "bigbird", "full", "modernbert"):
        tokenizer = AutoTokenizer.from_pretrained(long / name)
        assert tokenizer.model_max_length == 256
        assert tokenizer("w1 w2 w3").input_ids == stock.tokenizer()("w1 w2 w3").input_ids
        assert build.longest(build.load_config(long / name)) == 256


def test_modernbert_keeps_its_local_and_global_layers(short, long):
    before, after = (
        json.loads((folder / "config.json").read_text())
        for folder in (short["modernbert"], long / "modernbert")
    )
    assert {key for key in before if before[key] != after[key]} == {"max_position_embeddings"}


def test_a_bare_encoder_stays_one_and_a_head_of_another_activation_is_left_behind(short, tmp_path):
    build.save(build.load(short["bert"], None), stock.tokenizer(), tmp_path / "bare")
    assert extend(tmp_path / "bare", tmp_path / "a", WINDOW)["class"] == "LongformerModel"
    model = build.load(short["bert"], "mlm", hidden_act="relu")
    build.save(model, stock.tokenizer(), tmp_path / "relu")
    assert extend(tmp_path / "relu", tmp_path / "b", WINDOW)["class"] == "LongformerModel"
    assert extend(tmp_path / "relu", tmp_path / "c", BLOCKS)["class"] == "BigBirdForMaskedLM"


@pytest.mark.parametrize(
    ("layout", "changes", "where", "cause"),
    [
        ("bert", {"length": 48, "attention": "full"}, "--length", "48 tokens already"),
        ("bert", {"length": 256, "window": 258}, "--window", "larger than the 256 positions"),
        ("bert", {"length": 256, "window": 15}, "--window", "each side"),
        ("bert", {"length": 256, "window": 0}, "--window", "each side"),
        ("bert", {"length": 250, "attention": "bigbird", "block": 8}, "--block", "whole number"),
        ("bert", {"length": 256, "attention": "bigbird", "block": 64}, "--block", "up to 704 tokens"),
        (
            "bert",
            {"length": 256, "attention": "bigbird", "block": 8, "random": 0},
            "--random",
            "at least one",
        ),
        ("modernbert", {"length": 256, "attention": "window"}, "--attention", "cannot take 'window'"),
        ("llama", {"length": 256}, "", "looks back only"),
    ],
)
def test_what_cannot_be_done_is_refused(short, tmp_path, layout, changes, where, cause):
    with pytest.raises(UserError) as error:
        extend(short[layout], tmp_path / "to", Extension(**changes))
    assert cause in error.value.what
    assert error.value.fix
    assert error.value.where == (where or str(short[layout]))
    assert not (tmp_path / "to").exists()


def test_long_ones_fine_tuned_ones_and_taken_folders_are_refused(short, long, tmp_path):
    with pytest.raises(UserError, match="is long already"):
        extend(long / "window", tmp_path / "to", Extension(512))
    tuned = heads.task_model(short["bert"], stock.tokenizer(), "classify", ("a", "b"), 0.0, 1)
    build.save(tuned, stock.tokenizer(), tmp_path / "tuned")
    with pytest.raises(UserError, match="fine-tuned head"):
        extend(tmp_path / "tuned", tmp_path / "to", WINDOW)
    assert extend(tmp_path / "tuned", tmp_path / "to", FULL)["class"] == "BertForSequenceClassification"
    with pytest.raises(UserError, match="something in the folder"):
        extend(short["bert"], tmp_path / "to", FULL)
    assert check(build.load_config(short["bert"]), Extension(4096), "x") == "window"
