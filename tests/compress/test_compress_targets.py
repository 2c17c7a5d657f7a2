"""What is tried for each target, and in which order."""

from __future__ import annotations

import pytest

from wellread.compress import targets
from wellread.compress.methods import METHODS
from wellread.compress.targets import TARGETS, counts, plan
from wellread.errors import UserError


def everything(target, layers=6):
    made = plan(target, layers, 0.5)
    return [candidate for line in (*made.lines, made.nearest) for candidate in line]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layers", [1, 2, 6, 12])
def test_names_are_unique_and_methods_known(target, layers):
    found = everything(target, layers)
    assert len({one.name for one in found}) == len(found)
    for one in found:
        assert one.method in METHODS
        after = one.settings.get("after")
        assert after is None or after["method"] in METHODS
        assert one.says


def test_sensitive_layers_come_before_training():
    for line in (*plan("int8", 6, 0.5).lines, *plan("4bit", 6, 0.5).lines):
        kept = [one.settings.get("keep", 0) for one in line]
        assert max(kept) == 3
        assert kept[:-1] == sorted(kept[:-1])
        assert [one.learns for one in line] == [False] * (len(line) - 1) + [True]


def test_how_many_layers_are_kept():
    assert [counts(layers) for layers in (1, 2, 4, 6, 12)] == [(), (1,), (1, 2), (1, 3), (1, 3, 6)]


def test_int8_of_the_model_itself_must_agree():
    for line in plan("int8", 6, 0.5).lines:
        assert [one.agreement for one in line] == [0.99] * (len(line) - 1) + [0.0]


def test_without_an_engine_int8_is_weights_alone(monkeypatch):
    monkeypatch.setattr(targets.importlib.util, "find_spec", lambda _: None)
    made = plan("int8", 6, 0.5)
    assert made.lines[-1] == (targets.INT8_WEIGHTS,)
    assert targets.missing(made.lines[0][0])
    assert not targets.missing(targets.INT8_WEIGHTS)


def test_an_unknown_target_is_refused():
    with pytest.raises(UserError, match="one of: int8, 4bit"):
        plan("3bit", 6, 0.5)
