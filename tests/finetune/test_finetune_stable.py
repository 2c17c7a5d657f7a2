"""Named recipes: what they pick, that stated settings win, and that results depend on both."""

import json

import pytest
import toy

from wellread.errors import RecipeError
from wellread.finetune import grid, stable
from wellread.finetune.stable import Size
from wellread.models import build
from wellread.settings import FinetuneSettings
from wellread.tasks.read import write_task

MINI, BASE, LARGE = Size(4, 256, True), Size(12, 768, True), Size(24, 1024, True)


def picked(kind="classify", examples=450, size=BASE, **stated):
    return stable.resolve(FinetuneSettings(recipe="stable", **stated), kind, examples, size)[1]


@pytest.mark.parametrize(
    ("kind", "examples", "size", "keeping"),
    [
        ("regress", 64, BASE, {"reinit_layers": 2}),
        ("regress", 64, LARGE, {"reinit_layers": 4}),
        ("regress", 64, MINI, {}),
        ("classify", 450, BASE, {"freeze_layers": 6}),
        ("classify", 450, LARGE, {"layer_decay": 0.95}),
        ("classify", 450, MINI, {}),
        ("multilabel", 1295, Size(6, 384, True), {"freeze_layers": 3}),
        ("classify", 5000, BASE, {}),
        ("tag", 500, BASE, {}),
        ("classify", 450, Size(12, 768, False), {}),
    ],
)
def test_what_is_kept_depends_on_task_and_model(kind, examples, size, keeping):
    found = picked(kind, examples, size)
    assert {key: found[key] for key in stable.KEEPING if key in found} == keeping


@pytest.mark.parametrize("head", ["mlm", "similarity", "comparison"])
def test_what_answers_with_its_last_layers_keeps_them(head):
    assert picked(examples=64)["reinit_layers"] == 2
    assert not picked(examples=64, head=head).keys() & set(stable.KEEPING)
    assert not picked(examples=0).keys() & set(stable.KEEPING)


def test_no_run_is_stopped_before_its_rate_has_fallen():
    for examples in (64, 1000, 20_000):
        found = picked(examples=examples)
        assert found["patience"] >= found["evaluations"]


def test_fewer_examples_take_more_epochs():
    assert [picked(examples=n)["epochs"] for n in (64, 999, 1000, 4999, 5000)] == [20, 20, 10, 10, 5]
    assert picked(examples=64)["min_steps"] * picked(examples=64)["batch"] / 64 == 50


def test_standard_is_the_original_recipe():
    settings, found = stable.resolve(FinetuneSettings(recipe="standard"), "classify", 450, BASE)
    assert (settings.epochs, settings.batch, settings.learning_rate) == (3, 32, 3e-5)
    assert (settings.bias_correction, settings.evaluations, settings.min_steps) == (False, 1, 0)
    assert (settings.freeze_layers, settings.layer_decay, settings.reinit_layers) == (None, 1.0, 0)
    assert (settings.average, settings.rdrop) == ("none", 0.0)
    assert found.items() <= settings.model_dump().items()


def test_what_is_stated_wins_even_where_it_is_the_default():
    settings, found = stable.resolve(
        FinetuneSettings(recipe="stable", epochs=10, batch=8), "classify", 64, BASE
    )
    assert (settings.epochs, settings.batch) == (10, 8)
    assert not {"epochs", "batch"} & set(found)
    assert settings.recipe is None
    assert stable.resolve(settings, "classify", 64, BASE) == (settings, {})


@pytest.mark.parametrize("stated", [{"layer_decay": 0.9}, {"reinit_layers": 0}, {"freeze_layers": None}])
def test_one_way_of_keeping_stated_and_none_is_picked(stated):
    assert not set(stable.KEEPING) & set(picked(**stated))


def test_nothing_is_re_initialised_under_a_light_weight_method():
    settings = FinetuneSettings(recipe="stable", light={"method": "lora"})
    picked = stable.resolve(settings, "classify", 100, BASE)[1]
    assert picked["epochs"] == 20 and not set(picked) & set(stable.KEEPING)


def test_without_a_recipe_nothing_is_picked():
    given = FinetuneSettings(epochs=4)
    assert stable.resolve(given, "classify", 64, BASE) == (given, {})


def test_without_pretraining_nothing_is_frozen_or_decayed_by_layer():
    given = FinetuneSettings(freeze_layers=2, layer_decay=0.9, reinit_layers=1, batch=7)
    assert stable.resolve(given, "classify", 64, BASE)[0] == given
    settings, _ = stable.resolve(given, "classify", 64, Size(12, 768, False))
    assert (settings.freeze_layers, settings.layer_decay, settings.reinit_layers) == (None, 1.0, 0)
    assert settings.batch == 7


def test_rates_fall_with_the_square_of_the_width():
    rates = {
        width: stable.rate("classify", Size(12, width, True)) for width in (32, 128, 384, 768, 1024, 4096)
    }
    assert rates == {32: 3e-3, 128: 1.1e-3, 384: 1.2e-4, 768: 3e-5, 1024: 1.7e-5, 4096: 1e-5}


def test_very_small_models_tag_at_three_times_the_rate():
    assert stable.rate("tag", Size(6, 256, True)) == 8.1e-4
    assert stable.rate("tag", Size(6, 384, True)) == stable.rate("regress", Size(6, 384, True)) == 1.2e-4


def test_every_pick_is_a_valid_setting():
    for kind in toy.KINDS:
        for examples in (1, 64, 450, 3000, 100_000):
            for size in (MINI, BASE, LARGE, Size(1, 32, True)):
                for name in ("stable", "standard"):
                    chosen, _ = stable.resolve(FinetuneSettings(recipe=name), kind, examples, size)
                    assert FinetuneSettings.model_validate(chosen.model_dump()) == chosen
                    stable.check(chosen, size)


def test_the_size_of_a_checkpoint_is_in_its_configuration(tokenizer, bpe, tmp_path):
    for layout in toy.LAYOUTS:
        used = bpe if layout in ("llama", "gpt2") else tokenizer
        made = build.build(toy.model(layout), used, "clm" if used is bpe else "mlm", 0)
        build.save(made, used, tmp_path / layout)
        assert stable.size_of(tmp_path / layout) == Size(2, 32, True)
        assert stable.size_of(toy.model(layout)) == Size(2, 32, False)
    assert BASE.parameters == 84_934_656


def test_more_layers_than_there_are_is_refused():
    with pytest.raises(RecipeError, match=r"finetune\.freeze_layers.*3"):
        stable.check(FinetuneSettings(freeze_layers=3), Size(2, 32, True))
    with pytest.raises(RecipeError, match=r"finetune\.reinit_layers"):
        stable.check(FinetuneSettings(reinit_layers=3), Size(2, 32, True))
    with pytest.raises(RecipeError, match=r"finetune\.freeze_layers"):
        stable.check(FinetuneSettings(freeze_layers=1, reinit_layers=2), Size(2, 32, True))
    stable.check(FinetuneSettings(freeze_layers=1, reinit_layers=1), Size(2, 32, True))


def test_what_a_result_depends_on_says_what_was_stated():
    plain, stated = FinetuneSettings(recipe="stable"), FinetuneSettings(recipe="stable", epochs=10)
    assert plain.model_dump() == stated.model_dump()
    assert plain.facts("starts") != stated.facts("starts")
    assert FinetuneSettings().facts() == FinetuneSettings(epochs=10).facts()
    more = FinetuneSettings(recipe="stable", seeds=(0, 1))
    assert plain.facts("seeds") == more.facts("seeds")


def test_a_grid_records_and_says_what_was_picked(tokenizer_folder, tmp_path, capsys):
    write_task(toy.task("classify", 24, 8), tmp_path / "task")
    settings = FinetuneSettings(recipe="standard", seeds=(0,), max_steps=2)
    names = {"task_name": "toy", "model_name": "main", "start_name": "random"}
    folder = tmp_path / "grid"
    grid.run(
        grid.Job(tmp_path / "task", toy.model(), tokenizer_folder, settings, (8, "all"), folder, **names)
    )
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("toy: standard")]
    assert said == [
        "toy: standard for 8, 24 examples and 2 layers x 32: epochs = 3, min_steps = 0, "
        "learning_rate = 0.003, bias_correction = false, evaluations = 1"
    ]
    result = json.loads((folder / "units/random-8-0/result.json").read_bytes())
    assert result["picked"] == stable.standard("classify", Size(2, 32, False))
    assert result["steps"] == 1
    before = (folder / "units/random-8-0/manifest.json").read_bytes()
    stated = FinetuneSettings(recipe="standard", seeds=(0,), max_steps=2, batch=32)
    grid.run(grid.Job(tmp_path / "task", toy.model(), tokenizer_folder, stated, (8, "all"), folder, **names))
    assert (folder / "units/random-8-0/manifest.json").read_bytes() != before
