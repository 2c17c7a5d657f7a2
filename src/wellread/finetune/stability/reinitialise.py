"""Re-initialising the top blocks: what pre-training made of them fits its own objective too well.

Zhang et al. (arXiv 2006.05987); found best on the smallest biomedical task by Tinn et al.
(arXiv 2112.07869).
"""

from __future__ import annotations

from typing import Any

import torch

from wellread import rng
from wellread.finetune.stability.layers import depths
from wellread.models.build import seeded

OUTPUTS = ("classifier.", "score.")  # the last layer of a stock classifier is fresh in any case


@torch.no_grad()
def reinitialise(model: Any, layers: int, seed: int) -> None:
    """Give the top of a model the weights that its layout begins pre-training with, in place.

    That is N(0, initializer_range) for BERT, and what transformers draws for the other layouts; biases 0,
    norms 1 and 0.

    Args:
        model: a stock model of L blocks.
        layers: 0 for nothing; k for the top k blocks and what stands between them and the last layer (final
            norm, BERT's pooler, ModernBERT's head transform); a language model keeps its head.
        seed: of the run.
    """
    if not layers:
        return
    with seeded(rng.derive(seed, "finetune-reinitialise")):
        fresh = dict(type(model)(model.config).named_parameters())
    depth, body = depths(model), f"{model.base_model_prefix}."
    keeps_head = model.get_output_embeddings() is not None
    for name, weight in model.named_parameters():
        is_kept = name.startswith(OUTPUTS) or (keeps_head and not name.startswith(body))
        if depth[name] <= layers and not is_kept and name in fresh:  # what a head has added is fresh anyway
            weight.copy_(fresh[name])
