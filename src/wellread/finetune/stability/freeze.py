"""Layer freezing: the embeddings and the first blocks keep what pre-training has taught them.

Found best for base-size models on small biomedical data by Tinn et al. (arXiv 2112.07869).
"""

from __future__ import annotations

from typing import Any

from wellread.finetune.stability.layers import blocks, depths


def freeze(model: Any, layers: int | None) -> None:
    """Stop the training of the lower part of a model, in place.

    Frozen weights get no gradient, no state in the optimiser and no decay, and the backward pass ends above
    them.  Their dropout stays on.

    Args:
        model: a stock model of L blocks.
        layers: None for nothing; 0 for the embeddings; k for the embeddings and the first k blocks.
    """
    if layers is None:
        return
    last = len(blocks(model)[1]) - layers
    depth = depths(model)
    for name, weight in model.named_parameters():
        if depth[name] > last:
            weight.requires_grad_(False)
