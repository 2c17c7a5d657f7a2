"""What an objective asks of a model, and the loss on it.

An objective turns a batch into a :class:`Prediction`: what the model reads, where it has to answer, and the
right answers.  The head runs at those positions only, and a part of them at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from transformers import PreTrainedModel

from wellread.models.heads import lm_head, lm_logits
from wellread.models.packed import hidden_states
from wellread.objectives import cross_entropy
from wellread.precision import narrowed
from wellread.tokens.batch import PackedBatch

# Logits of one chunk stay near the processor's caches (measured: 16 MB chunks take 0.78 of the time of whole
# logits at vocabulary 8,192), but a chunk has rows enough for a fast matrix product.
CHUNK_BYTES = 16 << 20
# Adding a product of bfloat16 to the weight's gradient is slow, so these are larger and fewer.
NARROW_CHUNK_BYTES = 64 << 20
CHUNK_ROWS = 256


@dataclass(frozen=True)
class Soft:
    """A teacher's likeliest tokens at M positions.

    Attributes:
        ids: (M, k) int64 token ids.
        probabilities: (M, k) float32, of each row the sum is 1.
        weight: share of the loss; the right tokens get the rest.
        temperature: by which the student's logits are divided.
    """

    ids: Tensor
    probabilities: Tensor
    weight: float
    temperature: float

    def to(self, device: torch.device | str) -> Soft:
        """The same on another device."""
        return replace(self, ids=self.ids.to(device), probabilities=self.probabilities.to(device))

    def rows(self, start: int, stop: int) -> Soft:
        """Some of the positions."""
        return replace(self, ids=self.ids[start:stop], probabilities=self.probabilities[start:stop])


@dataclass(frozen=True)
class Prediction:
    """A batch and what is to be predicted from it.

    Attributes:
        inputs: what the model reads, T tokens.
        positions: (M,) int64, where it answers.
        targets: (M,) int64, the token ids that are right there.
        soft: what a teacher says there; None without one.
        ngrams: (G,) int64 places at which whole n-grams are asked, and (G,) their numbers; or None.
    """

    inputs: PackedBatch
    positions: Tensor
    targets: Tensor
    soft: Soft | None = None
    ngrams: tuple[Tensor, Tensor] | None = None

    @property
    def count(self) -> int:
        """How many tokens are predicted."""
        return int(self.positions.shape[0])

    def to(self, device: torch.device | str) -> Prediction:
        """The same on another device."""
        return Prediction(
            self.inputs.to(device),
            self.positions.to(device, non_blocking=True),
            self.targets.to(device, non_blocking=True),
            self.soft.to(device) if self.soft is not None else None,
            self.ngrams and (self.ngrams[0].to(device), self.ngrams[1].to(device)),
        )


def loss(model: PreTrainedModel, prediction: Prediction) -> Tensor:
    """The cross-entropy in nats, summed over the predicted tokens; a scalar to differentiate.

    With a teacher, the mean, by its weight, of that and of its own (see :func:`token_loss`).
    Divide by the ``count`` of the whole step's predictions, not of each part, when gradients accumulate.
    """
    return head_loss(model, hidden_states(model, prediction.inputs), prediction)


def head_loss(model: PreTrainedModel, states: Tensor, prediction: Prediction) -> Tensor:
    """The same from the (T, d) last hidden states of the prediction's inputs."""
    transform, decoder = lm_head(model)
    features = transform(states.index_select(0, prediction.positions))
    return _LinearLoss.apply(features, decoder.weight, decoder.bias, prediction.targets, prediction.soft)


def token_loss(logits: Tensor, targets: Tensor, soft: Soft | None) -> Tensor:
    """The loss of some tokens, summed: cross-entropy, or its mixture with that under a teacher.

    The teacher's part is ``-T^2 sum_k p_k log softmax(logits / T)_k``, whose gradient is that of T^2 times
    the Kullback-Leibler divergence (Hinton et al., arXiv 1503.02531).

    Args:
        logits: (M, vocabulary) float32.
        targets: (M,) int64.
        soft: of the same M positions.
    """
    hard = F.cross_entropy(logits, targets, reduction="sum")
    if soft is None:
        return hard
    logs = F.log_softmax(logits / soft.temperature, dim=-1).gather(-1, soft.ids)
    taught = -(soft.temperature**2) * (soft.probabilities * logs).sum()
    return (1 - soft.weight) * hard + soft.weight * taught


@torch.no_grad()
def score(model: PreTrainedModel, prediction: Prediction) -> tuple[float, int]:
    """The summed cross-entropy in nats, and how many tokens are predicted rightly; without gradients."""
    hidden = hidden_states(model, prediction.inputs).index_select(0, prediction.positions)
    total, right = 0.0, 0
    rows = _chunk_rows(model.config.vocab_size)
    for part, targets in zip(hidden.split(rows), prediction.targets.split(rows), strict=True):
        logits = lm_logits(model, part).float()
        total += float(F.cross_entropy(logits, targets, reduction="sum"))
        right += int((logits.argmax(-1) == targets).sum())
    return total, right


class _LinearLoss(torch.autograd.Function):
    """The layer over the vocabulary and the summed loss, differentiated chunk by chunk on the way forward.

    The logits (M, V) never stand whole, and nothing is computed twice: the gradients of a sum are known as
    soon as its chunk is, up to the factor that ``backward`` brings.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, soft: Soft | None
    ) -> Tensor:
        total = torch.zeros((), dtype=torch.float32, device=features.device)
        asked = ctx.needs_input_grad
        to_features = torch.zeros_like(features) if asked[0] else None
        to_weight = torch.zeros_like(weight) if asked[1] else None
        to_bias = torch.zeros_like(bias) if bias is not None and asked[2] else None
        # Once, not for each chunk, where autocast multiplies in half precision.
        narrow, vectors = (narrowed(x) for x in (weight, features))
        for start, stop in row_chunks(len(weight), len(features), narrow.dtype):
            rows = slice(start, stop)
            logits = F.linear(vectors[rows], narrow, bias)
            if soft is None:
                loss, errors = cross_entropy.differentiated(logits, targets[rows])
            else:
                loss, errors = _differentiated(logits.float(), targets[rows], soft.rows(start, stop))
            total += loss
            if to_bias is not None:
                cross_entropy.add_rows(to_bias, errors)
            errors = narrowed(errors)
            if to_features is not None:
                to_features[rows] = errors @ narrow
            if to_weight is not None:
                _add_product(to_weight, errors.T, vectors[rows])
        ctx.save_for_backward(to_features, to_weight, to_bias)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        # In place: the weight's is as large as the embedding.
        return (*(one if one is None else one.mul_(outer[0]) for one in ctx.saved_tensors), None, None)


def _differentiated(logits: Tensor, targets: Tensor, soft: Soft) -> tuple[Tensor, Tensor]:
    """:func:`token_loss` and its gradient."""
    with torch.enable_grad():
        logits = logits.detach().requires_grad_()
        loss = token_loss(logits, targets, soft)
        return loss.detach(), torch.autograd.grad(loss, logits)[0]


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Total += left @ right, whose type may be half as wide."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right


def row_chunks(vocabulary: int, rows: int, kind: torch.dtype = torch.float32) -> Iterator[tuple[int, int]]:
    """(start, stop) of so many rows at a time as logits of that type may stand whole."""
    size = _chunk_rows(vocabulary, kind)
    for start in range(0, rows, size):
        yield start, min(start + size, rows)


def _chunk_rows(vocabulary: int, kind: torch.dtype = torch.float32) -> int:
    size = CHUNK_BYTES if kind == torch.float32 else NARROW_CHUNK_BYTES
    return max(CHUNK_ROWS, size // (kind.itemsize * vocabulary))
