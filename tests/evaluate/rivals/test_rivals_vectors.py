"""Word vectors: pointwise mutual information by hand, the same bits again, in bounded memory."""

from __future__ import annotations

import math
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from wellread.errors import ArtefactError, DataError
from wellread.evaluate.rivals import vectors

ANIMALS, FOODS = ["cat", "dog", "horse"], ["bread", "cheese", "apple"]


def sentences(count: int = 400) -> list[str]:
    generator = random.Random(0)
    made = []
    for _ in range(count):
        words, frame = (
            (ANIMALS, "the {} runs in field") if generator.random() < 0.5 else (FOODS, "we eat {} at noon")
        )
        made.append(frame.format(generator.choice(words)))
    return made


def by_hand(texts: list[str], place: dict[str, int]) -> np.ndarray:
    """Positive pointwise mutual information with plain loops."""
    counts: Counter[tuple[int, int]] = Counter()
    for text in texts:
        words = vectors.words(text)
        for i, left in enumerate(words):
            for j, right in enumerate(words):
                near = abs(i - j)
                if 0 < near <= vectors.WINDOW and left in place and right in place:
                    counts[place[left], place[right]] += (vectors.WINDOW + 1 - near) / vectors.WINDOW
    total = sum(counts.values())
    single = [sum(n for (a, _), n in counts.items() if a == word) for word in range(len(place))]
    smooth = [count**vectors.SMOOTHING for count in single]
    found = np.zeros((len(place), len(place)))
    for (a, b), count in counts.items():
        found[a, b] = max(0.0, math.log((count / total) / (single[a] / total * smooth[b] / sum(smooth))))
    return found


def test_mutual_information_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = sentences(60)
    place = {word: number for number, word in enumerate(sorted({w for t in texts for w in vectors.words(t)}))}
    whole = vectors._neighbours(iter(texts), place)
    assert np.allclose(vectors._ppmi(whole).toarray(), by_hand(texts, place), atol=1e-5)
    monkeypatch.setattr(vectors, "PENDING", 7)  # added up in many small parts
    assert np.allclose(vectors._neighbours(iter(texts), place).toarray(), whole.toarray())
    monkeypatch.setattr(vectors, "MOST_PAIRS", 20)
    kept = vectors._neighbours(iter(texts), place)
    assert kept.nnz <= 40 < whole.nnz


def test_words_of_a_kind_are_near_and_bits_repeat(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        vectors.train(sentences, tmp_path / name, quiet=True)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    found = vectors.load(tmp_path / "one")
    rows = found.rows[[found.place[word] for word in (*ANIMALS, *FOODS)]]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosine = rows @ rows.T
    assert cosine[:3, :3].min() > cosine[:3, 3:].max()
    assert not found.rows[-1].any() and found.weights[-1] == 0
    # Frequent words weigh less.
    assert found.weights[found.place["the"]] < found.weights[found.place["cat"]]


def test_too_little_text_and_damage(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too little text"):
        vectors.train(lambda: ["one two", "three"], tmp_path, quiet=True)
    with pytest.raises(ArtefactError):
        vectors.load(tmp_path)
