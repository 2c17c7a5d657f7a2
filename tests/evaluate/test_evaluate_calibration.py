"""Expected calibration error, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from wellread.evaluate.calibration import calibration, decisions


def test_by_hand() -> None:
    # Bins of 1/5: (0.2, 0.4] has 0.3 and 0.4, (0.8, 1] has 0.9 and 1.0 and 0.85.
    found = calibration(np.array([0.3, 0.4, 0.9, 1.0, 0.85]), np.array([0, 1, 1, 1, 0]), bins=5)
    low = abs(0.35 - 0.5) * 2 / 5
    high = abs((0.9 + 1.0 + 0.85) / 3 - 2 / 3) * 3 / 5
    assert found["ece"] == pytest.approx(low + high)
    assert [one["count"] for one in found["bins"]] == [2, 3]
    assert found["bins"][0]["confidence"] == pytest.approx(0.35)
    assert found["bins"][1]["accuracy"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("value", [0.0, 1.0, 1 / 15, 2 / 15, 0.5])
def test_borders_have_a_bin(value: float) -> None:
    found = calibration(np.array([value]), np.array([1]))
    assert found["ece"] == pytest.approx(1 - value) and found["bins"][0]["count"] == 1


def test_perfect_calibration_has_no_error() -> None:
    generator = np.random.default_rng(0)
    confidence = generator.random(200_000)
    assert calibration(confidence, generator.random(200_000) < confidence)["ece"] < 0.005
    assert calibration(np.array([]), np.array([])) == {"ece": 0.0, "bins": []}


def test_decisions() -> None:
    scores = np.array([[0.2, 0.7, 0.1], [0.5, 0.2, 0.3]])
    sure, right = decisions("classify", np.array([1, 2]), scores)
    assert sure.tolist() == [0.7, 0.5] and right.tolist() == [True, False]
    sure, right = decisions("multilabel", np.array([[True, False, True]]), np.array([[0.8, 0.4, 0.1]]))
    assert sure == pytest.approx([0.8, 0.6, 0.9]) and right.tolist() == [True, True, False]
