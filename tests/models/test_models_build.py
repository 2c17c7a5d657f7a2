"""Building, saving and safely loading stock models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import stock
import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from wellread.errors import ArtefactError
from wellread.models import build, heads, packed

SAVED = {"mlm": AutoModelForMaskedLM, "clm": AutoModelForCausalLM}


def objective(layout: str) -> str:
    return "clm" if stock.settings(layout).causal else "mlm"


@pytest.fixture(params=stock.LAYOUTS)
def layout(request) -> str:
    return request.param


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved ModernBERT language model."""
    model = build.build(stock.settings("modernbert"), stock.tokenizer(), "mlm", seed=0)
    build.save(model, stock.tokenizer(), tmp_path / "model")
    return tmp_path / "model"


def test_config_follows_the_settings(layout):
    settings = stock.settings(layout, dropout=0.2, init_std=0.07)
    tokenizer = stock.tokenizer()
    config = build.build_config(settings, tokenizer)
    assert config.vocab_size == len(tokenizer)
    assert config.hidden_size == 32
    assert config.num_hidden_layers == 3
    assert config.max_position_embeddings == stock.MAX_LENGTH
    assert (config.n_inner if layout == "gpt2" else config.intermediate_size) == 48
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (0, 2, 3)
    assert config.initializer_range == 0.07
    assert config.tie_word_embeddings
    for name in build.dropouts(layout, 0.2):
        assert getattr(config, name) == 0.2


def test_every_dropout_module_takes_the_setting(layout):
    """No dropout of a task model keeps a stock default."""
    for kind in ("classify", "tag"):
        model = heads.task_model(stock.settings(layout), stock.tokenizer(), kind, ("a", "b"), 0.25, 0)
        probabilities = {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)}
        assert probabilities <= {0.25}
        attention = [m.attention_dropout for m in model.modules() if hasattr(m, "attention_dropout")]
        assert set(attention) <= {0.25}
        assert probabilities or attention


def test_modernbert_layers_follow_global_every():
    settings = stock.settings("modernbert", layers=5, global_every=2, local_attention=16)
    config = build.build_config(settings, stock.tokenizer())
    kinds = ["full_attention", "sliding_attention"]
    assert config.layer_types == [kinds[layer % 2] for layer in range(5)]
    assert config.local_attention == 16
    model = build.build(settings, stock.tokenizer(), "mlm", 0)
    # the decoder's output bias is ModernBERT's only bias
    assert [name for name, _ in model.named_parameters() if name.endswith("bias")] == ["decoder.bias"]


def test_initial_weights_have_the_requested_scale(layout):
    settings = stock.settings(layout, hidden=128, ffn=128, init_std=0.05)
    model = build.build(settings, stock.tokenizer(), objective(layout), 0)
    table = model.get_input_embeddings().weight[1:]
    expected = 0.05 * (0.88 if layout == "modernbert" else 1.0)  # cut off at two standard deviations
    assert abs(float(table.detach().std()) / expected - 1) < 0.03


def test_same_seed_same_weights_and_the_generator_is_left_alone(layout):
    settings, tokenizer = stock.settings(layout), stock.tokenizer()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first = build.build(settings, tokenizer, objective(layout), seed=4)
    assert torch.equal(torch.rand(3), expected)
    second = build.build(settings, tokenizer, objective(layout), seed=4)
    other = build.build(settings, tokenizer, objective(layout), seed=5)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
    assert not torch.equal(first.get_input_embeddings().weight, other.get_input_embeddings().weight)


def test_saved_model_loads_with_stock_classes_and_gives_the_same_logits(layout, tmp_path):
    kind = objective(layout)
    model = build.build(stock.settings(layout), stock.tokenizer(), kind, seed=0).eval()
    stock.randomise(model)
    build.save(packed.enable(model), stock.tokenizer(), tmp_path)
    again = SAVED[kind].from_pretrained(tmp_path).eval()
    inputs = stock.padded(stock.batch([3, 40, 9]))
    with torch.no_grad():
        assert torch.equal(packed.disable(model)(**inputs).logits, again(**inputs).logits)
        assert torch.equal(again(**inputs).logits, build.load(tmp_path, kind).eval()(**inputs).logits)
        bare = build.load(tmp_path, None).eval()
        stock_bare = AutoModel.from_pretrained(tmp_path).eval()
        assert torch.equal(bare(**inputs).last_hidden_state, stock_bare(**inputs).last_hidden_state)


def test_task_models_reload_with_their_heads(layout, tmp_path):
    stock_classes = {"tag": AutoModelForTokenClassification, "classify": AutoModelForSequenceClassification}
    for kind, auto in stock_classes.items():
        model = heads.task_model(stock.settings(layout), stock.tokenizer(), kind, ("a", "b", "c"), 0.1, 0)
        build.save(model, stock.tokenizer(), tmp_path / kind)
        again = auto.from_pretrained(tmp_path / kind).eval()
        ours = build.load(tmp_path / kind, kind).eval()
        inputs = stock.padded(stock.batch([3, 40, 9]))
        with torch.no_grad():
            assert torch.equal(model.eval()(**inputs).logits, again(**inputs).logits)
            assert torch.equal(again(**inputs).logits, ours(**inputs).logits)
        assert again.config.id2label == {0: "a", 1: "b", 2: "c"}


def test_equal_models_give_equal_bytes(layout, tmp_path):
    for name in ("one", "two"):
        model = build.build(stock.settings(layout), stock.tokenizer(), objective(layout), seed=0)
        build.save(packed.enable(model) if name == "two" else model, stock.tokenizer(), tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "two").iterdir())
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_load_takes_changes_of_the_configuration(folder):
    model = build.load(folder, "mlm", mlp_dropout=0.5)
    assert model.model.layers[0].mlp.drop.p == 0.5


@pytest.mark.parametrize(
    "name", ["modeling.py", "pytorch_model.bin", "weights.pt", "extra/state.pkl", "adapter_config.json"]
)
@pytest.mark.parametrize("loader", [lambda f: build.load(f, "mlm"), build.load_config])
def test_files_that_can_carry_code_are_refused(folder, name, loader):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"raise SystemExit")
    with pytest.raises(ArtefactError, match="code") as caught:
        loader(folder)
    assert caught.value.where == str(path)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_auto_map_is_refused(folder, name):
    values = json.loads((folder / name).read_text())
    values["auto_map"] = {"AutoModel": "modeling.Evil"}
    (folder / name).write_text(json.dumps(values))
    with pytest.raises(ArtefactError, match="auto_map"):
        build.load(folder, "mlm")


def test_task_model_refuses_unsafe_folders_too(folder):
    (folder / "evil.py").write_text("raise SystemExit")
    with pytest.raises(ArtefactError, match="code"):
        heads.task_model(folder, stock.tokenizer(), "classify", ("a", "b"), 0.1, 0)


def edit_config(folder: Path, **changes) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | changes))


def truncate(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


BROKEN = {
    "missing folder": (lambda f: shutil.rmtree(f), "no such model folder"),
    "no config": (lambda f: (f / "config.json").unlink(), "config.json is missing"),
    "config is not JSON": (lambda f: (f / "config.json").write_text("{"), "not a model configuration"),
    "config is a list": (lambda f: (f / "config.json").write_text("[]"), "not a model configuration"),
    "config is binary": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "not a model"),
    "config without type": (lambda f: (f / "config.json").write_text("{}"), "not a model configuration"),
    "unknown layout": (lambda f: edit_config(f, model_type="t5"), "modernbert, bert, llama, gpt2"),
    "type is a number": (lambda f: edit_config(f, model_type=3), "not supported"),
    "impossible value": (lambda f: edit_config(f, hidden_size="wide"), "not a valid modernbert"),
    "impossible heads": (lambda f: edit_config(f, num_attention_heads=5), "cannot be loaded"),
    "other shape": (lambda f: edit_config(f, hidden_size=64), "asks for"),
    "other vocabulary": (lambda f: edit_config(f, vocab_size=50), "\\(97,\\), but .* asks for \\(50,\\)"),
    "more layers": (
        lambda f: edit_config(f, num_hidden_layers=4, layer_types=["full_attention"] * 4),
        "missing",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no \\*.safetensors file"),
    "cut weights": (truncate, "cannot be loaded"),
    "empty weights": (lambda f: (f / "model.safetensors").write_bytes(b""), "cannot be loaded"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_folders_are_refused(folder, name):
    damage, message = BROKEN[name]
    damage(folder)
    with pytest.raises(ArtefactError, match=message) as caught:
        build.load(folder, "mlm")
    assert str(folder) in caught.value.where
    assert caught.value.fix


def test_a_head_that_was_never_saved_is_not_made_up(folder):
    with pytest.raises(ArtefactError, match="classifier"):
        build.load(folder, "classify")


def test_attention_named_in_a_config_is_not_obeyed(folder):
    """A configuration must not be able to choose an attention kernel to be fetched and run."""
    edit_config(folder, _attn_implementation="some/kernel", attn_implementation="some/kernel")
    assert build.load(folder, "mlm").config._attn_implementation == "sdpa"
