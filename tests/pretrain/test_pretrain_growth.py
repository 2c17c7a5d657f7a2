"""A grown run begins at the loss at which the small one ended, dense and sparse."""

import json

import pytest


def facts(folder):
    return json.loads((folder / "pretrain.json").read_text())


def first(folder):
    return json.loads((folder / "validation.jsonl").read_text().splitlines()[0])["loss"]


@pytest.mark.parametrize("sparsity", [{}, {"sparsity": {"level": 0.75, "pattern": "block8"}}])
def test_a_grown_run_begins_where_the_small_one_ended(language, tmp_path, sparsity):
    language.pretrain(tmp_path / "small", {"ffn": 64}, tokens=20_000, learning_rate=5e-3, **sparsity)
    start = {"start": str(tmp_path / "small" / "model"), "grow": "function-preserving"}
    wide = {"hidden": 64, "heads": 4, "ffn": 128}
    language.pretrain(tmp_path / "large", wide | start, tokens=2_000, seed=7, **sparsity)
    small, large = facts(tmp_path / "small"), facts(tmp_path / "large")
    assert first(tmp_path / "large") == pytest.approx(small["loss"], abs=1e-5)
    assert large["parameters"] > 2 * small["parameters"] / 1.2
    assert large["start"] == {
        "grow": "function-preserving",
        "tokens": small["tokens"],
        "flops": small["flops"],
    }
    if sparsity:
        levels = [
            json.loads((tmp_path / name / "sparsity.json").read_text())["level"]
            for name in ("small", "large")
        ]
        assert levels[0] == pytest.approx(levels[1])
