"""Counting before running: FLOPs, parameters and memory of a training step.  Pure Python, no torch.

A multiply-add counts as two FLOPs, a training step as three forward passes (one forward, two backward).
Norms, activations, softmax and look-ups are left out, as in SPDF (arXiv 2303.10464).  These are accounted
FLOPs: what they are on the clock is another matter (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Sequence

from wellread.settings import ModelSettings, SparsitySettings

GATED = ("modernbert", "llama")


def gpt_training_flops_per_token(
    layers: int, hidden: int, length: int, vocab: int, sparsity: float, ffn: int | None = None
) -> float:
    """Training FLOPs per token of a GPT as SPDF and MediSwift count them.

    3 * (2 (1 - s) (4 d^2 + 2 d ffn) L + 4 L T d + 2 V d): attention scores over the full length and the head
    stay dense.  With ``ffn`` = 4 d this gives the published ratios, 2.49 for GPT-3 XL at 75%.

    Args:
        layers: L.
        hidden: d.
        length: T, in tokens.
        vocab: V.
        sparsity: s, the share of zeros in the attention and feed-forward matrices.
        ffn: inner width of the feed-forward block, default 4 d.
    """
    matrices = layers * (4 * hidden**2 + 2 * hidden * (4 * hidden if ffn is None else ffn))
    attention = 4 * layers * length * hidden
    return 3 * (2 * (1 - sparsity) * matrices + attention + 2 * vocab * hidden)


def step_flops(
    settings: ModelSettings, vocab: int, lengths: Sequence[int], predictions: int, level: float
) -> tuple[float, float]:
    """Training FLOPs of one packed batch as it really runs.

    Args:
        settings: the architecture.
        vocab: size of the vocabulary.
        lengths: of the packed sequences, in tokens.
        predictions: number of positions at which the head is computed.
        level: share of zeros in the attention and feed-forward matrices.

    Returns:
        (dense, accounted): without and with the sparsity counted.
    """
    hidden = settings.hidden
    matrices = 2 * sum(lengths) * settings.layers * matrix_weights(settings)
    squares = sum(length * length for length in lengths)
    local = local_layers(settings)
    window = settings.local_attention
    near = sum(length * min(length, window) for length in lengths) if local else 0
    attention = 4 * hidden * ((settings.layers - local) * squares + local * near)
    transform = 0 if settings.causal else hidden * hidden
    head = 2 * predictions * (vocab * hidden + transform)
    return 3.0 * (matrices + attention + head), 3.0 * ((1 - level) * matrices + attention + head)


def training_flops(
    settings: ModelSettings, vocab: int, lengths: Sequence[int], level: float, mask_rate: float = 1.0
) -> dict[str, float]:
    """Training FLOPs of sequences before their masks are drawn.

    Args:
        settings: the architecture; a decoder predicts every token but each sequence's first.
        vocab: size of the vocabulary.
        lengths: of all sequences, in tokens.
        level: share of zeros in the attention and feed-forward matrices.
        mask_rate: encoders: share of the tokens that is predicted.

    Returns:
        ``{"dense": ..., "accounted": ...}``.
    """
    tokens = sum(lengths)
    predictions = tokens - len(lengths) if settings.causal else round(mask_rate * tokens)
    dense, accounted = step_flops(settings, vocab, lengths, predictions, level)
    return {"dense": dense, "accounted": accounted}


def matrix_weights(settings: ModelSettings) -> int:
    """Weights in the attention and feed-forward matrices of one layer, biases left out."""
    projections = 3 if settings.layout in GATED else 2
    return 4 * settings.hidden**2 + projections * settings.hidden * settings.inner


def local_layers(settings: ModelSettings) -> int:
    """Number of layers that attend within a window only."""
    if settings.layout != "modernbert":
        return 0
    return settings.layers - -(-settings.layers // settings.global_every)


def parameters(settings: ModelSettings, vocab: int) -> dict[str, int]:
    """Parameters of the language model (input and output embeddings tied), without building it.

    Returns:
        ``{"total": ..., "without_embeddings": ...}``; the second leaves out the tables of tokens, positions
        and token types.
    """
    hidden, inner, layers = settings.hidden, settings.inner, settings.layers
    matrices = layers * matrix_weights(settings)
    tokens, positions = vocab * hidden, settings.max_length * hidden
    if settings.layout == "modernbert":
        # norms have no bias; the first layer has no norm before its attention
        rest = matrices + (2 * layers + 1) * hidden + hidden * hidden + hidden + vocab
        embeddings = tokens
    elif settings.layout == "bert":
        biases = layers * (4 * hidden + inner + hidden)
        norms = (2 * layers + 2) * 2 * hidden
        rest = matrices + biases + norms + hidden * hidden + hidden + vocab
        embeddings = tokens + positions + 2 * hidden
    elif settings.layout == "llama":
        rest = matrices + (2 * layers + 1) * hidden
        embeddings = tokens
    else:
        rest = matrices + layers * (4 * hidden + inner + hidden) + (2 * layers + 1) * 2 * hidden
        embeddings = tokens + positions
    return {"total": embeddings + rest, "without_embeddings": rest}


def memory_bytes(
    settings: ModelSettings,
    vocab: int,
    optimizer: str = "adamw",
    sparsity: SparsitySettings | None = None,
    averaged: bool = False,
) -> dict[str, int]:
    """Memory that stays through training in float32, by part; activations come on top.

    AdamW keeps two numbers per parameter; Muon keeps one for each hidden matrix; an average of the weights is
    one more of all.  Of a sparse matrix only the living weights are kept; those of the unstructured pattern
    have six bytes of indices each.
    """
    sparsity = sparsity or SparsitySettings()
    matrices = settings.layers * matrix_weights(settings)
    living = round(matrices * (1 - sparsity.level))
    total = parameters(settings, vocab)["total"] - matrices + living
    indexed = living if sparsity.level and sparsity.pattern == "unstructured" else 0
    return {
        "weights": 4 * total,
        "gradients": 4 * total,
        "optimizer": 8 * total - (4 * living if optimizer == "muon" else 0),
        "indices": 6 * indexed,
        **({"average": 4 * total} if averaged else {}),
    }
