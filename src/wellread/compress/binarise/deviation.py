"""Deviation-aware distillation (DB-LLM, arXiv 2402.11960): learn most where the teacher is unsure.

The paper weighs each position by the ambiguity of the predictions, from entropies; its form could not be
checked.  Ours: weight = (entropy of the teacher / mean entropy) ** gamma, without gradient; gamma = 0 is the
plain soft cross-entropy.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from wellread.compress.binarise.matching import answered
from wellread.finetune import batches
from wellread.finetune.classifier import answer
from wellread.finetune.head import neighbours
from wellread.finetune.loop import Loss
from wellread.finetune.objective import Objective, Split
from wellread.models import heads
from wellread.models.packed import hidden_states
from wellread.objectives import clm
from wellread.schedules import learning_rate
from wellread.tokens.batch import PackedBatch


def weighted(logits: Tensor, given: Tensor, gamma: float = 1.0) -> Tensor:
    """Mean over the rows of weight * cross-entropy between teacher and student.

    Args:
        logits: of the student, (N, classes).
        given: of the teacher, of the same shape.
        gamma: power of the relative entropy.
    """
    target = given.detach().softmax(-1)
    entropy = torch.special.entr(target).sum(-1)
    weight = (entropy / entropy.mean().clamp_min(1e-12)) ** gamma
    return (weight * F.cross_entropy(logits, target, reduction="none")).mean()


def loss(teacher: Any, gamma: float = 1.0) -> Loss:
    """The loss for :func:`wellread.finetune.loop.tune`; scores and several labels at once are not weighed.

    Args:
        teacher: the real model, in evaluation mode with packed attention.
        gamma: as in :func:`weighted`.
    """

    def total(model: Any, split: Split, index: np.ndarray, goal: Objective, _seed: int = 0) -> Tensor:
        device = next(model.parameters()).device
        teacher.to(device)
        batch, rows, _ = batches.select(split.encoded, neighbours(split.encoded, index))
        batch = batch.to(device)
        with torch.no_grad():
            given = answer(teacher, goal.kind, batch, rows)
        logits = answer(model, goal.kind, batch, rows)
        if goal.kind in ("regress", "multilabel"):
            return answered(goal, logits, given)
        return weighted(logits, given, gamma)

    return total


def teach_language(
    student: Any, teacher: Any, batches: Iterable[PackedBatch], steps: int, rate: float, gamma: float = 1.0
) -> list[float]:
    """Train a decoder of two bits on what its real teacher says about the next token.

    Any text serves, the teacher's own included; labels are not needed.

    Args:
        student: a causal language model with dual layers and packed attention, trained in place.
        teacher: the real one, with packed attention.
        batches: at least ``steps`` of them.
        steps: optimiser steps, one for each batch; a tenth of them warm up, then the rate falls to zero.
        rate: peak rate of AdamW.
        gamma: as in :func:`weighted`.

    Returns:
        The loss of each step.
    """
    wanted = [weight for weight in student.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(wanted, lr=rate, weight_decay=0.0, fused=True)
    losses = []
    student.train()
    teacher.eval()
    for step, batch in zip(range(steps), batches, strict=False):
        for group in optimiser.param_groups:
            group["lr"] = rate * learning_rate.linear(step, steps, 0.1)
        asked = clm.predict(batch).to(next(student.parameters()).device)
        with torch.no_grad():
            given = heads.lm_logits(teacher, hidden_states(teacher, asked.inputs)[asked.positions])
        logits = heads.lm_logits(student, hidden_states(student, asked.inputs)[asked.positions])
        found = weighted(logits.float(), given.float(), gamma)
        found.backward()
        torch.nn.utils.clip_grad_norm_(wanted, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        losses.append(found.item())
    student.eval()
    return losses
