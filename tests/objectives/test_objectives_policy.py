import numpy as np
import pytest
from pydantic import ValidationError

from wellread.objectives import masking, policy
from wellread.objectives.units.lists import NONE
from wellread.settings import MaskingSettings, PretrainSettings
from wellread.tokens.batch import pack

MASK = 4


def batch():
    rows = [[1, *range(10, 110), 2], [1, *range(200, 260), 2]]
    words = [[-1, *(place // 2 for place in range(len(row) - 2)), -1] for row in rows]
    return pack(rows, words, [8, 3])


def predict(progress=0.0, epoch=0, **settings):
    made = policy.make(MaskingSettings(**settings), NONE, MASK, np.arange(10, 300), 0)
    return made(batch(), epoch, progress)


@pytest.mark.parametrize("units", [{"token": 1}, {"token": 0.3}, {"token": 1, "span": 0, "word": 0}])
def test_weights_1_0_0_are_plain_masking_bit_for_bit(units):
    for epoch in range(3):
        found = predict(units=units, epoch=epoch)
        positions = masking.choose(batch(), 0.3, 0, epoch).positions
        assert found.positions.equal(positions)
        assert found.inputs.input_ids.equal(batch().input_ids.index_fill(0, positions, MASK))
        assert found.targets.equal(batch().input_ids[positions])


def test_the_order_of_the_table_means_nothing():
    one = predict(units={"span": 0.4, "token": 0.6}).positions
    assert one.equal(predict(units={"token": 0.6, "span": 0.4}).positions)
    assert not one.equal(predict(units={"token": 0.4, "span": 0.6}).positions)


@pytest.mark.parametrize("kind", ["lexicon", "tf-idf"])
def test_words_fill_the_budget_where_units_run_out(kind):
    settings = {"units": {kind: 1.0}, "tf_idf_top": 0.01}
    if kind == "lexicon":
        settings["lexicon"] = "terms.txt"
    assert predict(**settings).count == 30 + 18


def test_the_rate_goes_linearly_to_its_end():
    settings = MaskingSettings(rate=0.4, rate_end=0.1)
    assert [policy.rate_at(settings, part) for part in (0.0, 0.5, 1.0)] == pytest.approx([0.4, 0.25, 0.1])
    assert policy.rate_at(MaskingSettings(rate=0.2), 0.7) == 0.2
    assert [predict(part, rate=0.4, rate_end=0.1).count for part in (0.0, 0.5, 1.0)] == [64, 40, 16]
    assert PretrainSettings(masking=settings).mask_rate == pytest.approx(0.25)


@pytest.mark.parametrize("replace", ["bert", "tf-idf"])
def test_what_is_asked_for_does_not_depend_on_what_is_shown(replace):
    plain, other = predict(), predict(replace=replace)
    assert plain.positions.equal(other.positions) and plain.targets.equal(other.targets)
    assert not plain.inputs.input_ids.equal(other.inputs.input_ids)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"units": {"token": 0, "span": 0}}, "sum to 0"),
        ({"units": {}}, "sum to 0"),
        ({"units": {"lexicon": 1}}, "go together"),
        ({"lexicon": "terms.txt"}, "go together"),
        ({"units": {"tokens": 1}}, "token"),
        ({"units": {"token": -1}}, "greater than or equal to 0"),
        ({"rate_end": 0}, "greater than 0"),
        ({"rate_end": 1.5}, "less than or equal to 1"),
    ],
)
def test_impossible_settings_are_refused(settings, told):
    with pytest.raises(ValidationError, match=told):
        MaskingSettings(**settings)


def test_a_unit_without_a_kind_is_refused_and_not_masked_as_words():
    settings = MaskingSettings().model_copy(update={"units": (("syllable", 1.0),)})
    with pytest.raises(KeyError, match="syllable"):
        policy.make(settings, NONE, MASK, np.arange(10, 300), 0)
