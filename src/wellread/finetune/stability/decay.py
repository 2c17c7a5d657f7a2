"""Layer-wise learning-rate decay: the deeper a weight lies, the less it moves (arXiv 2006.05987)."""

from __future__ import annotations

from typing import Any

from wellread.finetune.stability.layers import depths


def peak_rates(model: Any, peak: float, decay: float) -> dict[str, float]:
    """Peak learning rate of every parameter, by name: ``peak * decay ** depth``.

    Args:
        model: a stock model of L blocks.
        peak: rate of the head; the top block has ``peak * decay``, the embeddings
            ``peak * decay ** (L + 1)``.
        decay: in (0, 1]; 1 gives all the same rate.
    """
    return {name: peak * decay**depth for name, depth in depths(model).items()}
