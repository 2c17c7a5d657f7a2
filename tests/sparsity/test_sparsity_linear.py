"""Sparse training keeps masked weights at zero, and the way back to dense changes no output."""

from __future__ import annotations

import copy
import json

import pytest
import stock
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from wellread.models import build, heads, packed
from wellread.settings import SparsitySettings
from wellread.sparsity import linear
from wellread.sparsity.kernels import build as kernels
from wellread.sparsity.linear import SparseLinear

PATTERNS = ("unstructured", "block4", "block8", "block16", "block32")


@pytest.fixture
def plain(monkeypatch):
    """Sparse layers on torch operations: the path that dense layers take, so that bits can be compared."""
    monkeypatch.setattr(kernels, "load", lambda: None)


def model_for(layout: str, seed: int = 0, **changes):
    settings = stock.settings(layout, **changes)
    model = build.build(settings, stock.tokenizer(), "clm" if settings.causal else "mlm", seed)
    stock.randomise(model)
    return packed.enable(model)


def loss_of(model, step: int) -> torch.Tensor:
    batch = stock.batch([7, 12, 1, 9], seed=step)
    return cross_entropy(heads.lm_logits(model, packed.hidden_states(model, batch)), batch.input_ids)


def train(model, optimiser, steps: int = 4, after=lambda: None) -> list[float]:
    losses = []
    for step in range(steps):
        optimiser.zero_grad()
        loss = loss_of(model, step)
        loss.backward()
        optimiser.step()
        after()
        losses.append(loss.item())
    return losses


def sparse_layers(model) -> dict[str, SparseLinear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, SparseLinear)}


def assert_masked_weights_are_zero(model):
    layers = sparse_layers(model)
    assert layers
    for name, layer in layers.items():
        assert (layer.weight[~layer.mask] == 0).all(), name
        assert (layer.weight[layer.mask] != 0).any(), name


@pytest.mark.parametrize("layout", stock.LAYOUTS)
def test_exactly_the_attention_and_feed_forward_matrices_become_sparse(layout):
    expected = {
        "modernbert": ["attn.Wqkv", "attn.Wo", "mlp.Wi", "mlp.Wo"],
        "bert": [
            *(f"attention.self.{name}" for name in ("query", "key", "value")),
            "attention.output.dense",
            "intermediate.dense",
            "output.dense",
        ],
        "llama": [
            *(f"self_attn.{name}_proj" for name in "qkvo"),
            *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
        ],
        "gpt2": ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"],
    }[layout]
    model = model_for(layout)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    reports = linear.sparsify(model, SparsitySettings(level=0.75, rescale=False), seed=0)
    stack = linear.STACKS[layout]
    assert [r.name for r in reports] == [f"{stack}.{layer}.{name}" for layer in range(3) for name in expected]
    after = model.state_dict()
    assert after.keys() == before.keys()
    prefix = f"{model.base_model_prefix}."
    matrices = {f"{prefix}{report.name}.weight" for report in reports}
    for name, value in before.items():
        changed = not torch.equal(value, after[name])
        assert changed == (name in matrices), name


@pytest.mark.parametrize("layout", stock.LAYOUTS)
def test_count_is_exact_in_every_matrix(layout):
    model = model_for(layout)
    for report in linear.sparsify(model, SparsitySettings(level=0.75), seed=0):
        size = report.shape[0] * report.shape[1]
        layer = model.base_model.get_submodule(report.name)
        assert int(layer.mask.sum()) == round(0.25 * size)
        assert int((layer.weight != 0).sum()) == round(0.25 * size)
        assert report.level == 0.75


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("layout", ["modernbert", "gpt2"])
def test_adamw_keeps_masked_weights_at_zero(layout, pattern):
    model = model_for(layout)
    linear.sparsify(model, SparsitySettings(level=0.75, pattern=pattern), seed=0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.5, betas=(0.9, 0.98))
    train(model, optimiser, 5, after=lambda: assert_masked_weights_are_zero(model))


def test_momentum_sgd_keeps_masked_weights_at_zero():
    model = model_for("llama")
    linear.sparsify(model, SparsitySettings(level=0.5), seed=0)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True)
    train(model, optimiser, 5, after=lambda: assert_masked_weights_are_zero(model))


def gradients_beside_a_masked_twin(layout: str):
    """(name, gradient, expected) of all parameters; expected by autograd through weight * mask on a twin."""
    sparse = model_for(layout)
    linear.sparsify(sparse, SparsitySettings(level=0.75), seed=0)
    layers = sparse_layers(sparse)
    dense = model_for(layout)
    dense.load_state_dict(sparse.state_dict())
    free = {name: nn.Parameter(dense.get_submodule(name).weight.detach().clone()) for name in layers}
    for name, parameter in free.items():
        module = dense.get_submodule(name)
        del module.weight
        module.weight = parameter * layers[name].mask
    first, second = loss_of(sparse, 0), loss_of(dense, 0)
    first.backward()
    second.backward()
    yield "loss", first.detach(), second.detach()
    others = dict(dense.named_parameters())
    for name, parameter in sparse.named_parameters():
        owner = name.removesuffix(".values")
        if owner not in free:
            yield name, parameter.grad, others[name].grad
        else:
            wanted = free[owner].grad
            layer = layers[owner]
            yield name, parameter.grad, layer.structure.pack(wanted.T if layer.transposed else wanted)


@pytest.mark.parametrize("layout", stock.LAYOUTS)
def test_gradients_equal_the_plain_masked_reference_to_the_bit(layout, plain):
    for name, found, expected in gradients_beside_a_masked_twin(layout):
        assert torch.equal(found, expected), name


@pytest.mark.parametrize("layout", stock.LAYOUTS)
def test_gradients_of_the_kernels_equal_the_masked_reference(layout):
    for name, found, expected in gradients_beside_a_masked_twin(layout):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, msg=name)


def densified(layout: str, pattern: str):
    """Logits of a sparse model, the same after densifying, and the model."""
    model = model_for(layout).eval()
    linear.sparsify(model, SparsitySettings(level=0.75, pattern=pattern), seed=0)
    weights = {name: layer.weight for name, layer in sparse_layers(model).items()}
    kinds = {name: layer.transposed for name, layer in sparse_layers(model).items()}
    batch = stock.batch([3, 20, 1, 8])
    before = heads.lm_logits(model, packed.hidden_states(model, batch))
    assert linear.densify(model) is model
    assert not sparse_layers(model)
    for name, transposed in kinds.items():
        module = model.get_submodule(name)
        assert type(module).__name__ == ("Conv1D" if transposed else "Linear")
        assert not module.training
        assert torch.equal(module.weight, weights[name])
    return before, heads.lm_logits(model, packed.hidden_states(model, batch))


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("layout", stock.LAYOUTS)
def test_logits_are_identical_before_and_after_densifying(layout, pattern, plain):
    assert torch.equal(*densified(layout, pattern))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_logits_of_the_kernels_and_of_the_densified_model_differ_by_rounding_only(pattern):
    torch.testing.assert_close(*densified("modernbert", pattern), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", stock.LAYOUTS)
def test_revived_weights_learn_and_stock_classes_load_them(layout, tmp_path):
    model = model_for(layout)
    linear.sparsify(model, SparsitySettings(level=0.75), seed=0)
    masks = {name: layer.mask for name, layer in sparse_layers(model).items()}
    build.save(model, stock.tokenizer(), tmp_path)
    again = build.load(tmp_path, "clm" if stock.settings(layout).causal else "mlm")
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    linear.densify(model)
    train(model, torch.optim.AdamW(model.parameters(), lr=0.01), 2)
    for name, live in masks.items():
        revived = model.get_submodule(name).weight[~live]
        assert (revived != 0).float().mean() > 0.95


@pytest.mark.parametrize("layout", stock.LAYOUTS)
def test_level_zero_is_the_dense_run_bit_for_bit(layout, plain):
    dense, untouched, all_alive = (model_for(layout) for _ in range(3))
    assert linear.sparsify(untouched, SparsitySettings(level=0.0), seed=0) == []
    assert not sparse_layers(untouched)
    for _, parent, child, module in list(linear._matrices(all_alive)):
        first, second = module.weight.shape
        shape = (second, first) if hasattr(module, "nf") else (first, second)
        live = torch.ones(shape, dtype=torch.bool)
        setattr(parent, child, SparseLinear.from_linear(module, live, "unstructured"))
    runs = [
        train(model, torch.optim.AdamW(model.parameters(), lr=0.01), 4)
        for model in (dense, untouched, all_alive)
    ]
    assert runs[0] == runs[1] == runs[2]
    for name, value in dense.state_dict().items():
        assert torch.equal(value, untouched.state_dict()[name])
        assert torch.equal(value, all_alive.state_dict()[name])


@pytest.mark.parametrize("layout", ["modernbert", "gpt2"])
def test_a_run_resumes_from_a_dense_state_dict_and_masks_drawn_again(layout):
    def fresh(seed):
        model = model_for(layout, seed)
        linear.sparsify(model, SparsitySettings(level=0.75), seed=3)
        return model, torch.optim.AdamW(model.parameters(), lr=0.01)

    model, optimiser = fresh(0)
    train(model, optimiser, 2)
    weights, state = copy.deepcopy((model.state_dict(), optimiser.state_dict()))
    resumed, again = fresh(1)
    resumed.load_state_dict(weights)
    again.load_state_dict(state)
    assert train(model, optimiser, 3) == train(resumed, again, 3)
    for name, value in model.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])


def test_rescaling_keeps_the_variance():
    for pattern in PATTERNS:
        settings = {"hidden": 256, "ffn": 256, "heads": 4, "layers": 1}
        plain, scaled = model_for("llama", **settings), model_for("llama", **settings)
        linear.sparsify(plain, SparsitySettings(level=0.75, pattern=pattern, rescale=False), seed=0)
        linear.sparsify(scaled, SparsitySettings(level=0.75, pattern=pattern), seed=0)
        dense = model_for("llama", **settings)
        for name, layer in sparse_layers(scaled).items():
            assert torch.allclose(layer.weight, 2 * plain.get_submodule(name).weight)
            power = (
                layer.weight.detach().square().sum()
                / dense.get_submodule(name).weight.detach().square().sum()
            )
            assert abs(float(power) - 1) < 0.05


def test_report_counts_dead_rows_and_measures_the_level():
    model = model_for("gpt2", layers=1)
    linear.sparsify(model, SparsitySettings(level=0.99), seed=0)
    content = linear.report(model)
    assert content == json.loads(json.dumps(content)) | {"layers": content["layers"]}
    assert content["pattern"] == "unstructured"
    zeros = total = 0
    for entry in content["layers"]:
        layer = model.transformer.get_submodule(entry["name"])
        weight = layer.weight.detach().T  # Conv1D keeps (inputs, outputs)
        assert entry["shape"] == tuple(weight.shape)
        assert entry["dead_rows"] == int((weight == 0).all(1).sum())
        assert entry["level"] == pytest.approx(float((weight == 0).float().mean()))
        zeros, total = zeros + int((weight == 0).sum()), total + weight.numel()
    assert sum(entry["dead_rows"] for entry in content["layers"]) > 0
    assert content["level"] == pytest.approx(zeros / total)
    assert linear.report(linear.densify(model)) == {"level": 0.0, "pattern": "dense", "layers": []}


def test_masks_do_not_depend_on_the_head():
    language = model_for("modernbert")
    task = heads.task_model(
        stock.settings("modernbert"), stock.tokenizer(), "classify", ("a", "b"), 0.0, seed=0
    )
    for model in (language, task):
        linear.sparsify(model, SparsitySettings(level=0.5), seed=0)
    for name, layer in sparse_layers(language).items():
        assert torch.equal(layer.mask, task.get_submodule(name).mask)


def test_sparsifying_twice_is_refused():
    model = model_for("bert")
    linear.sparsify(model, SparsitySettings(level=0.5), seed=0)
    with pytest.raises(ValueError, match="sparse already"):
        linear.sparsify(model, SparsitySettings(level=0.5), seed=0)


def test_densifying_draws_no_random_number():
    model = model_for("gpt2")
    linear.sparsify(model, SparsitySettings(level=0.5), seed=0)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    linear.densify(model)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("layout", stock.LAYOUTS)
def test_blocks_are_balanced_over_the_outputs_of_every_layout(layout):
    """GPT-2 stores its matrices the other way round; its outputs must be as safe as the others'."""
    model = model_for(layout)
    for report in linear.sparsify(model, SparsitySettings(level=0.9, pattern="block16"), seed=0):
        layer = model.base_model.get_submodule(report.name)
        live = layer.weight.detach().T != 0 if layer.transposed else layer.weight != 0
        assert live.shape == report.shape
        assert len(set(live.sum(1).tolist())) == 1
        assert report.dead_rows == 0


@pytest.mark.parametrize(("pattern", "size"), [("2:4", 16), ("block64", 128), ("block128", 256)])
def test_the_patterns_for_gpus_run_here_too(pattern, size):
    model = model_for("llama", hidden=size, ffn=2 * size, heads=2, layers=1)
    level = (
        sum(one.level for one in linear.sparsify(model, SparsitySettings(level=0.5, pattern=pattern), 0)) / 7
    )
    assert level == pytest.approx(0.5)
    batch = stock.batch([5, 9])
    sparse = packed.hidden_states(packed.enable(model), batch)
    dense = packed.hidden_states(linear.densify(model), batch)
    torch.testing.assert_close(sparse, dense, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"level": 0.75}, "set level = 0.5"), ({"level": 0.5, "dynamic": "rigl"}, "moving weights break")],
)
def test_two_of_four_refuses_what_it_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        SparsitySettings(pattern="2:4", **settings)
