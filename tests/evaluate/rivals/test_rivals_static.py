"""Means over texts and windows over words, by hand."""

from __future__ import annotations

import numpy as np
from rival_tasks import task_of

from wellread.evaluate.rivals import static
from wellread.evaluate.rivals.vectors import Vectors
from wellread.tasks.task import Example

ROWS = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]], dtype=np.float32)
MADE = Vectors({"cat": 0, "the": 1}, ROWS, np.array([1.0, 0.5, 0.0], dtype=np.float32), 24)


def test_means_over_known_words() -> None:
    found = static.text_vectors(["The cat", "a dog", "", "cat CAT unknown"], MADE)
    assert np.allclose(found, [[1 / 1.5, 0.5 * 2 / 1.5], [0, 0], [0, 0], [1, 0]])


def test_windows_over_words() -> None:
    task = task_of("tag", (2, 1, 1))
    rows = static.features(task, [Example("1", "", ("O",) * 3, tokens=("The", "CAT", "x2"))], MADE)
    assert rows.shape == (3, 5 * (2 + 4)) and rows.dtype == np.float32
    first, middle, last = rows.reshape(3, 5, 6)
    outside, the, cat, x2 = [0] * 6, [0, 2, 1, 0, 0, 1], [1, 0, 1, 1, 0, 1], [0, 0, 0, 0, 1, 1]
    assert first.tolist() == [outside, outside, the, cat, x2]
    assert middle.tolist() == [outside, the, cat, x2, outside]
    assert last.tolist() == [the, cat, x2, outside, outside]
