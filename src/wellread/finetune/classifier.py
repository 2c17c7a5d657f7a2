"""The stock classification heads: a fresh layer over the text, or over the first piece of each word."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wellread.finetune import batches, objective
from wellread.finetune import encode as encoding
from wellread.finetune.encode import Encoded
from wellread.finetune.head import INFERENCE_TOKENS, Head, Start, neighbours, precision
from wellread.finetune.objective import Objective, Split
from wellread.finetune.stability import rdrop
from wellread.models import heads
from wellread.settings import FinetuneSettings
from wellread.tasks.task import Example, Kind
from wellread.tokens.batch import PackedBatch

LEVEL_SEQUENCES = 64


def head(
    kind: Kind, labels: tuple[str, ...], tokenizer: Any, _settings: FinetuneSettings | None = None
) -> Head:
    """The classification head of a task."""

    def start(begin: Start, pieces: Any, dropout: float, seed: int) -> Any:
        return heads.task_model(begin, pieces, kind, labels, dropout, seed)

    return Head(
        open=start,
        encode=partial(encode, kind, tokenizer),
        fit=partial(fit, kind, len(labels)),
        loss=loss,
        logits=lambda model, encoded: logits_of(model, kind, encoded),
        finish=lambda model, goal: objective.fold(goal, model),
    )


def encode(kind: Kind, tokenizer: Any, examples: Sequence[Example], max_length: int) -> Encoded:
    """Texts, pairs or words as sequences; the options of a question count as its second text."""
    if kind == "tag":
        return encoding.sentences(tokenizer, [example.tokens for example in examples], max_length)
    second = [example.second for example in examples]
    pairs = second if any(text is not None for text in second) else None
    return encoding.texts(tokenizer, [example.text for example in examples], pairs, max_length)


def fit(
    kind: Kind, labels: int, model: Any, split: Split, members: np.ndarray, class_weights: bool
) -> Objective:
    """The objective of some training sequences; a regression head without bias is turned to their mean."""
    targets = objective.target_rows(split, members)
    layer = objective.last_layer(model)
    goal = objective.build(
        kind, labels, targets, class_weights=class_weights, has_bias=layer.bias is not None
    )
    if kind == "regress" and layer.bias is None:
        _level(model, split, members[:LEVEL_SEQUENCES], float(targets.mean()) / goal.scale)
    return goal


def loss(model: Any, split: Split, index: np.ndarray, goal: Objective, _seed: int = 0) -> Tensor:
    """Training loss of some sequences."""
    device = next(model.parameters()).device
    index = neighbours(split.encoded, index)
    batch, rows, words = batches.select(split.encoded, index)
    batch = batch.to(device)
    target = torch.from_numpy(split.targets[words if goal.kind == "tag" else index]).to(device)

    return rdrop.loss(
        goal.agreement,
        goal.kind,
        lambda: answer(model, goal.kind, batch, rows),
        lambda logits: objective.loss(goal, logits, target),
    )


def answer(model: Any, kind: Kind, batch: PackedBatch, rows: np.ndarray) -> Tensor:
    """Logits of a batch, float32: (S, labels) of its sequences, or for tag (W, labels) of words.

    Args:
        model: a stock classifier with packed attention.
        kind: of the task.
        batch: S sequences, on the model's device.
        rows: (W,) the tokens that stand for the words.
    """
    device = batch.input_ids.device
    with precision(device):
        if kind == "tag":
            return heads.token_logits(model, batch)[torch.from_numpy(rows).to(device)].float()
        return heads.sequence_logits(model, batch).float()


def logits_of(model: Any, kind: str, encoded: Encoded) -> np.ndarray:
    """Logits of a model in evaluation mode: float32 (S, labels), for tag (W, labels).

    Args:
        model: a stock classifier with packed attention.
        kind: of the task.
        encoded: S sequences with W labelled words.
    """
    count = len(encoded.word_positions) if kind == "tag" else len(encoded.lengths)
    logits = np.zeros((count, model.config.num_labels), dtype=np.float32)
    device = next(model.parameters()).device
    with torch.inference_mode(), precision(device):
        for index in batches.by_length(encoded.lengths, INFERENCE_TOKENS):
            batch, rows, words = batches.select(encoded, index)
            if kind != "tag":
                logits[index] = heads.sequence_logits(model, batch.to(device)).float().cpu().numpy()
            elif len(rows):
                found = heads.token_logits(model, batch.to(device))[torch.from_numpy(rows).to(device)]
                logits[words] = found.float().cpu().numpy()
    return logits


def _level(model: Any, split: Split, index: np.ndarray, value: float) -> None:
    """Let a regression head without bias begin at the mean of the scores."""
    layer, seen = objective.last_layer(model), []
    hook = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    device = next(model.parameters()).device
    with torch.inference_mode(), precision(device):
        heads.sequence_logits(model.eval(), batches.select(split.encoded, index)[0].to(device))
    hook.remove()
    objective.level(layer, seen[0].float().clone(), value)
