"""Direction-matching distillation (BiBERT, arXiv 2203.06390): a binary student of a real teacher.

For queries, keys, values and hidden states X of a layer, R = X X' / sqrt(d) says how the tokens of a sequence
resemble each other.  The loss is || R_student / |R_student| - R_teacher / |R_teacher| ||, with norms over the
whole batch: directions, which binary layers can keep, and not sizes, which they cannot.  Attention scores are
not compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from wellread.finetune import batches, objective
from wellread.finetune.classifier import answer
from wellread.finetune.head import neighbours
from wellread.finetune.loop import Loss
from wellread.finetune.objective import Objective, Split
from wellread.finetune.stability.layers import blocks

LABELS = 0.5  # weight of the labels beside the teacher's answer, as in the paper


def loss(teacher: Any) -> Loss:
    """The loss for :func:`wellread.finetune.loop.tune`: answer, labels, and the directions in every layer.

    Args:
        teacher: the real model, in evaluation mode with packed attention.
    """

    def total(model: Any, split: Split, index: np.ndarray, goal: Objective, _seed: int = 0) -> Tensor:
        device = next(model.parameters()).device
        teacher.to(device)
        batch, rows, words = batches.select(split.encoded, neighbours(split.encoded, index))
        index, batch = neighbours(split.encoded, index), batch.to(device)
        target = torch.from_numpy(split.targets[words if goal.kind == "tag" else index]).to(device)
        with recorded(model) as ours:
            logits = answer(model, goal.kind, batch, rows)
        with torch.no_grad(), recorded(teacher) as theirs:
            given = answer(teacher, goal.kind, batch, rows)
        directions = sum(
            (matched(a, b, batch.lengths) for a, b in zip(ours, theirs, strict=True)), logits.new_zeros(())
        )
        labelled = objective.loss(goal, logits, target)
        return answered(goal, logits, given) + LABELS * labelled + directions

    return total


def answered(goal: Objective, logits: Tensor, given: Tensor) -> Tensor:
    """How far the student's answer is from the teacher's: soft cross-entropy, for scores the squared error.

    Args:
        goal: the objective; in a regression the student answers in its units, the teacher in scores.
        logits: of the student, (B, labels).
        given: of the teacher.
    """
    if goal.kind == "regress":
        return F.mse_loss(logits, (given - goal.centre) / goal.scale)
    if goal.kind == "multilabel":
        return F.binary_cross_entropy_with_logits(logits, given.sigmoid())
    return F.cross_entropy(logits, given.softmax(-1))


def matched(ours: Tensor, theirs: Tensor, lengths: list[int]) -> Tensor:
    """Distance between two directions: 0 where they are the same, at most 2.

    Args:
        ours: (T, H, D) of the student.
        theirs: of the teacher; D may differ.
        lengths: of the sequences, T in all.
    """
    first, second = relations(ours, lengths), relations(theirs, lengths)
    return torch.linalg.vector_norm(
        first / torch.linalg.vector_norm(first).clamp_min(1e-12)
        - second / torch.linalg.vector_norm(second).clamp_min(1e-12)
    )


def relations(rows: Tensor, lengths: list[int]) -> Tensor:
    """X X' / sqrt(d) within each sequence and head, all of them end to end in one vector."""
    parts = (part.transpose(0, 1) for part in rows.float().split(lengths))
    return torch.cat([(part @ part.transpose(1, 2)).flatten() for part in parts]) / rows.shape[-1] ** 0.5


@contextmanager
def recorded(model: Any) -> Iterator[list[Tensor]]:
    """A list that a forward pass fills: for each layer queries, keys, values (T, H, D) and output (T, 1, d).

    Queries and keys are those of the projections, before any rotation by position.
    """
    seen: list[Tensor] = []
    heads_count = model.config.num_attention_heads

    def projected(_module: Any, _given: Any, output: Tensor) -> None:
        parts = output[0].chunk(3 if model.config.model_type == "modernbert" else 1, dim=-1)
        seen.extend(part.unflatten(-1, (heads_count, -1)) for part in parts)

    def hidden(_module: Any, _given: Any, output: Any) -> None:
        state = output[0] if isinstance(output, tuple) else output
        seen.append(state[0].unsqueeze(1))

    hooks = []
    for block in blocks(model)[1]:
        hooks += [layer.register_forward_hook(projected) for layer in _projections(block)]
        hooks.append(block.register_forward_hook(hidden))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _projections(block: Any) -> list[nn.Module]:
    """What makes queries, keys and values of a BERT or ModernBERT layer."""
    if hasattr(block, "attn"):
        return [block.attn.Wqkv]
    own = block.attention.self
    return [own.query, own.key, own.value]
