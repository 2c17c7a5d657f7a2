"""What all light-weight methods have in common: the start, what is trained, what stays, what is reported."""

import numpy as np
import pytest
import torch
import toy
from equipped import logits, made

from wellread.errors import RecipeError
from wellread.finetune import data, grid, loop
from wellread.finetune.light import methods, stored
from wellread.models import build
from wellread.recipe import parse
from wellread.settings import LightSettings

ZERO = ("lora", "houlsby", "lightweight", "tiny-attention", "bitfit")


@pytest.mark.parametrize("kind", ["classify", "tag"])
@pytest.mark.parametrize("layout", toy.LAYOUTS)
@pytest.mark.parametrize("method", ZERO)
def test_methods_that_begin_at_zero_leave_the_logits_alone(method, layout, kind, tokenizer):
    plain = logits(made(method, layout, tokenizer, kind, equip=False))
    changed = made(method, layout, tokenizer, kind, targets=("query", "key", "value", "output", "ffn"))
    assert torch.equal(logits(changed), plain)
    with torch.no_grad():  # the test can fail: what was added does reach the logits
        for name, weight in changed.named_parameters():
            if name.startswith("light.") or (method == "bitfit" and name.endswith("bias")):
                weight.add_(0.1 * torch.randn(weight.shape))
    assert (logits(changed) - plain).abs().max() > 1e-3


@pytest.mark.parametrize("layout", toy.LAYOUTS)
@pytest.mark.parametrize("method", methods.METHODS)
def test_gradients_reach_the_method_and_the_head_only(method, layout, tokenizer):
    model = made(method, layout, tokenizer).train()
    body = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    optimiser = loop.optimizer(model, toy.settings(weight_decay=0.1))
    for _ in range(2):  # what lies before a zero matrix moves from the second step on
        logits(model).square().sum().backward()
        optimiser.step()
    for name, weight in model.named_parameters():
        own = name.startswith("light.") or (method == "bitfit" and name.endswith("bias"))
        trained = own or name.startswith(methods.HEADS) or ".pooler." in name
        assert weight.requires_grad == trained, name
        assert torch.equal(weight, body[name]) != trained, name
    assert len(optimiser.state) == sum(weight.requires_grad for weight in model.parameters())


def expected(method, layout, d=32, layers=2, inner=None):
    inner = inner or toy.model(layout).inner
    up = {"modernbert": 2, "llama": 2}.get(layout, 1) * inner
    return {
        "lora": layers * (2 * 8 * (d + d)),
        "houlsby": 2 * layers * (2 * d * 32 + d + 32),
        "lightweight": 2 * d * 32,
        "tiny-attention": layers * (4 * d * 4 + 3 * 4 + d),
        "residual": 3 * d * 32 + 32**2 + 2 * 32 + 4 * d,
        "prompt": 10 * d,
        "prefix": 2 * layers * 10 * d,
        "bitfit": {
            # ModernBERT: embedding norm, no norm before the first attention, final norm.
            "modernbert": d + layers * (3 * d + d + up + d + d) + (layers - 1) * d + d,
            "llama": layers * (4 * d + up + d),
            "bert": d + layers * (4 * d + up + d + 2 * d),
            "gpt2": layers * (3 * d + d + up + d + 2 * d) + d,
        }[layout],
    }[method]


@pytest.mark.parametrize("layout", toy.LAYOUTS)
@pytest.mark.parametrize("method", methods.METHODS)
def test_the_number_of_trained_parameters(method, layout, tokenizer):
    model = made(method, layout, tokenizer)
    head = sum(
        weight.numel()
        for name, weight in model.named_parameters()
        if name.startswith(methods.HEADS) or ".pooler." in name
    )
    trained, whole = methods.count(model)
    assert trained - head == expected(method, layout)
    assert whole == sum(weight.numel() for weight in model.parameters())


def test_full_leaves_the_model_as_it_was(tokenizer):
    model = made("full", "modernbert", tokenizer)
    assert not hasattr(model, "light")
    assert all(weight.requires_grad for weight in model.parameters())
    assert methods.added_tokens(LightSettings()) == 0


def test_the_seed_decides_and_the_global_generator_is_left_alone(tokenizer):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = (made("lora", "bert", tokenizer) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.light[0].a, second.light[0].a)
    other = made("lora", "bert", tokenizer, equip=False)
    methods.equip(other, LightSettings(method="lora"), 0.0, 2)
    assert not torch.equal(first.light[0].a, other.light[0].a)


@pytest.fixture(scope="module")
def start(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    build.save(build.build(toy.model(), tokenizer, "mlm", 3), tokenizer, folder)
    return folder


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("lora", "classify"),
        ("houlsby", "tag"),
        ("lightweight", "classify"),
        ("tiny-attention", "multilabel"),
        ("residual", "regress"),
        ("prompt", "tag"),
        ("prefix", "classify"),
        ("bitfit", "regress"),
    ],
)
def test_a_run_trains_the_method_and_the_head_and_nothing_else(method, kind, tokenizer, start):
    task = toy.task(kind, 40, 10)
    prepared = data.prepare(task, task.splits["train"], tokenizer, 54)
    settings = toy.settings(
        light={"method": method}, max_steps=16, min_steps=16, evaluations=2, learning_rate=1e-2
    )
    result = loop.finetune(prepared, task.splits["train"], start, tokenizer, settings, 0)
    assert not result.failed
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    assert 0 < result.trainable_parameters < 0.7 * result.parameters
    reference = build.load(start, None)
    changed = 0
    weights = dict(result.model.base_model.named_parameters())
    for name, weight in reference.named_parameters():
        touched = method == "lora" and name.endswith("Wqkv.weight")
        if touched:
            thirds = zip(weights[name].chunk(3), weight.chunk(3), strict=True)
            assert [torch.equal(*pair) for pair in thirds] == [False, True, False]
        else:
            assert torch.equal(weights[name], weight), name
        changed += touched
    assert changed == (2 if method == "lora" else 0)


@pytest.mark.parametrize("method", ["prompt", "prefix"])
def test_with_frozen_false_the_weights_are_trained_beside_the_vectors(method, tokenizer, start, tmp_path):
    """As MediSwift: dense fine-tuning with a soft prompt; the model that is kept holds both."""
    task = toy.task("classify", 40, 10)
    prepared = data.prepare(task, task.splits["train"], tokenizer, 54)
    light = LightSettings(method=method, frozen=False)
    settings = toy.settings(light=light, max_steps=6, min_steps=6, learning_rate=1e-2)
    result = loop.finetune(prepared, task.splits["train"], start, tokenizer, settings, 0)
    assert result.trainable_parameters == result.parameters
    began = dict(build.load(start, None).named_parameters())
    for name, weight in result.model.base_model.named_parameters():
        if not name.startswith("light"):
            assert not torch.equal(weight, began[name]), name
    stored.save(result.model, tokenizer, tmp_path, light)
    assert torch.equal(logits(stored.load(tmp_path, "classify").eval()), logits(result.model))


def test_frozen_false_is_for_what_stands_in_the_text():
    with pytest.raises(RecipeError, match="frozen = false goes with"):
        parse(
            {
                "name": "a",
                "corpus": {"sources": ["x"]},
                "finetune": {"light": {"method": "lora", "frozen": False}},
            }
        )
    kept = toy.settings(light={"method": "prompt", "frozen": False}, freeze_layers=1)
    data.check_head(kept, toy.task("classify", 4, 4), "bert", ("all",))  # there is something to freeze


def test_two_runs_give_the_same_bits(tokenizer, start):
    task = toy.task("classify", 40, 20)
    prepared = data.prepare(task, task.splits["train"], tokenizer, 54)
    for method in ("lora", "prefix"):
        settings = toy.settings(light={"method": method}, max_steps=6, min_steps=6)
        outputs = [
            loop.finetune(prepared, task.splits["train"], start, tokenizer, settings, 0).test_output
            for _ in range(2)
        ]
        assert np.array_equal(*outputs)


def test_prompts_leave_room_for_themselves():
    settings = toy.settings(light={"method": "prompt", "vectors": 10})
    assert grid.longest(toy.model(), settings) == 54
    with pytest.raises(RecipeError, match="at most 54 tokens"):
        grid.longest(toy.model(), settings.model_copy(update={"max_length": 60}))


def test_the_recipe_knows_the_settings():
    recipe = {
        "name": "a",
        "corpus": {"sources": ["x"]},
        "finetune": {"light": {"method": "lora", "rank": 4}},
        "tasks": {"t": {"path": "t", "finetune": {"light": {"rank": 2}}}},
    }
    light = parse(recipe).finetune_for("t", "main").light
    assert (light.method, light.rank, light.alpha) == ("lora", 2, 16.0)
    recipe["finetune"]["light"] = {"methd": "lora"}
    with pytest.raises(RecipeError, match="did you mean `method`"):
        parse(recipe)
    assert set(methods.METHODS) | {"full"} == set(
        LightSettings.model_fields["method"].annotation.__args__  # the table and the settings name the same
    )


@pytest.mark.parametrize("key", [{"freeze_layers": 1}, {"reinit_layers": 1}, {"layer_decay": 0.9}])
def test_layers_that_are_kept_anyway_are_neither_frozen_nor_made_anew(key):
    settings = toy.settings(light={"method": "lora"}, **key)
    with pytest.raises(RecipeError, match="keeps the model's own weights"):
        data.check_head(settings, toy.task("classify", 4, 4), "bert", ("all",))
