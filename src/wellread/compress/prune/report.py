"""What pruning has left: parameters, zeros by matrix, accounted FLOPs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wellread.compress.prune.masks import matrices


def report(model: Any, lengths: Sequence[int]) -> dict[str, Any]:
    """The size of a model, zeros counted.

    Args:
        model: stock, with zeros or without.
        lengths: of the sequences in tokens for which FLOPs are counted, those of dev for instance.

    Returns:
        ``{"parameters", "living" (parameters that are not zero), "level" (share of zeros in the matrices),
        "layers": [{"name", "shape", "level"}], "flops": {"dense", "accounted"}}``, FLOPs as the mean over
        the sequences of one forward pass through the layers: matrices and attention; embeddings, norms and
        the head are left out.
    """
    layers = [
        {
            "name": name,
            "shape": tuple(matrix.weight.shape),
            "level": 1 - int(matrix.weight.count_nonzero()) / matrix.weight.numel(),
        }
        for name, matrix in matrices(model).items()
    ]
    total = sum(matrix.weight.numel() for matrix in matrices(model).values())
    living = sum(int(matrix.weight.count_nonzero()) for matrix in matrices(model).values())
    parameters = sum(weight.numel() for weight in model.parameters())
    attention = sum(_attention(model.config, length) for length in lengths) / len(lengths)
    tokens = sum(lengths) / len(lengths)
    return {
        "parameters": parameters,
        "living": sum(int(weight.count_nonzero()) for weight in model.parameters()),
        "level": 1 - living / total,
        "layers": layers,
        "flops": {"dense": 2 * tokens * total + attention, "accounted": 2 * tokens * living + attention},
    }


def _attention(config: Any, length: int) -> float:
    """FLOPs of scores and mixing in all layers, for one sequence."""
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    window = getattr(config, "local_attention", length)
    seen = sum(length if kind == "full_attention" else min(length, window) for kind in kinds)
    return 4.0 * config.num_attention_heads * size * length * seen
