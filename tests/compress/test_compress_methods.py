"""The methods that the command offers write folders that ``wellread predict`` reads."""

from __future__ import annotations

import pytest
import torch

from wellread import files
from wellread.compress import gate, methods
from wellread.compress.methods import METHODS
from wellread.compress.quantise import packed
from wellread.compress.subject import load_model, open_subject
from wellread.models import build
from wellread.serve.predict import Predictor

SETTINGS = {
    "quantise": {"quantise": {"bits": 4}, "keep": 1},
    "aware": {"bits": 7, "groups": 1 << 20, "symmetric": True, "activation_bits": 8},
    "structured": {"ffn": 0.5},
    "magnitude": {"level": 0.75},
    "movement": {"level": 0.75},
    "wanda": {"level": 0.5},
    "early_exit": {"drop": 1.0},
    "binary": {},
    "dual": {},
}


@pytest.fixture
def subject(fine_tuned):
    folder, task, settings, _ = fine_tuned("classify", "modernbert")
    return open_subject(folder, task, settings.model_copy(update={"max_steps": 4, "min_steps": 4}))


@pytest.mark.parametrize("method", SETTINGS)
def test_what_is_written_can_predict(subject, tmp_path, method):
    METHODS[method](subject, SETTINGS[method], 0, tmp_path / "model", lambda: [1.0, 2.0])
    found = gate.answers(gate.open_model(tmp_path / "model", subject.folder), subject.task, "dev")
    assert found.logits.shape == (40, 3)


@pytest.mark.parametrize(
    ("choice", "expected"), [({"keep": 1}, [2, 8]), ({"high": 4}, [2, 4]), ({"budget": 2.0}, [2, 2])]
)
def test_bits_follow_the_sensitivity(subject, tmp_path, choice, expected):
    settings = {"quantise": {"bits": 2}, **choice}
    METHODS["quantise"](subject, settings, 0, tmp_path, lambda: [0.1, 0.2])
    assert files.read_json(tmp_path / packed.FACTS)["settings"]["layer_bits"] == expected


def test_the_sensitivity_is_not_measured_for_nothing(subject, tmp_path):
    def omega():
        raise AssertionError("asked for")

    METHODS["quantise"](subject, {"quantise": {"bits": 4}}, 0, tmp_path, omega)
    assert methods._most_sensitive(omega, 0) == []


def test_a_model_trained_for_an_engine_is_stock_and_on_its_levels(subject, tmp_path):
    METHODS["aware"](subject, SETTINGS["aware"], 0, tmp_path, list)
    assert Predictor.load(tmp_path).labels == subject.task.labels
    weight = build.load(tmp_path, "classify").get_parameter("model.layers.0.mlp.Wo.weight")
    step = weight.abs().amax(1, keepdim=True) / 63
    torch.testing.assert_close(weight / step, (weight / step).round(), atol=1e-3, rtol=0)
    before = load_model(subject).get_parameter("model.layers.0.mlp.Wo.weight")
    assert not torch.equal(weight, before)
