"""Impossible growths are refused with a cure; sparse models grow to sparse ones."""

import pytest
import torch
from grown import LAYOUTS, logits, make, shape

from wellread.errors import RecipeError
from wellread.models.grow.grow import grow, living
from wellread.models.grow.shapes import Shape, check, keeps_function
from wellread.settings import SparsitySettings
from wellread.sparsity import linear

REFUSED = {
    "no multiple": ("bert", {"hidden": 48}, "hidden", '32, or model.grow = "advanced"'),
    "no multiple, padded": ("llama", {"hidden": 48}, "hidden", "zero-pad"),
    "narrower": ("bert", {"hidden": 16}, "hidden", "32"),
    "shallower": ("bert", {"hidden": 64, "layers": 2}, "layers", "3"),
    "thinner": ("bert", {"hidden": 64, "ffn": 40}, "ffn", "48"),
    "other heads": ("bert", {"hidden": 64, "heads": 2}, "heads", "4"),
    "the same": ("bert", {}, "grow", "none"),
    "stack and wider": ("bert", {"grow": "stack", "hidden": 64}, "grow", "function-preserving"),
    "padded layer norm": ("modernbert", {"grow": "zero-pad", "hidden": 48}, "grow", "advanced"),
    "identity": ("bert", {"layers": 4, "grow_depth": "identity"}, "grow_depth", "stack"),
    "local layers": ("modernbert", {"hidden": 64, "global_every": 2}, "global_every", "3"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_impossible_growth_is_refused_with_key_and_cure(case):
    layout, changes, key, cure = REFUSED[case]
    small = make(layout, layers=4 if case == "local layers" else 3)
    if case == "local layers":
        changes = changes | {"layers": 4}
    with pytest.raises(RecipeError) as caught:
        check(Shape.of(small.config), shape(layout, **changes))
    assert caught.value.where == f"model.{key}" and cure in caught.value.fix


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_shape_from_a_recipe_is_that_of_its_checkpoint(layout):
    assert Shape.of(make(layout).config) == Shape.wanted(shape(layout))


def test_which_growths_keep_the_function():
    small = Shape.of(make("llama").config)
    kept = [
        keeps_function(small, shape("llama", **changes))
        for changes in (
            {"hidden": 64},
            {"hidden": 48, "grow": "zero-pad"},
            {"hidden": 64, "grow": "advanced"},
            {"layers": 6},
            {"layers": 6, "grow_depth": "identity"},
        )
    ]
    assert kept == [True, True, False, False, True]


def sparse(layout, pattern, **changes):
    """A dense model with the zeros of a sparse one."""
    model = make(layout, torch.float64, **changes)
    linear.sparsify(model, SparsitySettings(level=0.75, pattern=pattern), seed=3)
    return linear.densify(model)


@pytest.mark.parametrize("pattern", ["unstructured", "block8"])
@pytest.mark.parametrize(("layout", "method"), [("modernbert", "function-preserving"), ("llama", "zero-pad")])
def test_a_sparse_model_grows_to_a_sparse_one_of_its_level(layout, method, pattern):
    small = sparse(layout, pattern, intermediate_size=64)
    settings = shape(layout, hidden=64, ffn=128, layers=5, grow=method, grow_depth="identity")
    sparsity = SparsitySettings(level=0.75, pattern=pattern)
    live = living(small, settings, sparsity, seed=4)
    large = grow(small, settings, seed=4)
    reports = linear.sparsify(large, sparsity, 4, live)
    assert linear.report(large)["level"] == pytest.approx(0.75, abs=0.005)
    assert all(report.dead_rows == 0 for report in reports if pattern != "unstructured")
    torch.testing.assert_close(logits(linear.densify(large)), logits(small), rtol=0, atol=1e-12)


def test_going_on_from_a_sparse_checkpoint_keeps_its_zeros_and_weights():
    small = sparse("bert", "block8")
    same = shape("bert", grow="none")
    live = living(small, same, SparsitySettings(level=0.75, pattern="block8"), seed=99)
    before = {name: weight.clone() for name, weight in linear.dense_weights(small)}
    linear.sparsify(small, SparsitySettings(level=0.75, pattern="block8"), 99, live)
    after = dict(linear.dense_weights(linear.densify(small)))
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


def test_a_dense_checkpoint_gets_drawn_masks_and_another_level_is_refused():
    same = shape("bert", grow="none")
    assert living(make("bert"), same, SparsitySettings(level=0.75), 0) is None
    small = sparse("bert", "unstructured")
    assert living(small, same, SparsitySettings(), 0) is None
    with pytest.raises(RecipeError, match=r"0\.750 of its weights at zero, the recipe 0\.500"):
        living(small, same, SparsitySettings(level=0.5), 0)


def test_blocks_that_growth_would_tear_are_refused():
    small, settings = sparse("bert", "block32", hidden=128), shape("bert", hidden=128, ffn=136)
    with pytest.raises(RecipeError, match="growth would leave") as caught:
        living(small, settings, SparsitySettings(level=0.75, pattern="block32"), 0)
    assert "multiples of the block" in caught.value.fix


def test_gpt2_is_not_padded_while_sparse():
    """Its new coordinates hold the mean of the old ones, which takes dense matrices."""
    small, settings = sparse("gpt2", "unstructured"), shape("gpt2", hidden=48, heads=3, grow="zero-pad")
    with pytest.raises(RecipeError) as caught:
        living(small, settings, SparsitySettings(level=0.75), 0)
    assert caught.value.where == "model.grow"
