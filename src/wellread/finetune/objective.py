"""What each kind of task is trained on, and what its logits mean.

| kind | targets | loss | output |
|---|---|---|---|
| classify | (N,) label numbers | cross-entropy | softmax |
| multilabel | (N, labels) 0 or 1 | binary cross-entropy, each label alone | sigmoid |
| regress | (N,) scores | squared error, of standardised scores | scores |
| tag | (W,) label numbers of the words | cross-entropy over first pieces | tags |
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from wellread.finetune.encode import Encoded
from wellread.tasks.decoding import best_valid
from wellread.tasks.task import Example, Kind


@dataclass(frozen=True)
class Objective:
    """The loss of a task, and the way back from logits to what people want.

    Attributes:
        kind: of the task.
        weights: (labels,) weight of each class (classify, tag) or of each label's positives (multilabel).
        centre, scale: a logit x of a regression stands for the score ``centre + scale * x``.
        agreement: weight of R-Drop's divergence; 0 for a single pass.
    """

    kind: Kind
    weights: Tensor | None = None
    centre: float = 0.0
    scale: float = 1.0
    agreement: float = 0.0


@dataclass(frozen=True)
class Split:
    """Encoded examples of a task.

    Attributes:
        examples: N examples.
        encoded: their S sequences.
        targets: what is to be predicted, one row a sequence, for tag one a labelled word.
    """

    examples: list[Example]
    encoded: Encoded
    targets: np.ndarray


def targets(kind: Kind, labels: tuple[str, ...], examples: list[Example], encoded: Encoded) -> np.ndarray:
    """What is to be predicted: shapes as in the table above."""
    number = {label: position for position, label in enumerate(labels)}
    if kind == "classify":
        return np.array([number[str(example.label)] for example in examples], dtype=np.int64)
    if kind == "multilabel":
        rows = np.zeros((len(examples), len(labels)), dtype=np.float32)
        for row, example in zip(rows, examples, strict=True):
            row[[number[label] for label in example.label]] = 1.0  # type: ignore[union-attr]
        return rows
    if kind == "regress":
        return np.array([example.label for example in examples], dtype=np.float32)
    gold = [[number[tag] for tag in example.label] for example in examples]  # type: ignore[union-attr]
    owner = word_inputs(encoded)
    pairs = zip(owner.tolist(), encoded.word_numbers.tolist(), strict=True)
    return np.array([gold[example][word] for example, word in pairs], dtype=np.int64)


def word_inputs(encoded: Encoded) -> np.ndarray:
    """(W,) number of the input that each labelled word stands in."""
    return np.repeat(encoded.inputs, np.diff(encoded.word_offsets))


def target_rows(split: Split, index: np.ndarray) -> np.ndarray:
    """The targets of some sequences (S of them), or of the words within them."""
    if not len(split.encoded.word_positions):
        return split.targets[index]
    chosen = np.zeros(len(split.encoded.lengths), dtype=bool)
    chosen[index] = True
    return split.targets[np.repeat(chosen, np.diff(split.encoded.word_offsets))]


def build(kind: Kind, labels: int, train: np.ndarray, *, class_weights: bool, has_bias: bool) -> Objective:
    """The objective fitted to the training targets.

    Class weights are n / (classes * count), as in scikit-learn's "balanced", and negatives / positives for
    the labels of a multilabel task; a class without examples gets 0.  A mean cannot be folded into a head
    without bias, so its targets are scaled only (see :func:`level`).

    Args:
        kind: of the task.
        labels: number of labels.
        train: targets of the training examples.
        class_weights: whether to weigh (regressions have no classes).
        has_bias: whether the head's last layer has a bias.
    """
    objective = Objective(kind)
    if kind == "regress":
        centre = float(train.mean(dtype=np.float64)) if has_bias else 0.0
        return replace(objective, centre=centre, scale=float(train.std(dtype=np.float64)) or 1.0)
    if not class_weights:
        return objective
    if kind == "multilabel":
        count = train.sum(axis=0, dtype=np.float64)
        weights = np.divide(len(train) - count, count, out=np.zeros(labels), where=count > 0)
    else:
        count = np.bincount(train, minlength=labels).astype(np.float64)
        weights = np.divide(len(train) / labels, count, out=np.zeros(labels), where=count > 0)
    return replace(objective, weights=torch.from_numpy(weights.astype(np.float32)))


def loss(objective: Objective, logits: Tensor, target: Tensor) -> Tensor:
    """Mean loss of a batch.

    Args:
        objective: from :func:`build`.
        logits: (B, labels) float32; for tag (words of the batch, labels).
        target: the rows of :func:`targets` of the batch.
    """
    weights = objective.weights.to(logits.device) if objective.weights is not None else None
    if objective.kind == "multilabel":
        return F.binary_cross_entropy_with_logits(logits, target, pos_weight=weights)
    if objective.kind == "regress":
        return F.mse_loss(logits[:, 0], (target - objective.centre) / objective.scale)
    return F.cross_entropy(logits, target, weight=weights)


def output(kind: Kind, labels: tuple[str, ...], logits: np.ndarray, split: Split) -> Any:
    """Logits as predictions: float32 (N, labels), or for tag a list of tags for each example.

    Args:
        kind: of the task.
        labels: names in the order of the logits.
        logits: (N, labels) float32; for tag (W, labels).
        split: N examples with W labelled words.
    """
    if kind != "tag":
        return scores(kind, logits)
    return tags(labels, logits, split.encoded, [len(example.tokens) for example in split.examples])


def tags(
    labels: tuple[str, ...], logits: np.ndarray, encoded: Encoded, counts: list[int], *, iob2: bool = True
) -> list[list[str]]:
    """Valid IOB2 for each word of each of N sentences, the best there is (:mod:`wellread.tasks.decoding`).

    Words without a piece, which the model never sees, are outside of everything: "O".

    Args:
        labels: the tags in the order of the logits.
        logits: (W, labels) float32.
        encoded: the sentences.
        counts: number of words of each sentence.
        iob2: whether the model was trained on IOB2.  One that was not may begin every entity with "I-", so
            the best tag of each word is taken, and mended.
    """
    rows = [["O"] * count for count in counts]
    owners, numbers = word_inputs(encoded), encoded.word_numbers
    goes_on = (owners[1:] == owners[:-1]) & (numbers[1:] == numbers[:-1] + 1)
    begins = np.append(True, ~goes_on)[: len(owners)]
    best = best_valid(labels, logits, begins) if iob2 else logits.argmax(axis=1)
    for number, word, label in zip(owners.tolist(), numbers.tolist(), best.tolist(), strict=True):
        rows[number][word] = labels[label]
    return [valid_iob2(row) for row in rows]


def valid_iob2(row: list[str]) -> list[str]:
    """The tags with every "I-" that continues nothing of its type made a "B-"."""
    before = ["O", *row]
    return [
        f"B-{tag[2:]}" if tag.startswith("I-") and last[2:] != tag[2:] else tag
        for last, tag in zip(before, row, strict=False)
    ]


def scores(kind: Kind, logits: np.ndarray) -> np.ndarray:
    """Logits as probabilities or scores, float32 of the same shape; those of tag as probabilities."""
    if kind == "regress":
        return logits
    tensor = torch.from_numpy(logits)
    result = torch.sigmoid(tensor) if kind == "multilabel" else torch.softmax(tensor, dim=-1)
    return result.numpy()


def last_layer(model: nn.Module) -> nn.Linear:
    """The linear layer that gives the logits, in any stock head."""
    for name in ("classifier", "score"):
        layer = getattr(model, name, None)
        layer = getattr(layer, "out_proj", layer)  # the long layouts' heads have a layer in between
        if isinstance(layer, nn.Linear):
            return layer
    raise TypeError(f"{type(model).__name__} has no classifier or score layer")


@torch.no_grad()
def level(layer: nn.Linear, pooled: Tensor, value: float) -> None:
    """Turn a head without bias so that its mean output over some inputs is ``value``.

    Otherwise the first steps of a regression go into finding the mean, and take the model with them.

    Args:
        layer: d inputs, one output.
        pooled: (N, d) inputs of the layer.
        value: the mean wanted.
    """
    mean = pooled.mean(dim=0)
    layer.weight += (value - layer.weight @ mean) * mean / (mean @ mean)


@torch.no_grad()
def fold(objective: Objective, model: nn.Module) -> None:
    """Write the scale of a regression into the head, so that the stock model predicts scores as they are."""
    layer = last_layer(model)
    layer.weight.mul_(objective.scale)
    if layer.bias is not None:
        layer.bias.mul_(objective.scale).add_(objective.centre)


@torch.no_grad()
def unfold(objective: Objective, model: nn.Module) -> None:
    """Take the scale of a regression out of the head again: the opposite of :func:`fold`."""
    if objective.kind != "regress":
        return
    layer = last_layer(model)
    layer.weight.div_(objective.scale)
    if layer.bias is not None:
        layer.bias.sub_(objective.centre).div_(objective.scale)


@contextmanager
def kept(model: nn.Module, *, wanted: bool) -> Iterator[None]:
    """The last layer's weight is afterwards what it was before, where that is wanted."""
    before = last_layer(model).weight.detach().clone() if wanted else None
    yield
    if before is not None:
        with torch.no_grad():
            last_layer(model).weight.copy_(before)
