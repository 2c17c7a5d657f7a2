"""R-Drop: two passes with different dropout should agree (Liang et al., arXiv 2106.14448)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from wellread.tasks.task import Kind


def loss(
    weight: float, kind: Kind, forward: Callable[[], Tensor], once: Callable[[Tensor], Tensor]
) -> Tensor:
    """Mean loss of two passes plus ``weight`` times their divergence; of one pass where the weight is 0.

    Args:
        weight: of the divergence.
        kind: of the task.
        forward: a pass over the batch, with dropout: () -> (N, labels) logits.
        once: the loss of some logits.
    """
    first = forward()
    if not weight:
        return once(first)
    second = forward()
    return 0.5 * (once(first) + once(second)) + weight * divergence(kind, first, second)


def divergence(kind: Kind, first: Tensor, second: Tensor) -> Tensor:
    """Mean symmetric divergence, (KL(p || q) + KL(q || p)) / 2, of what two passes predict.

    p and q are distributions over the classes (classify, tag), over each label's yes and no (multilabel: the
    mean over labels), or normal distributions of variance 1 around the two outputs (regress, which gives half
    their squared difference).

    Args:
        kind: of the task.
        first: (N, labels) logits.
        second: (N, labels) logits of the same inputs.
    """
    if kind == "regress":
        return 0.5 * (first - second).square().mean()
    if kind == "multilabel":
        # KL(p||q) + KL(q||p) = (p - q) (logit p - logit q) for a yes or no.
        return 0.5 * ((torch.sigmoid(first) - torch.sigmoid(second)) * (first - second)).mean()
    p, q = F.log_softmax(first, dim=-1), F.log_softmax(second, dim=-1)
    return 0.5 * ((p.exp() - q.exp()) * (p - q)).sum(dim=-1).mean()
