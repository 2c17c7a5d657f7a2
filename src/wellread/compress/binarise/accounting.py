"""What a binary encoder weighs and computes, counted from its shapes as BiBERT counts (arXiv 2203.06390).

Binary operations run 64 at a time on a processor's words, so they count as a 64th of a floating-point
operation.  These are counts: what a kernel gains on the clock is measured in benchmarks/binary.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from wellread.settings import ModelSettings
from wellread.sparsity.flops import local_layers, matrix_weights

WORD = 64
# Operations an element, for what is left real; the paper does not list its own.
NORM, GELU, ADD, GATE, ROTATE = 5, 8, 1, 1, 3


@dataclass(frozen=True)
class Count:
    """The real and the binary model side by side.

    Attributes:
        real_bytes, binary_bytes: of the weights.
        real_flops, binary_flops: of one forward pass.
    """

    real_bytes: float
    binary_bytes: float
    real_flops: float
    binary_flops: float


def bert(
    settings: ModelSettings, vocab: int, length: int, *, positions: bool = True, scales: bool = True
) -> Count:
    """Size and operations of a BERT encoder with its pooler.

    The paper's 418 MB and 13.4 MB (of 2 ** 20 bytes) come out where the real tables of positions and the
    scales of the signs are left out of the binary size; both are in the file.

    Args:
        settings: the architecture, of layout "bert".
        vocab: size of the vocabulary.
        length: of the input in tokens.
        positions: whether to count the tables of positions and token types in the binary size.
        scales: whether to count a scale in float32 for each row of signs.
    """
    d, inner, layers = settings.hidden, settings.inner, settings.layers
    matrices = layers * matrix_weights(settings)
    biases = layers * (5 * d + inner) + d
    norms = layers * 4 * d + 2 * d
    tables = (settings.max_length + 2) * d
    signs = matrices + vocab * d + d * d
    rows = layers * (5 * d + inner) + vocab + d
    kept = biases + norms + (tables if positions else 0) + (rows if scales else 0)
    products = 2.0 * (length * matrices + layers * 2 * length * length * d + d * d)
    rest = float(layers * length * (d * 2 * (NORM + ADD) + inner * GELU))
    return Count(
        real_bytes=4.0 * (signs + biases + norms + tables),
        binary_bytes=signs / 8 + 4.0 * kept,
        real_flops=products + rest,
        binary_flops=products / WORD + rest,
    )


def modernbert_flops(settings: ModelSettings, length: int) -> tuple[float, float]:
    """Operations of one forward pass of a ModernBERT encoder, real and binary, as :func:`bert` counts them.

    Args:
        settings: the architecture, of layout "modernbert".
        length: of the input in tokens.
    """
    d, inner, layers = settings.hidden, settings.inner, settings.layers
    local = local_layers(settings)
    reach = (layers - local) * length + local * min(length, settings.local_attention)
    products = 2.0 * length * (layers * matrix_weights(settings) + 2 * reach * d)
    a_layer = d * 2 * (NORM + ADD) + inner * (GELU + GATE) + 2 * d * ROTATE
    rest = float(length * (layers * a_layer + d * NORM))
    return products + rest, products / WORD + rest
