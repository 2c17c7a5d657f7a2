import json
import math

import pytest
import safetensors.torch
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from wellread.errors import ArtefactError, RecipeError, UserError
from wellread.models import build, packed
from wellread.pretrain import checkpoint, loop
from wellread.pretrain import step as step_module
from wellread.pretrain.parts import make_model, split
from wellread.settings import SparsitySettings, TokenizerSettings
from wellread.sparsity import linear
from wellread.tokens import tokenizer as tokenizers
from wellread.tokens.batch import pack


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_masked_model_learns_and_leaves_what_the_contract_says(language, tmp_path):
    language.pretrain(tmp_path / "run", tokens=60_000, learning_rate=5e-3, masking={"rate": 0.2})
    facts = json.loads((tmp_path / "run" / "pretrain.json").read_text())
    validation = lines(tmp_path / "run" / "validation.jsonl")
    log = lines(tmp_path / "run" / "log.jsonl")
    assert validation[0]["step"] == 0 and len(validation) >= 10
    assert validation[-1]["loss"] < validation[0]["loss"] - 0.5
    assert validation[-1]["loss"] == facts["loss"]
    assert [record["step"] for record in log] == list(range(1, facts["steps"] + 1))
    assert log[-1]["tokens"] == facts["tokens"] and abs(facts["tokens"] - 60_000) < 600
    assert log[-1]["flops"] == facts["flops"]["accounted"] == facts["flops"]["dense"]
    assert set(log[0]) == {"step", "tokens", "flops", "loss", "learning_rate", "gradient_norm"}
    seconds = [record["seconds"] for record in lines(tmp_path / "run" / "timing.jsonl")]
    assert seconds == sorted(seconds)
    assert not (tmp_path / "run" / "checkpoints").exists() and not (tmp_path / "run" / "scratch").exists()
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "run" / "model")
    assert sum(parameter.numel() for parameter in model.parameters()) == facts["parameters"]
    assert AutoTokenizer.from_pretrained(tmp_path / "run" / "model").mask_token == "[MASK]"


def test_causal_model_learns_and_gives_bits_per_byte(causal_language, tmp_path):
    model = {"layout": "llama"}
    causal_language.pretrain(tmp_path / "run", model, tokens=40_000, learning_rate=5e-3)
    validation = lines(tmp_path / "run" / "validation.jsonl")
    assert validation[-1]["loss"] < validation[0]["loss"] - 1
    ratio = validation[-1]["bits_per_byte"] / validation[-1]["loss"]
    assert validation[0]["bits_per_byte"] == pytest.approx(ratio * validation[0]["loss"])
    assert 0.1 / math.log(2) < ratio < 1 / math.log(2)  # a token holds between 1 and 10 bytes here
    AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")


def test_level_zero_is_the_dense_run_to_the_bit(language, tmp_path, digests):
    language.pretrain(tmp_path / "dense")
    language.pretrain(tmp_path / "zero", sparsity={"level": 0.0, "pattern": "unstructured"})
    assert digests(tmp_path / "dense") == digests(tmp_path / "zero")


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_masked_weights_stay_zero_to_the_end(optimizer, language, tmp_path):
    language.pretrain(
        tmp_path / "run", optimizer=optimizer, sparsity={"level": 0.75}, weight_decay=0.1, epochs=None
    )
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "run" / "model")
    report = json.loads((tmp_path / "run" / "sparsity.json").read_text())
    assert report["level"] == pytest.approx(0.75, abs=1e-3)
    assert len(report["layers"]) == 2 * 4
    weights = dict(model.base_model.named_parameters())
    for layer in report["layers"]:
        weight = weights[layer["name"] + ".weight"]
        assert float((weight == 0).float().mean()) == pytest.approx(layer["level"], abs=1e-9)
    facts = json.loads((tmp_path / "run" / "pretrain.json").read_text())
    assert facts["flops"]["accounted"] < facts["flops"]["dense"]


@pytest.mark.parametrize("method", ["set", "rigl"])
def test_moving_weights_keep_the_level_and_are_reported(method, language, tmp_path):
    sparsity = {"level": 0.75, "pattern": "block4"}
    moving = sparsity | {"dynamic": method, "update_every": 2}
    language.pretrain(tmp_path / "static", sparsity=sparsity)
    language.pretrain(tmp_path / "run", sparsity=moving, weight_decay=0.1)
    reports = [json.loads((tmp_path / name / "sparsity.json").read_text()) for name in ("static", "run")]
    facts = [json.loads((tmp_path / name / "pretrain.json").read_text()) for name in ("static", "run")]
    found = reports[1].pop("dynamic")
    assert "dynamic" not in reports[0] | facts[0] and found == facts[1]["dynamic"]
    assert reports[0]["level"] == reports[1]["level"]
    assert found["method"] == method and found["moved"] == sum(found["layers"].values()) > 0
    assert set(found["layers"]) == {layer["name"] for layer in reports[1]["layers"]}
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "run" / "model")
    weights = dict(model.base_model.named_parameters())
    for layer in reports[1]["layers"]:
        zeros = float((weights[layer["name"] + ".weight"] == 0).float().mean())
        assert layer["level"] - 1e-9 <= zeros < layer["level"] + 0.05
    # 4 of 12 steps have one dense gradient more, which is a third of a dense step's matrices
    extra = (facts[1]["flops"]["accounted"] - facts[0]["flops"]["accounted"]) * 3 * reports[0]["level"]
    saved = facts[0]["flops"]["dense"] - facts[0]["flops"]["accounted"]
    assert extra / saved == pytest.approx(4 / 12 if method == "rigl" else 0, abs=0.02)


def test_static_checkpoints_hold_no_masks_and_moving_ones_a_bit_a_block(monkeypatch, language, tmp_path):
    saved = {}
    monkeypatch.setattr(checkpoint, "save", lambda _, step, tensors, *rest: saved.update(tensors))
    sparsity = {"level": 0.75, "pattern": "block4"}
    language.pretrain(tmp_path / "static", sparsity=sparsity, checkpoint_seconds=1e-9)
    assert saved and not any(name.startswith(("live.", "moved.")) for name in saved)
    static = set(saved)
    moving = sparsity | {"dynamic": "set", "update_every": 2}
    language.pretrain(tmp_path / "moving", sparsity=moving, checkpoint_seconds=1e-9)
    masks = {name: tensor for name, tensor in saved.items() if name.startswith("live.")}
    assert len(masks) == 2 * 4 and set(saved) - static == set(masks) | {
        name.replace("live.", "moved.") for name in masks
    }
    assert masks["live.layers.0.attn.Wqkv"].nbytes == 96 * 32 // 4**2 // 8


def test_a_run_too_short_for_any_update_is_refused(language, tmp_path):
    with pytest.raises(RecipeError) as caught:
        language.pretrain(tmp_path / "run", sparsity={"level": 0.5, "dynamic": "rigl"})
    assert caught.value.where == "pretrain.sparsity.update_every"


def test_accumulation_changes_rounding_only(language, tmp_path):
    losses = []
    for parts in (1, 4):
        language.pretrain(tmp_path / str(parts), accumulate=parts, tokens=3_000)
        losses.append([record["loss"] for record in lines(tmp_path / str(parts) / "log.jsonl")])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("layout", ["modernbert", "bert", "llama", "gpt2"])
def test_recomputing_activations_changes_no_bit(layout, language, causal_language, tmp_path, monkeypatch):
    spoken = causal_language if layout in ("llama", "gpt2") else language
    calls, real = [], packed.attention
    monkeypatch.setitem(
        ALL_ATTENTION_FUNCTIONS, packed.NAME, lambda *a, **b: (calls.append(1), real(*a, **b))[1]
    )
    logs, layers_run = [], []
    for recompute in (False, True):
        calls.clear()
        folder, model = tmp_path / f"{recompute}", {"layout": layout, "dropout": 0.1}
        spoken.pretrain(folder, model=model, tokens=2_000, recompute=recompute)
        logs.append((folder / "log.jsonl").read_bytes() + (folder / "validation.jsonl").read_bytes())
        layers_run.append(len(calls))
    assert logs[0] == logs[1]
    assert layers_run[1] > layers_run[0]  # it really runs them twice


def test_long_runs_log_at_most_500_steps(monkeypatch, language, tmp_path):
    monkeypatch.setattr(loop, "LOGGED_STEPS", 5)
    language.pretrain(tmp_path / "run")
    steps = [record["step"] for record in lines(tmp_path / "run" / "log.jsonl")]
    assert steps == [3, 6, 9, 12]


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_loss_or_gradient_that_is_not_finite_stops_with_advice(
    what, monkeypatch, language, tmp_path, digests
):
    language.pretrain(tmp_path / "whole")
    real, calls = step_module.head_loss, iter(range(1000))

    def broken(*given):
        value = real(*given)
        if next(calls) < 6:
            return value
        return value * math.nan if what == "loss" else value + (value * 0).sqrt()

    with (
        monkeypatch.context() as patch,
        pytest.raises(UserError, match=f"{what} is not finite at step 7") as e,
    ):
        patch.setattr(step_module, "head_loss", broken)
        language.pretrain(tmp_path / "run", checkpoint_seconds=1e-9)
    assert e.value.where == "pretrain.learning_rate"
    assert sorted((tmp_path / "run" / "checkpoints").iterdir())[-1].name == "step-00000006"
    language.pretrain(tmp_path / "run")
    assert digests(tmp_path / "run") == digests(tmp_path / "whole")


def test_going_on_from_a_checkpoint_folder(language, tmp_path):
    language.pretrain(tmp_path / "first", tokens=40_000, learning_rate=5e-3)
    start = str(tmp_path / "first" / "model")
    language.pretrain(tmp_path / "second", {"start": start})
    first = lines(tmp_path / "first" / "validation.jsonl")[-1]["loss"]
    assert lines(tmp_path / "second" / "validation.jsonl")[0]["loss"] == first


def test_a_checkpoint_without_a_head_gets_one(language, tiny, tmp_path):
    language.pretrain(tmp_path / "first", {"layout": "bert"}, tokens=600)
    loaded = tokenizers.load(tmp_path / "first" / "model")
    bare = build.load(tmp_path / "first" / "model", None)
    (tmp_path / "bare").mkdir()
    build.save(bare, loaded, tmp_path / "bare")
    settings = tiny[0].model_copy(update={"layout": "bert", "start": str(tmp_path / "bare")})
    models = [make_model(settings, tiny[1], loaded, seed) for seed in (0, 0, 1)]
    encoder = bare.state_dict()
    for model in models:
        assert all(torch.equal(tensor, encoder[name]) for name, tensor in model.bert.state_dict().items())
    heads = [model.cls.predictions.transform.dense.weight for model in models]
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])
    assert heads[0].std() > 0
    torn = {name: tensor for name, tensor in encoder.items() if "layer.1.output.dense.weight" not in name}
    safetensors.torch.save_file(torn, tmp_path / "bare" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ArtefactError, match="1 weight.s. are missing"):
        make_model(settings, tiny[1], loaded, 0)


def test_another_vocabulary_is_refused_or_carried(language, tiny, tmp_path):
    """Also a smaller one, whose numbers would be taken for those of other pieces."""
    language.pretrain(tmp_path / "first", {"layout": "bert"}, tokens=600)
    start = tmp_path / "first" / "model"
    wanted = TokenizerSettings(vocab_size=300, min_frequency=1)
    other = tokenizers.train(
        ["bar ban bast mir mist"], wanted, tmp_path / "other", causal=False, max_length=64, quiet=True
    )
    assert len(other) < len(tokenizers.load(start))
    same = tiny[0].model_copy(update={"layout": "bert", "start": str(start)})
    with pytest.raises(ArtefactError, match="another tokenizer") as caught:
        make_model(same, tiny[1], other, 0)
    assert caught.value.where == "model.start" and "start_vocabulary" in caught.value.fix
    model = make_model(same.model_copy(update={"start_vocabulary": "mean"}), tiny[1], other, 0)
    assert model.config.vocab_size == len(other)
    assert model.get_input_embeddings().weight.shape[0] == len(other)


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("model.hidden", {"hidden": 64}),
        ("model.layers", {"layers": 1}),
        ("model.layout", {"layout": "bert"}),
        ("model.max_length", {"max_length": 128}),
    ],
)
def test_a_start_that_does_not_fit_is_refused(key, change, language, tmp_path):
    language.pretrain(tmp_path / "first", tokens=600)
    model = {"start": str(tmp_path / "first" / "model")} | change
    with pytest.raises(ArtefactError) as caught:
        language.pretrain(tmp_path / "second", model)
    assert caught.value.where == key


KEPT = {"ffn": 48, "local_attention": 16, "global_every": 1}


@pytest.mark.parametrize("key", KEPT)
def test_what_a_start_has_is_taken_where_it_is_not_stated_and_else_has_to_agree(key, language, tmp_path):
    language.pretrain(tmp_path / "first", KEPT, tokens=600)
    start = {"start": str(tmp_path / "first" / "model")}
    for name, stated in (("silent", {}), ("stated", KEPT)):
        language.pretrain(tmp_path / name, start | stated, tokens=600)
    flops = [
        json.loads((tmp_path / name / "pretrain.json").read_text())["flops"]
        for name in ("first", "silent", "stated")
    ]
    assert flops[0] == flops[1] == flops[2]
    with pytest.raises(ArtefactError, match=f"{key} = {KEPT[key]}, the recipe 24") as caught:
        language.pretrain(tmp_path / "other", start | {key: 24}, tokens=600)
    assert caught.value.where == f"model.{key}"
    assert caught.value.fix == f"set model.{key} = {KEPT[key]}, or leave it out"


def test_trained_weights_are_not_rescaled_where_masks_are_drawn(language, tiny, tmp_path):
    language.pretrain(tmp_path / "first", tokens=600)
    start = str(tmp_path / "first" / "model")
    before = dict(linear.dense_weights(build.load(start, "mlm")))
    settings = tiny[1].model_copy(update={"sparsity": SparsitySettings(level=0.75)})
    model = make_model(tiny[0].model_copy(update={"start": start}), settings, tokenizers.load(start), 0)
    layers = linear.sparse_layers(model)
    assert layers.keys() == before.keys()
    for name, layer in layers.items():
        assert torch.equal(layer.weight, torch.where(layer.mask, before[name], 0.0))


def test_a_causal_tokenizer_cannot_feed_a_masked_model(causal_language, tmp_path):
    with pytest.raises(ArtefactError, match="no mask token"):
        causal_language.pretrain(tmp_path / "run")


def test_split_keeps_all_sequences_in_order():
    batch = pack([[number] * length for number, length in enumerate((5, 1, 9, 3, 2), start=1)])
    for parts in range(1, 8):
        pieces = split(batch, parts)
        assert torch.equal(torch.cat([piece.input_ids for piece in pieces]), batch.input_ids)
        assert torch.equal(torch.cat([piece.sample_ids for piece in pieces]), batch.sample_ids)
        assert [length for piece in pieces for length in piece.lengths] == batch.lengths
        assert len(pieces) <= parts and all(piece.sequences for piece in pieces)
        assert all(int(piece.cu_seqlens[0]) == 0 for piece in pieces)


def test_bf16_runs_on_the_cpu(language, tmp_path):
    language.pretrain(tmp_path / "run", precision="bf16", tokens=2_000)
    facts = json.loads((tmp_path / "run" / "pretrain.json").read_text())
    assert math.isfinite(facts["loss"]) and facts["products"] == "bfloat16"
