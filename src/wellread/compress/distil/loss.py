"""Learning from soft labels: the loss of a batch.

Pre-trained Distillation (Turc et al., arXiv 1908.08962) minimises ``-sum_c p_T(c) log p_S(c)``, at
temperature 1 and without the labels.  Temperature and the mixture with the labels are Hinton et al.'s (arXiv
1503.02531).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from wellread.finetune import objective
from wellread.finetune.objective import Objective
from wellread.tasks.task import Kind


def soft(kind: Kind, student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean cross-entropy of the student under the teacher, times the temperature squared.

    Its gradient is that of ``T^2 KL(teacher || student)``, so it keeps its size when T changes.  The labels
    of a multilabel task are a yes or no each (mean over labels); scores of a regression give the mean squared
    error, and no temperature.

    Args:
        kind: of the task.
        student: (B, labels) logits.
        teacher: (B, labels) logits of the same inputs.
        temperature: T; both logits are divided by it.
    """
    if kind == "regress":
        return F.mse_loss(student, teacher)
    student, teacher = student / temperature, teacher / temperature
    if kind == "multilabel":
        found = F.binary_cross_entropy_with_logits(student, torch.sigmoid(teacher))
    else:
        found = F.cross_entropy(student, torch.softmax(teacher, dim=-1))
    return temperature**2 * found


def mixed(
    goal: Objective,
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    labelled: Tensor,
    *,
    temperature: float,
    alpha: float,
) -> Tensor:
    """``alpha`` times the soft loss of all rows plus ``1 - alpha`` times the plain loss of the labelled ones.

    Both are sums over rows divided by B, so a row without a label adds only its soft part.

    Args:
        goal: the objective of the labels; says how scores of a regression are standardised.
        student: (B, labels) logits.
        teacher: (B, labels) logits, for regressions scores.
        target: labels of the B rows; what stands in rows without one does not matter.
        labelled: (B,) bool.
        temperature: of the soft loss.
        alpha: weight of the soft loss.
    """
    if goal.kind == "regress":
        teacher = (teacher - goal.centre) / goal.scale
    found = alpha * soft(goal.kind, student, teacher, temperature)
    if alpha < 1 and bool(labelled.any()):
        share = labelled.float().mean()
        found = found + (1 - alpha) * share * objective.loss(goal, student[labelled], target[labelled])
    return found
