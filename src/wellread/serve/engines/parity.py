"""Whether a graph gives the logits of the model that it was made from, over a grid of shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from wellread.errors import ArtefactError
from wellread.serve.engines.engine import Run

TOLERANCE = 1e-4  # of the largest logit where that is above 1
BATCHES = (1, 2, 5)
LENGTHS = (1, 3, 16, 47, 128)


def grid(max_length: int) -> list[tuple[int, int]]:
    """(batch, length) of the shapes that are compared, the longest input among them."""
    shapes = [(batch, length) for batch in BATCHES for length in LENGTHS if length < max_length]
    return [*shapes, (1, max_length), (2, max_length)]


def inputs_of_shape(
    batch: int, length: int, inputs: Sequence[str], vocabulary: int, pad_id: int
) -> dict[str, np.ndarray]:
    """Drawn tokens, the rows of different lengths: int64 (batch, length) each."""
    draw = np.random.default_rng((batch, length))
    lengths = np.maximum(1, length - np.arange(batch) * length // (batch + 1))
    real = np.arange(length) < lengths[:, None]
    ids = draw.integers(0, vocabulary - 1, (batch, length))
    ids += ids >= pad_id
    second = np.arange(length) >= lengths[:, None] // 2
    rows = {
        "input_ids": np.where(real, ids, pad_id),
        "attention_mask": real.astype(np.int64),
        "token_type_ids": (real & second).astype(np.int64),
    }
    return {name: rows[name] for name in inputs}


def check(model: Any, run: Run, inputs: Sequence[str], max_length: int, where: str) -> dict[str, Any]:
    """Compare a graph with the stock model that it was made from, on padded batches.

    Args:
        model: the stock model in evaluation mode, on the CPU.
        run: the graph.
        inputs: names of its inputs.
        max_length: longest input in tokens.
        where: of the error.

    Returns:
        {"shapes", "largest_difference", "tolerance"}: of a logit, at positions that are no padding.

    Raises:
        ArtefactError: a difference beyond the tolerance.
    """
    vocabulary, pad_id = model.config.vocab_size, model.config.pad_token_id or 0
    largest, scale, shapes = 0.0, 1.0, grid(max_length)
    for batch, length in shapes:
        feed = inputs_of_shape(batch, length, inputs, vocabulary, pad_id)
        with torch.inference_mode():
            expected = model(**{name: torch.from_numpy(row) for name, row in feed.items()}).logits.numpy()
        found = run(feed)
        if found.shape != expected.shape:
            _refuse(f"its output has shape {found.shape}, not {expected.shape}", where)
        if expected.ndim == 3:
            real = feed["attention_mask"] == 1
            found, expected = found[real], expected[real]
        largest = max(largest, float(np.nan_to_num(np.abs(found - expected), nan=np.inf).max()))
        scale = max(scale, float(np.abs(expected).max()))
    if largest > TOLERANCE * scale:
        _refuse(f"a logit is off by {largest:.2g}, {TOLERANCE * scale:.2g} is allowed", where)
    return {"shapes": len(shapes), "largest_difference": largest, "tolerance": TOLERANCE * scale}


def _refuse(what: str, where: str) -> None:
    raise ArtefactError(
        f"the exported graph does not give the model's logits: {what}",
        where=where,
        fix="use --format transformers, and the package versions of constraints.txt",
    )
