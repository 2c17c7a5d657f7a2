"""A variant that grows from another of the same recipe: planned, run in order, refused with key and cure."""

import json

import pytest

from synthetic import write_tiny_run
from wellread import api, recipe
from wellread.errors import RecipeError
from wellread.plan import examine as plan

GROWN = """
[[variants]]
name = "grown"
model = { start = "variants.small", grow = "function-preserving", hidden = 64, heads = 4, ffn = 192 }

[[variants]]
name = "small"
"""


def facts(folder):
    return json.loads((folder / "pretrain.json").read_text())


def first(folder):
    return json.loads((folder / "validation.jsonl").read_text().splitlines()[0])["loss"]


def read(folder):
    """What each step read and predicted: its tokens, and the FLOPs, which count the masked ones."""
    rows = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [(row["tokens"], row["flops"]) for row in rows]


def tiny_recipe(folder, text):
    path = write_tiny_run(folder, records=120)
    kept = path.read_text().split("[pretrain.sparsity]")[0]
    path.write_text(kept + text)
    return path


def test_a_variant_grows_from_another_of_the_same_run(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "PROBE_SECONDS", 0.05)
    path = tiny_recipe(tmp_path, 'precision = "fp32"\nlengths = [[32, 0.5], [64, 0.5]]\n' + GROWN)
    found = plan.plan(str(path), tmp_path / "run")
    assert found["problems"] == []
    assert any("grown from 2 x 32" in note and "computes the same" in note for note in found["notes"])
    assert any("FLOPs were spent before on small" in note for note in found["notes"])
    api.run(str(path), out=tmp_path / "run", until="pretrain", quiet=True)
    stages = tmp_path / "run" / "stages" / "pretrain"
    small, grown = facts(stages / "small"), facts(stages / "grown")
    assert grown["start"]["flops"] == small["flops"]
    assert first(stages / "grown") == pytest.approx(small["loss"], abs=1e-5)


ON = """
[[variants]]
name = "small"

[[variants]]
name = "on"
model = { start = "variants.small" }
pretrain = { seed = 1 }

[[variants]]
name = "again"
model = { start = "variants.small" }
pretrain = { seed = 0 }
"""


def test_a_variant_goes_on_with_other_draws(tmp_path):
    path = tiny_recipe(tmp_path, 'precision = "fp32"\n' + ON)
    api.run(str(path), out=tmp_path / "run", until="pretrain", quiet=True)
    stages = tmp_path / "run" / "stages" / "pretrain"
    assert read(stages / "again") == read(stages / "small")
    assert read(stages / "on") != read(stages / "small")


def test_impossible_growth_is_a_problem_of_the_plan(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "PROBE_SECONDS", 0.05)
    path = tiny_recipe(tmp_path, GROWN.replace("hidden = 64, heads = 4", "hidden = 48, heads = 3"))
    (problem,) = plan.plan(str(path), tmp_path / "run")["problems"]
    assert problem["where"] == "model.hidden"
    assert "no multiple of the 32" in problem["what"] and "advanced" in problem["fix"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (GROWN.replace("variants.small", "variants.other"), "no variant 'other'"),
        (GROWN.replace("variants.small", "variants.grown"), "would need itself"),
        ("lengths = [[32, 0.5], [128, 0.5]]\n", "must be model.max_length"),
        ("lengths = [[8, 0.5], [64, 0.5]]\n", "cannot have sequences of 8"),
        ("submodels = 2\n", "must be less than model.layers"),
    ],
)
def test_impossible_recipes_are_refused(tmp_path, text, why):
    with pytest.raises(RecipeError, match=why):
        recipe.load(tiny_recipe(tmp_path, text))
