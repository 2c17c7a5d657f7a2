"""What a recipe may name and what there is agree, where the two stand in different files."""

import re
from pathlib import Path
from typing import get_args

import pytest

import wellread
from wellread import known_models
from wellread.compress.methods import METHODS as COMPRESSIONS
from wellread.compress.targets import TARGETS, plan
from wellread.evaluate import rivals
from wellread.evaluate.rivals.run import RIVALS
from wellread.finetune.data import HEADS
from wellread.finetune.light.methods import METHODS as LIGHT
from wellread.objectives import policy
from wellread.objectives.units.lists import NONE
from wellread.pretrain import auxiliary
from wellread.pretrain.optimizer import DECAY
from wellread.report import results
from wellread.settings import (
    Beside,
    EvaluateSettings,
    FinetuneSettings,
    LightSettings,
    MaskingSettings,
    ModelSettings,
    PretrainSettings,
    SparsitySettings,
    Unit,
)
from wellread.sparsity import patterns
from wellread.tokens import tokenizer


def named(settings, key):
    """What a key may be, or hold."""
    annotation = settings.model_fields[key].annotation
    parts = get_args(annotation)
    return set(parts if isinstance(parts[0], str) else get_args(parts[0]))


# tests/schedules/test_schedules_learning_rate.py does the same for schedules.
@pytest.mark.parametrize(
    ("said", "there"),
    [
        pytest.param(named(PretrainSettings, "optimizer"), DECAY, id="optimizer"),
        pytest.param(named(LightSettings, "method") - {"full"}, LIGHT, id="light"),
        pytest.param(named(FinetuneSettings, "head"), HEADS, id="head"),
        pytest.param(named(SparsitySettings, "pattern"), get_args(patterns.Pattern), id="pattern"),
        pytest.param(named(EvaluateSettings, "rivals"), RIVALS, id="rivals"),
        pytest.param(set(rivals.NAMES), RIVALS, id="rivals of the benchmarks"),
        pytest.param(set(results.RIVALS), RIVALS, id="rivals in the report"),
    ],
)
def test_what_may_be_named_is_there_and_the_other_way_round(said, there):
    assert said == set(there)


def test_each_unit_of_masking_has_a_kind():
    every = MaskingSettings(units=dict.fromkeys(get_args(Unit), 1.0), lexicon="terms.txt")
    assert len(policy.kinds(every, NONE)) == len(get_args(Unit))
    assert set(get_args(Unit)) > policy.COVERING


def test_each_objective_besides_is_made():
    every = PretrainSettings(besides=dict.fromkeys(get_args(Beside), 1.0), categories="year")
    model = ModelSettings(layers=2, hidden=64, heads=2, max_length=64)
    pieces = tokenizer.load(known_models.models_folder() / known_models.PUBMED_MINI)
    made = auxiliary.make(model, every, pieces, None, 0)
    assert sorted(one.name for one in made) == sorted(get_args(Beside))


@pytest.mark.parametrize("target", TARGETS)
def test_each_candidate_of_a_target_has_its_method(target):
    found = plan(target, layers=6, max_drop=0.5)
    candidates = [one for line in (*found.lines, found.nearest) for one in line]
    after = [one.settings["after"]["method"] for one in candidates if "after" in one.settings]
    assert {*after, *(one.method for one in candidates)} <= set(COMPRESSIONS)


def test_every_place_that_contributors_are_sent_to_is_there():
    package = Path(wellread.__file__).parent
    root = package.parents[1]
    told = re.findall(r"`([\w./-]*/[\w./-]*)`", (root / "docs" / "contributing.md").read_text("utf-8"))
    places = {place.rpartition("/")[0] if "NAME" in place else place for place in told}
    assert len(places) > 40
    assert [one for one in sorted(places) if not ((package / one).exists() or (root / one).exists())] == []
