"""BiBERT (arXiv 2203.06390): every matrix, every input of one, and the attention in one bit.

Binary: all linear layers of the blocks, the layer before the classifier, and the table of words.  Real, as in
the paper: tables of positions and token types, norms, biases, the classifier.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from wellread.compress.binarise import attention, matching
from wellread.compress.binarise.linear import BinaryEmbedding, BinaryLinear, PackedEmbedding, PackedLinear
from wellread.compress.subject import Subject, load_model
from wellread.errors import ArtefactError
from wellread.finetune import batches, stable
from wellread.finetune.loop import FinetuneResult, tune
from wellread.finetune.stability.layers import blocks
from wellread.models import heads
from wellread.tokens.batch import PackedBatch

LAYOUTS = ("bert", "modernbert")
FITTED = 64  # training sequences on which thresholds and steps begin


def binarise(subject: Subject, seed: int, *, elastic: bool = False) -> FinetuneResult:
    """Train a binary copy of a fine-tuned model, with the model itself as its teacher.

    Args:
        subject: the fine-tuned model, its task, and the settings of training.
        seed: of the order and the dropout.
        elastic: learn a threshold for every input of a layer and a step for every layer, as BiT does; else
            plain signs, which is BiBERT and did better in a first trial.

    Returns:
        The outcome; its model has :class:`BinaryLinear` layers and is ready to predict, or to be packed
        (:func:`packed`) and kept (:func:`wellread.compress.binarise.stored.save`).

    Raises:
        ArtefactError: the model has a layout other than BERT or ModernBERT.
    """
    teacher, student = load_model(subject).requires_grad_(False), load_model(subject)
    equip(student, elastic=elastic)
    train = subject.task.splits["train"]
    if elastic:
        members = subject.data.sequences(train)
        first = members[batches.order(len(members), 0, min(FITTED, len(members)), seed)]
        fit(student, batches.select(subject.data.splits["train"].encoded, first)[0])
    size = stable.size_of(subject.folder)
    settings, picked = stable.resolve(subject.settings, subject.task.kind, len(train), size)
    result = tune(student, subject.data, train, settings, seed, loss=matching.loss(teacher), fine_tuned=True)
    result.picked = picked
    if result.model is not None:
        attention.enable(result.model)
    return result


def equip(model: Any, *, elastic: bool) -> Any:
    """Put binary layers into a stock classifier, in place, and switch it to binary attention.

    Raises:
        ArtefactError: another layout.
    """
    for parent, child, module in _sites(model):
        layer = BinaryEmbedding(module) if isinstance(module, nn.Embedding) else BinaryLinear(module, elastic)
        setattr(parent, child, layer.train(module.training))
    return _attending(model, elastic)


def fit(model: Any, batch: PackedBatch) -> None:
    """Let thresholds and steps begin at what each layer is given, in a pass where all below is binary."""

    def before(layer: BinaryLinear, given: Any) -> None:
        layer.fit(given[0])

    hooks = [
        module.register_forward_pre_hook(before)
        for module in model.modules()
        if isinstance(module, BinaryLinear)
    ]
    try:
        with torch.no_grad():
            answer = heads.token_logits if is_tagger(model) else heads.sequence_logits
            answer(model, batch)
    finally:
        for hook in hooks:
            hook.remove()


def packed(model: Any) -> Any:
    """Put the layers to keep and to run in place of the trained ones, in place; predictions stay the same."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, BinaryLinear):
                setattr(module, name, child.packed(is_elastic(model)))
            elif isinstance(child, BinaryEmbedding):
                setattr(module, name, child.packed())
    return model.eval()


def hollow(model: Any, *, elastic: bool) -> Any:
    """Put packed layers of the right shapes into a stock classifier, in place, for weights to be loaded.

    Raises:
        ArtefactError: another layout.
    """
    for parent, child, module in _sites(model):
        layer: nn.Module
        if isinstance(module, nn.Embedding):
            layer = PackedEmbedding(*module.weight.shape)
        else:
            has_bias = module.bias is not None
            layer = PackedLinear(module.in_features, module.out_features, bias=has_bias, elastic=elastic)
        setattr(parent, child, layer)
    return _attending(model, elastic)


def is_elastic(model: Any) -> bool:
    """Whether a binary model has learnt thresholds and steps."""
    return bool(vars(model).get("elastic", False))


def is_tagger(model: Any) -> bool:
    """Whether a stock model labels tokens."""
    return type(model).__name__.endswith("ForTokenClassification")


def _attending(model: Any, elastic: bool) -> Any:
    model.elastic = elastic
    for module in model.modules():
        if hasattr(module, "is_causal"):
            module.elastic = elastic
    return attention.enable(model)


def _sites(model: Any) -> list[tuple[Any, str, Any]]:
    """(parent, name in the parent, layer) of all that becomes binary."""
    layout = model.config.model_type
    if layout not in LAYOUTS:
        raise ArtefactError(
            f"a {layout} model cannot be made binary",
            where="binary",
            fix=f"use a model of the layouts {', '.join(LAYOUTS)}, or 2-bit weights (dual)",
        )
    stack = model.get_submodule(blocks(model)[0])
    return list(_named(model, stack))


def _named(model: Any, stack: nn.Module) -> Iterator[tuple[Any, str, Any]]:
    for parent in stack.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.Linear):
                yield parent, name, child
    base = model.base_model
    if model.config.model_type == "bert":
        yield base.embeddings, "word_embeddings", base.embeddings.word_embeddings
        if base.pooler is not None:
            yield base.pooler, "dense", base.pooler.dense
    else:
        yield base.embeddings, "tok_embeddings", base.embeddings.tok_embeddings
        yield model.head, "dense", model.head.dense
