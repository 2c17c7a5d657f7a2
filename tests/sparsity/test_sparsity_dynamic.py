"""SET and RigL against a plain dense reference: who dies, who comes to life, and what goes along."""

from __future__ import annotations

import math

import numpy as np
import pytest
import stock
import torch
from hypothesis import given
from hypothesis import settings as tried
from hypothesis import strategies as st
from torch import nn
from transformers.pytorch_utils import Conv1D

from wellread.errors import RecipeError
from wellread.models import build, heads, packed
from wellread.pretrain.optimizer import Optimizer
from wellread.recipe import parse
from wellread.settings import PretrainSettings, SparsitySettings
from wellread.sparsity import dynamic, linear
from wellread.sparsity.linear import SparseLinear
from wellread.sparsity.patterns import BLOCK, mask
from wellread.sparsity.structure import Structure

PATTERNS = ("unstructured", "block4", "block8", "block16", "block32")
SHAPES = [(128, 320), (37, 70), (5, 130)]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layer_of(shape, pattern, level=0.75, conv=False, seed=0) -> SparseLinear:
    """A sparse layer of random weights; ``shape`` is (outputs, inputs)."""
    outputs, inputs = shape
    dense = Conv1D(outputs, inputs) if conv else nn.Linear(inputs, outputs)
    with torch.no_grad():
        dense.weight.copy_(normal(*dense.weight.shape, seed=seed))
    return SparseLinear.from_linear(dense, mask(shape, level, pattern, seed, "layer"), pattern)


def as_outputs_by_inputs(layer: SparseLinear) -> torch.Tensor:
    return layer.weight.T if layer.transposed else layer.weight


def grid_of(dense: torch.Tensor, block: int) -> np.ndarray:
    """Frobenius norms of blocks, one by one."""
    if block == 1:
        return dense.double().abs().numpy()
    return np.array(
        [
            [
                float(dense[row : row + block, column : column + block].double().square().sum().sqrt())
                for column in range(0, dense.shape[1], block)
            ]
            for row in range(0, dense.shape[0], block)
        ]
    )


def expected_row(live, magnitude, score, dying) -> set[int]:
    """Places of one row that live after ``dying`` of them have been replaced, by sorting."""
    alive = [int(place) for place in np.flatnonzero(live)]
    kept = set(sorted(alive, key=lambda place: magnitude[place])[dying:])
    others = [place for place in range(len(live)) if place not in kept]
    return kept | set(sorted(others, key=lambda place: -score[place])[:dying])


def assert_rows_as_expected(before, after, magnitude, score, share):
    """Each row is what the reference makes of it for one of the two numbers nearest to the share."""
    for row in range(len(before)):
        exact, most = share * before[row].sum(), max(0, int(before[row].sum()) - 1)  # one stays
        options = [
            expected_row(before[row], magnitude[row], score[row], min(dying, most))
            for dying in (math.floor(exact), math.ceil(exact))
        ]
        assert set(np.flatnonzero(after[row])) in options


@tried(max_examples=60, deadline=None)
@given(st.data())
def test_the_smallest_die_and_the_largest_scores_come_to_life(data):
    rows, places = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 40))
    draw = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    live = draw.random((rows, places)) < draw.random()
    # distinct values over many orders of magnitude
    magnitude, score = (
        np.exp(draw.permutation(rows * places) - 60.0).reshape(rows, places).astype(np.float32)
        if rows * places < 120
        else draw.random((rows, places), dtype=np.float32)
        for _ in range(2)
    )
    share = data.draw(st.floats(0, 0.999))
    after = dynamic.rewire(live, magnitude, score, share, 3, "layer", data.draw(st.integers(1, 1000)))
    assert (after.sum(1) == live.sum(1)).all()
    assert_rows_as_expected(live, after, magnitude, score, share)


def test_equals_are_told_apart_at_random_and_the_count_is_kept():
    live = np.zeros((4, 60), dtype=bool)
    live[:, :20] = True
    same = np.zeros(live.shape, dtype=np.float32)
    picks = [dynamic.rewire(live, same, same, 0.5, seed, "layer", 1) for seed in range(400)]
    assert all((pick.sum(1) == 20).all() for pick in picks)
    often = np.mean(picks, axis=0)
    # 10 of 20 survive, 10 of the other 50 places come to life
    assert often[:, :20].mean() == pytest.approx(0.5 + 0.5 * 0.2, abs=0.005)
    assert often[:, 20:].mean() == pytest.approx(0.2, abs=0.005)
    assert abs(often[:, :20] - 0.6).max() < 0.12 and abs(often[:, 20:] - 0.2).max() < 0.1


def test_rows_of_few_blocks_take_part_in_proportion():
    live = np.zeros((2000, 8), dtype=bool)
    live[:, :2] = True
    magnitude = np.ones(live.shape, dtype=np.float32)
    score = np.zeros(live.shape, dtype=np.float32)
    score[:, 7] = 1
    after = dynamic.rewire(live, magnitude, score, 0.3, 0, "layer", 1)
    assert after[:, 7].mean() == pytest.approx(0.6, abs=0.05)  # 0.3 of two blocks


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("conv", [False, True])
def test_rigl_is_the_dense_reference(shape, pattern, conv):
    block, share = BLOCK[pattern], 0.3
    layer = layer_of(shape, pattern, conv=conv)
    before, weights = layer.structure, as_outputs_by_inputs(layer)
    inputs, errors = normal(50, shape[1], seed=1), normal(50, shape[0], seed=2)
    free = weights.clone().requires_grad_()
    (nn.functional.linear(inputs, free) * errors).sum().backward()
    with dynamic.dense_gradients({"layer": layer}) as gradients:
        for part in (slice(0, 10), slice(10, 42), slice(42, 50)):
            (layer(inputs[None, part]) * errors[None, part]).sum().backward()
    torch.testing.assert_close(gradients["layer"], free.grad, rtol=1e-4, atol=1e-4)

    structure = dynamic.choose(layer, gradients["layer"], share, 0, "layer", 100)
    assert layer.structure is before
    assert structure.values_shape == before.values_shape and structure.block == block
    grids = [
        grid_of(before.live(), block) > 0,
        grid_of(structure.live(), block) > 0,
        grid_of(weights, block),
        grid_of(gradients["layer"], block),
    ]
    if block == 1:
        grids = [grid.reshape(1, -1) for grid in grids]
    assert (grids[0].sum(1) == grids[1].sum(1)).all()
    assert_rows_as_expected(*grids, share)

    born = dynamic.move(layer, structure, ())
    assert born == layer.moved == int((structure.live() & ~before.live()).sum())
    assert born or shape != SHAPES[0] or block == 32
    # survivors keep their bits, all others are zero: the layer differs by the dropped weights only
    assert torch.equal(as_outputs_by_inputs(layer), weights * structure.live())


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("shape", SHAPES)
def test_set_drops_the_smallest_and_keeps_balance(shape, pattern):
    layer = layer_of(shape, pattern)
    block, weights = BLOCK[pattern], layer.weight
    grids = [grid_of(layer.structure.live(), block) > 0]
    dynamic.update({"layer": layer}, {}, 0.4, 0, 7, lambda _: ())
    grids.append(grid_of(layer.structure.live(), block) > 0)
    if block == 1:
        grids = [grid.reshape(1, -1) for grid in grids]
    norms = grid_of(weights, block).reshape(grids[0].shape)
    before, after = grids
    assert (before.sum(1) == after.sum(1)).all()
    for row in range(len(before)):
        gone, stayed = norms[row][before[row] & ~after[row]], norms[row][before[row] & after[row]]
        dying = math.ceil(0.4 * before[row].sum())
        assert len(gone) <= dying
        assert all((norms[row][before[row]] < norm).sum() < dying for norm in gone)
        assert not len(gone) or stayed.max(initial=np.inf) > gone.max()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_replacing_nothing_changes_nothing(pattern):
    layer = layer_of((37, 70), pattern)
    before, values = layer.structure, layer.values.detach().clone()
    dynamic.update({"layer": layer}, {"layer": normal(37, 70, seed=5)}, 0.0, 0, 100, lambda _: ())
    assert torch.equal(layer.values, values) and layer.moved == 0
    for name in ("starts", "columns", "back_starts", "back_columns", "order"):
        assert torch.equal(getattr(layer.structure, name), getattr(before, name))


def test_a_row_never_loses_its_last_block():
    live = np.eye(8, dtype=bool)
    live[0] = True
    draw = np.random.default_rng(0).random((2, 8, 8), dtype=np.float32)
    for step in range(50):
        after = dynamic.rewire(live, *draw, 0.9, 0, "layer", step)
        assert (after[1:] == live[1:]).all() and after.sum() == live.sum()


def test_masks_are_a_function_of_seed_name_and_step():
    def after(seed, name, step, gradient=None):
        layer = layer_of((64, 64), "block4")
        return dynamic.choose(layer, gradient, 0.3, seed, name, step).live()

    assert torch.equal(after(0, "a", 100), after(0, "a", 100))
    for other in ((1, "a", 100), (0, "b", 100), (0, "a", 200)):
        assert not torch.equal(after(0, "a", 100), after(*other))


@pytest.mark.parametrize("tied", ["magnitude", "score"])
def test_each_draw_depends_on_seed_name_and_step(tied):
    live = np.arange(400)[None] < 100
    distinct = np.random.default_rng(0).random((1, 400), dtype=np.float32)
    values = {"magnitude": distinct, "score": distinct} | {tied: np.zeros_like(distinct)}
    first = dynamic.rewire(live, **values, share=0.5, seed=0, name="a", step=1)
    for seed, name, step in ((1, "a", 1), (0, "b", 1), (0, "a", 2)):
        other = dynamic.rewire(live, **values, share=0.5, seed=seed, name=name, step=step)
        # of the 50 that are drawn among equals, a few at most agree by chance
        assert (first & other).sum() < 50 + 45 and other.sum() == 100


def sparse_model(layout, pattern, optimizer="adamw", level=0.75):
    """A tiny language model, its optimiser and its sparse layers."""
    settings = stock.settings(layout)
    model = build.build(settings, stock.tokenizer(), "clm" if settings.causal else "mlm", 0)
    linear.sparsify(model, SparsitySettings(level=level, pattern=pattern), seed=0)
    packed.enable(model)
    chosen = PretrainSettings(optimizer=optimizer, learning_rate=0.01, weight_decay=0.1)
    return model, Optimizer(model, chosen), linear.sparse_layers(model)


def loss_of(model, step):
    batch = stock.batch([7, 12, 1, 9], seed=step)
    logits = heads.lm_logits(model, packed.hidden_states(model, batch))
    return nn.functional.cross_entropy(logits, batch.input_ids)


def train(model, optimizer, layers, steps, dynamics="rigl", share=0.3, every=1):
    losses = []
    for step in steps:
        optimizer.zero_grad()
        due = step % every == 0
        with dynamic.dense_gradients(layers if due and dynamics == "rigl" else {}) as gradients:
            loss = loss_of(model, step)
            loss.backward()
        losses.append(float(loss.detach()))
        optimizer.step(1.0)
        if due:
            dynamic.update(layers, gradients, share, 0, step, optimizer.moments)
    return losses


def dense_state(optimizer, layers):
    """Weights and moments of every layer, laid out dense."""
    return {
        name: [
            layer.structure.unpack(t).clone()
            for t in (layer.values.detach(), *optimizer.moments(layer.values))
        ]
        for name, layer in layers.items()
    }


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("pattern", ["unstructured", "block4", "block8"])
@pytest.mark.parametrize("layout", ["modernbert", "gpt2"])
def test_moments_follow_survivors_and_are_zero_for_the_new(layout, pattern, optimizer):
    model, optimiser, layers = sparse_model(layout, pattern, optimizer, level=0.5)
    parameters = list(model.parameters())
    train(model, optimiser, layers, range(1, 4), every=100)
    before = dense_state(optimiser, layers)
    masks = {name: layer.structure.live() for name, layer in layers.items()}
    gradients = {name: normal(*layer.shape, seed=9) for name, layer in layers.items()}
    dynamic.update(layers, gradients, 0.3, 0, 3, optimiser.moments)
    assert [id(p) for p in model.parameters()] == [id(p) for p in parameters]
    after = dense_state(optimiser, layers)
    assert sum(layer.moved for layer in layers.values()) > 0
    for name, layer in layers.items():
        live = layer.structure.live()
        assert int((live & ~masks[name]).sum()) == layer.moved
        assert len(after[name]) == (3 if optimizer == "adamw" else 2)
        for old, new in zip(before[name], after[name], strict=True):
            assert torch.equal(new, old * live)
            assert (old[masks[name]] != 0).any()
    train(model, optimiser, layers, range(4, 7), every=100)
    born = torch.cat(
        [
            layer.structure.unpack(layer.values.detach())[layer.structure.live() & ~masks[name]]
            for name, layer in layers.items()
        ]
    )
    assert (born != 0).float().mean() > 0.9  # some write to units that nothing reads


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("layout", stock.LAYOUTS)
def test_every_layout_trains_and_densifies_to_the_same_model(layout, pattern):
    model, optimiser, layers = sparse_model(layout, pattern)
    counts = {name: layer.values.shape for name, layer in layers.items()}
    train(model, optimiser, layers, range(1, 5))
    assert {name: layer.values.shape for name, layer in layers.items()} == counts
    levels = {entry["name"]: entry["level"] for entry in linear.report(model)["layers"]}
    for name, layer in layers.items():
        assert (layer.weight[~layer.mask] == 0).all()
        assert levels[name] == 1 - float(layer.mask.double().mean())
    batch = stock.batch([3, 20, 1, 8])
    before = heads.lm_logits(model, packed.hidden_states(model, batch))
    after = heads.lm_logits(linear.densify(model), packed.hidden_states(model, batch))
    torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("method", ["set", "rigl"])
def test_a_run_goes_on_to_the_same_bits_from_its_state(method, pattern):
    model, optimiser, layers = sparse_model("modernbert", pattern)
    train(model, optimiser, layers, range(1, 4), method)
    tensors = {name: p.detach().clone() for name, p in model.named_parameters()}
    tensors |= {name: t.clone() for name, t in optimiser.state().items()} | dynamic.state(layers)
    resumed, again, others = sparse_model("modernbert", pattern)
    with torch.no_grad():
        for name, parameter in resumed.named_parameters():
            parameter.copy_(tensors[name])
    again.load(tensors)
    dynamic.load(others, tensors)
    assert dynamic.state(others).keys() == dynamic.state(layers).keys()
    assert train(model, optimiser, layers, range(4, 7), method) == train(
        resumed, again, others, range(4, 7), method
    )
    for name, layer in layers.items():
        assert torch.equal(layer.mask, others[name].mask) and layer.moved == others[name].moved
        assert torch.equal(layer.values, others[name].values)


@pytest.mark.parametrize(("pattern", "limit"), [("unstructured", 37 * 70), ("block8", 5 * 9)])
def test_the_state_is_one_bit_for_each_place(pattern, limit):
    state = dynamic.state({"layer": layer_of((37, 70), pattern)})
    assert state["live.layer"].nbytes == -(-limit // 8)


def test_gradients_of_processes_add_up_to_those_of_one():
    """Each process sees a share of the batch; from the summed gradients all choose as one would alone."""
    layer = layer_of((48, 64), "block8")
    inputs, errors = normal(40, 64, seed=1), normal(40, 48, seed=2)

    def gradient(part):
        with dynamic.dense_gradients({"layer": layer}) as gradients:
            (layer(inputs[part]) * errors[part]).sum().backward()
        return gradients["layer"]

    whole, halves = gradient(slice(0, 40)), gradient(slice(0, 20)) + gradient(slice(20, 40))
    chosen = [dynamic.choose(layer, g, 0.3, 0, "layer", 100).live() for g in (whole, halves)]
    assert torch.equal(*chosen)


def test_watching_changes_no_bit_and_leaves_no_hook():
    layer = layer_of((48, 64), "block8")
    inputs = normal(40, 64, seed=1)

    def gradient():
        layer.values.grad = None
        layer(inputs).square().sum().backward()
        return layer.values.grad

    plain = gradient()
    with dynamic.dense_gradients({"layer": layer}) as gradients:
        watched = gradient()
    first = gradients["layer"].clone()
    assert torch.equal(watched, plain) and torch.equal(gradient(), plain)
    assert torch.equal(gradients["layer"], first) and not layer._forward_hooks


def test_a_backward_pass_that_goes_by_a_layer_is_a_defect():
    layers = {"used": layer_of((48, 64), "block8"), "unused": layer_of((48, 64), "block8")}
    with pytest.raises(RuntimeError, match="unused"), dynamic.dense_gradients(layers):
        layers["used"](normal(3, 64)).sum().backward()


def test_a_process_that_reads_nothing_adds_zeros():
    layers = {"b": layer_of((48, 64), "block8"), "a": layer_of((37, 70), "unstructured")}
    with dynamic.dense_gradients(layers) as gradients:
        pass
    assert [(name, tuple(g.shape)) for name, g in gradients.items()] == [("b", (48, 64)), ("a", (37, 70))]
    assert not any(g.any() for g in gradients.values())


def test_the_schedule_is_a_half_cosine_that_ends():
    settings = SparsitySettings(level=0.5, dynamic="rigl", update_every=10, drop_fraction=0.4)
    found = {step: dynamic.share(settings, step, 200) for step in range(1, 201)}
    assert {step for step, share in found.items() if share} == set(range(10, 150, 10))
    assert found[50] == pytest.approx(0.4 * 0.75) and found[100] == pytest.approx(0.4 * 0.25)
    assert sorted(found[step] for step in range(10, 150, 10)) == [found[s] for s in range(140, 0, -10)]
    static = settings.model_copy(update={"dynamic": "none"})
    assert not any(dynamic.share(static, step, 200) for step in range(1, 201))


def test_a_run_without_any_update_is_refused():
    settings = SparsitySettings(level=0.5, dynamic="set", update_every=75)
    dynamic.check(settings, 101)
    assert dynamic.share(settings, 75, 101) > 0
    with pytest.raises(RecipeError) as caught:
        dynamic.check(settings, 100)
    assert caught.value.where == "pretrain.sparsity.update_every" and caught.value.fix
    dynamic.check(SparsitySettings(level=0.5), 1)


def test_a_model_too_narrow_for_its_blocks_is_refused():
    settings = SparsitySettings(level=0.75, pattern="block16", dynamic="rigl")
    narrow, wide = layer_of((64, 64), "block16"), layer_of((64, 128), "block16")
    with pytest.raises(RecipeError) as caught:
        dynamic.check(settings, 1000, [narrow, narrow])
    assert caught.value.where == "pretrain.sparsity.pattern"
    dynamic.check(settings, 1000, [narrow, wide])
    dynamic.check(settings.model_copy(update={"dynamic": "none"}), 1000, [narrow])


@pytest.mark.parametrize(
    ("changes", "where", "what"),
    [
        ({"dynamic": "rigl"}, "pretrain.sparsity", "level"),
        ({"dynamic": "rigl", "level": 0.5, "drop_fraction": 0.0}, "pretrain.sparsity.drop_fraction", "0"),
        ({"dynamic": "set", "level": 0.5, "update_every": 0}, "pretrain.sparsity.update_every", "1"),
        ({"dynamic": "set", "level": 0.5, "update_until": 1.5}, "pretrain.sparsity.update_until", "1"),
        ({"dynamic": "grow", "level": 0.5}, "pretrain.sparsity.dynamic", "rigl"),
    ],
)
def test_impossible_settings_are_refused_by_key(changes, where, what):
    values = {"name": "x", "corpus": {"sources": ["a"]}, "pretrain": {"sparsity": changes}}
    with pytest.raises(RecipeError) as caught:
        parse(values)
    assert caught.value.where.endswith(where) and what in caught.value.what and caught.value.fix


def regression_loss(pattern, method, seed, steps=300):
    """Squared error of a sparse student that learns a sparse teacher, relative to the teacher's outputs."""
    shape = (64, 64)
    teacher = normal(*shape, seed=seed) * mask(shape, 0.875, pattern, seed + 100, "teacher")
    student = layer_of(shape, pattern, 0.75, seed=seed)
    optimiser = torch.optim.Adam([student.values], lr=0.02)
    settings = SparsitySettings(level=0.75, dynamic=method, update_every=20)
    inputs = normal(256, 64, seed=seed + 1)
    targets = inputs @ teacher.T
    for step in range(1, steps + 1):
        share = dynamic.share(settings, step, steps)
        optimiser.zero_grad()
        with dynamic.dense_gradients({"student": student} if share and method == "rigl" else {}) as gradients:
            loss = (student(inputs) - student.bias.detach() - targets).square().mean()
            loss.backward()
        optimiser.step()
        if share:
            kept = [optimiser.state[student.values][key] for key in ("exp_avg", "exp_avg_sq")]
            dynamic.update({"student": student}, gradients, share, seed, step, lambda _, kept=kept: kept)
    return float(loss.detach()) / float(targets.square().mean())


@pytest.mark.parametrize("pattern", ["unstructured", "block4"])
def test_a_moving_student_finds_a_sparse_teacher(pattern):
    losses = {
        method: [regression_loss(pattern, method, seed) for seed in range(3)]
        for method in ("none", "set", "rigl")
    }
    assert max(losses["rigl"]) < 0.5 * min(losses["none"])
    assert np.mean(losses["rigl"]) < np.mean(losses["set"]) < np.mean(losses["none"])


def test_structures_do_not_depend_on_the_order_of_choice():
    """A structure is a function of its mask alone, so a restored one has the same layout in memory."""
    layer = layer_of((37, 70), "block4")
    dynamic.update({"layer": layer}, {}, 0.5, 0, 1, lambda _: ())
    again = Structure.of(layer.structure.live(), 4)
    assert torch.equal(again.columns, layer.structure.columns)
    assert torch.equal(again.order, layer.structure.order)
