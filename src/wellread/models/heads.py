"""The heads of the stock layouts, run on packed hidden states."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from wellread.models import cct
from wellread.models.build import (
    MODELS,
    build,
    build_config,
    dropouts,
    load,
    load_config,
    read_weights,
    seeded,
)
from wellread.models.long import encoder as long
from wellread.models.packed import hidden_states
from wellread.settings import ModelSettings
from wellread.tokens.batch import PackedBatch

PROBLEMS: dict[str, Any] = {
    "classify": "single_label_classification",
    "multilabel": "multi_label_classification",
    "regress": "regression",
}


def lm_head(model: Any) -> tuple[Callable[[Tensor], Tensor], Any]:
    """The two parts of a language model's head: (N, d) -> (N, d), and the layer over the vocabulary."""
    layout = model.config.model_type
    if layout == "modernbert":
        return model.head, model.decoder
    if layout in ("bert", "big_bird"):
        return model.cls.predictions.transform, model.cls.predictions.decoder
    return nn.Identity(), model.lm_head


def lm_logits(model: Any, hidden: Tensor) -> Tensor:
    """Logits over the vocabulary for some rows of the hidden states: (N, d) -> (N, vocabulary)."""
    transform, decoder = lm_head(model)
    return decoder(transform(hidden))


def task_model(
    start: Path | ModelSettings,
    tokenizer: PreTrainedTokenizerBase,
    kind: Literal["classify", "multilabel", "regress", "tag"],
    labels: tuple[str, ...],
    dropout: float,
    seed: int,
) -> PreTrainedModel:
    """A stock sequence or token classifier with a fresh head.

    Args:
        start: a checkpoint folder, or the architecture for random weights throughout.
        tokenizer: of the model.
        kind: of the task; ``tag`` labels tokens, the others whole sequences.
        labels: names of the outputs, in order; ("score",) for ``regress``.
        dropout: probability in every place where the layout has a dropout.
        seed: of the weights that are not loaded.

    Raises:
        ArtefactError: the folder is missing, unsafe or damaged.
    """
    head: Literal["classify", "tag"] = "tag" if kind == "tag" else "classify"
    if isinstance(start, ModelSettings):
        config = _with_labels(build_config(start, tokenizer), kind, labels, dropout)
        with seeded(seed):
            return MODELS[head].from_config(config, attn_implementation="sdpa", dtype=torch.float32)
    config = _with_labels(load_config(start), kind, labels, dropout)
    with seeded(seed):
        return read_weights(start, head, config)[0]


def language_model(
    start: Path | ModelSettings,
    tokenizer: PreTrainedTokenizerBase,
    objective: Literal["mlm", "clm"],
    dropout: float,
    seed: int,
) -> PreTrainedModel:
    """A stock model with the head of its pre-training.

    Args:
        start: a checkpoint folder, or the architecture for random weights throughout.
        tokenizer: of the model.
        objective: masked or causal.
        dropout: probability in every place where the layout has a dropout.
        seed: of random weights.

    Raises:
        ArtefactError: the folder is missing, unsafe or damaged, or was saved without this head.
    """
    if isinstance(start, ModelSettings):
        return build(start.model_copy(update={"dropout": dropout}), tokenizer, objective, seed)
    return load(start, objective, **dropouts(load_config(start).model_type, dropout))


def mean_states(hidden: Tensor, lengths: list[int]) -> Tensor:
    """The mean of each sequence's states, special tokens included: (T, d) -> (S, d)."""
    return torch.stack([part.mean(0) for part in hidden.split(lengths)])


def sequence_logits(model: Any, batch: PackedBatch) -> Tensor:
    """What the stock sequence classifier gives: (S, labels)."""
    layout = model.config.model_type
    if layout == cct.MODEL_TYPE:
        return model(batch)
    hidden = hidden_states(model, batch)
    begins, ends = batch.cu_seqlens[:-1].long(), batch.cu_seqlens[1:].long()
    if layout == "modernbert":
        if model.config.classifier_pooling == "cls":
            pooled = hidden[begins]
        else:
            pooled = mean_states(hidden, batch.lengths)
        return model.classifier(model.drop(model.head(pooled)))
    if layout == "bert":
        return model.classifier(model.dropout(model.bert.pooler(hidden[begins][:, None])))
    if layout in long.LAYOUTS:
        return model.classifier(hidden[begins][:, None])
    return model.score(hidden[ends - 1])


def token_logits(model: Any, batch: PackedBatch) -> Tensor:
    """What the stock token classifier gives: (T, labels)."""
    layout = model.config.model_type
    hidden = hidden_states(model, batch)
    if layout == "modernbert":
        return model.classifier(model.drop(model.head(hidden)))
    classifier = model.score if layout == "llama" else model.classifier
    return classifier(model.dropout(hidden))


def _with_labels(
    config: PreTrainedConfig, kind: str, labels: tuple[str, ...], dropout: float
) -> PreTrainedConfig:
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}
    config.problem_type = PROBLEMS.get(kind)
    for name, value in dropouts(config.model_type, dropout).items():
        setattr(config, name, value)
    return config
