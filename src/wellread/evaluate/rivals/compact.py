"""The rival without any pre-training: a text CCT (models/cct.py) trained on the labels alone.

Its word pieces are those of the training texts, so it has seen nothing else.  It learns in the loop of
fine-tuning: the best moment on dev is kept.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from wellread import rng
from wellread.evaluate.metrics import Output
from wellread.evaluate.rivals.fitted import Examples, Fitted
from wellread.finetune import loop, objective
from wellread.finetune.data import prepare
from wellread.models import build, cct
from wellread.settings import FinetuneSettings, ModelSettings, TokenizerSettings
from wellread.tasks.task import Example, Task
from wellread.tokens import tokenizer as tokenizers
from wellread.workers import torch_threads

SIZE, KERNEL = "cct-2", 2  # the best of the small ones where it was published
MAX_LENGTH = 256  # tokens
PIECES = TokenizerSettings(vocab_size=8192)
SETTINGS = FinetuneSettings(
    epochs=20, min_steps=200, learning_rate=1e-3, weight_decay=0.06, evaluations=20, patience=5
)


def fit(task: Task, train: list[Example], seed: int) -> Fitted:
    """Train on the examples; a run that diverges predicts no number."""
    pieces = word_pieces(train)
    data = prepare(task, train, pieces, MAX_LENGTH, SETTINGS)

    def begin(_: Any, tokenizer: Any, _dropout: float, seed: int) -> Any:
        return cct.make(config(task, len(tokenizer)), rng.derive(seed, "cct"))

    layers, heads, hidden, _ = cct.SIZES[SIZE]
    shape = ModelSettings(layers=layers, heads=heads, hidden=hidden)
    data = replace(data, head=replace(data.head, open=begin))
    result = loop.finetune(data, train, shape, pieces, SETTINGS, seed)
    model, head = result.model, data.head

    def predict(examples: Examples) -> Output:
        if model is None:
            return np.full((len(examples), len(task.labels)), np.nan, dtype=np.float32)
        with torch_threads(1):
            return objective.scores(task.kind, head.logits(model, head.encode(examples, MAX_LENGTH)))

    def save(folder: Path) -> None:
        build.save(model, pieces, folder)

    return Fitted(
        predict,
        setting=f"{SIZE}/{KERNEL}x1, step {result.best_step}",
        size_bytes=4 * result.parameters,
        save=save if model is not None else None,
    )


def word_pieces(train: Examples) -> Any:
    """A WordPiece tokenizer of the training texts."""
    texts = [text for example in train for text in (example.text, example.second) if text]
    with tempfile.TemporaryDirectory(prefix="wellread-cct-") as name:
        tokenizers.train(texts, PIECES, Path(name), causal=False, max_length=MAX_LENGTH, quiet=True)
        return tokenizers.load(name)


def config(task: Task, vocab: int) -> cct.CctConfig:
    """The shape for a task, with its labels."""
    names = dict(enumerate(task.labels))
    return cct.CctConfig(
        size=SIZE,
        kernel=KERNEL,
        vocab_size=vocab,
        max_position_embeddings=MAX_LENGTH,
        id2label=names,
        label2id={label: number for number, label in names.items()},
        problem_type={"multilabel": "multi_label_classification", "regress": "regression"}.get(task.kind),
    )
