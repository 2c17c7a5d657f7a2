"""Wanda: weights go that are small times what comes in, without training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wellread import rng
from wellread.compress.prune import masks
from wellread.compress.prune.settings import WandaSettings
from wellread.compress.prune.training import retrain, settings_of
from wellread.compress.subject import Subject, load_model
from wellread.finetune import batches
from wellread.finetune.head import INFERENCE_TOKENS
from wellread.finetune.loop import Loss
from wellread.models import packed
from wellread.sparsity.linear import STACKS
from wellread.tokens.batch import PackedBatch


def prune(subject: Subject, settings: WandaSettings, seed: int, *, loss: Loss | None = None) -> Any:
    """Prune every row of every matrix by |w| times the norm of its input (Sun et al., arXiv 2306.11695).

    Layer by layer, from below: the inputs of a layer are those that the pruned layers under it give on some
    texts of the task's own train split.  Labels are not looked at, unless what is left is trained.

    Args:
        subject: the fine-tuned model.
        settings: level, pattern and calibration.
        seed: of the choice of texts, and of training.
        loss: of training, instead of the task's own.

    Returns:
        The stock model with zeros, in evaluation mode with packed attention.
    """
    model = load_model(subject)
    if settings.level == 0:
        return model
    batches = calibration(subject, settings.calibration, seed)
    found = masks.matrices(model)
    live: dict[str, Tensor] = {}
    for layer in range(model.config.num_hidden_layers):
        prefix = f"{STACKS[model.config.model_type]}.{layer}."
        part = {name: matrix for name, matrix in found.items() if name.startswith(prefix)}
        norms = input_norms(model, part, batches)
        for name, matrix in part.items():
            live[name] = prune_matrix(matrix, norms[name], settings)
    if not settings.train:
        return model
    masks.attach(model, live)
    retrain(model, subject, settings_of(subject, settings.epochs), seed, loss=loss)
    return masks.detach(model)


def calibration(subject: Subject, count: int, seed: int) -> list[PackedBatch]:
    """Some sequences of train, in batches."""
    encoded = subject.data.splits["train"].encoded
    total = len(encoded.lengths)
    chosen = np.sort(rng.permute(np.arange(min(count, total)), total, seed, "prune-calibration"))
    parts = batches.by_length(encoded.lengths[chosen], INFERENCE_TOKENS)
    return [batches.select(encoded, chosen[part])[0] for part in parts]


@torch.inference_mode()
def input_norms(model: Any, wanted: dict[str, Any], batches: list[PackedBatch]) -> dict[str, Tensor]:
    """The norm of each input feature over all tokens: by name of the matrix (inputs,) float32."""
    squares: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            sums = inputs[0].flatten(0, -2).square().sum(0, dtype=torch.float64)
            squares[name] = squares.get(name, 0) + sums

        return hook

    handles = [matrix.register_forward_pre_hook(watch(name)) for name, matrix in wanted.items()]
    try:
        for batch in batches:
            packed.hidden_states(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return {name: total.sqrt().float() for name, total in squares.items()}


@torch.no_grad()
def prune_matrix(matrix: Any, norms: Tensor, settings: WandaSettings) -> Tensor:
    """Set the lowest weights of each row to zero, in place; returns (outputs, inputs) bool of the rest.

    Args:
        matrix: ``nn.Linear`` or ``Conv1D``.
        norms: (inputs,) of what comes in.
        settings: level and pattern; blocks are ranked within their row of blocks by their mean square.
    """
    weight = masks.oriented(matrix, matrix.weight)
    score = (weight.abs() * norms).square()
    live = masks.choose(score, settings.level, settings.pattern, by_row=True)
    matrix.weight.mul_(masks.oriented(matrix, live))
    return live
