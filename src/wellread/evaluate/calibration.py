"""Expected calibration error (Guo et al., 2017): how far confidence and accuracy lie apart."""

from __future__ import annotations

from typing import Any

import numpy as np

BINS = 15


def calibration(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> dict[str, Any]:
    """ECE over equal-width bins ((0, 1/15], (1/15, 2/15], ...), and the bins that hold something.

    Args:
        confidence: probability of the prediction that was made, (decisions,).
        correct: whether it was right, (decisions,).
        bins: how many.

    Returns:
        ``{"ece": float, "bins": [{"confidence", "accuracy", "count"}, ...]}``.
    """
    confidence = np.asarray(confidence, dtype=np.float64).ravel()
    correct = np.asarray(correct, dtype=np.float64).ravel()
    places = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(places, minlength=bins)
    sure = np.bincount(places, weights=confidence, minlength=bins)
    right = np.bincount(places, weights=correct, minlength=bins)
    filled = [
        {"confidence": sure[i] / counts[i], "accuracy": right[i] / counts[i], "count": int(counts[i])}
        for i in np.flatnonzero(counts)
    ]
    ece = float(np.abs(right - sure).sum() / max(len(confidence), 1))
    return {
        "ece": ece,
        "bins": [{key: float(v) if key != "count" else v for key, v in b.items()} for b in filled],
    }


def decisions(kind: str, gold: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confidence and correctness of every decision.

    For classify one decision per example (the most probable class); for multilabel one per example and label.

    Args:
        kind: classify or multilabel.
        gold: class numbers (examples,), or bool (examples, labels).
        scores: probabilities (examples, labels).
    """
    if kind == "classify":
        chosen = scores.argmax(axis=1)
        return scores[np.arange(len(scores)), chosen], chosen == gold
    said = scores >= 0.5
    return np.where(said, scores, 1 - scores).ravel(), (said == gold).ravel()
