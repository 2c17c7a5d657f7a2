"""How much each layer minds a change of its weights: the curvature of the loss along its steepest direction.

After Q-BERT (Shen et al., arXiv 1909.05840).  For one layer's parameters, all together, power iteration with
Hessian-vector products finds the eigenvalue of largest magnitude on several parts of the training data; the
sensitivity is |mean| + standard deviation over the parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from wellread import rng
from wellread.compress.subject import Subject, load_model
from wellread.finetune import objective
from wellread.finetune.light.sites import layers
from wellread.models.fused import unfuse
from wellread.settings import Positive, Rate, Settings


class SensitivitySettings(Settings):
    """How long and on how much the curvature is measured."""

    parts: Positive = Field(10, description="Parts of the training data.")
    sequences: Positive = Field(32, description="In each part; the paper takes a tenth of the data.")
    batch: Positive = Field(16, description="Sequences differentiated at a time.")
    tolerance: Rate = Field(0.01, description="Stop when an eigenvalue changes by a smaller share.")
    max_iterations: Positive = Field(20, description="Stop then in any case.")


@dataclass(frozen=True)
class Sensitivity:
    """Of one layer.

    Attributes:
        omega: |mean| + standard deviation of the eigenvalues.
        eigenvalues: of largest magnitude, one for each part of the data.
    """

    omega: float
    eigenvalues: tuple[float, ...]


def sensitivities(
    subject: Subject, seed: int, settings: SensitivitySettings | None = None
) -> list[Sensitivity]:
    """The sensitivity of each layer of a fine-tuned model, from the lowest on.

    In float32, without dropout, on the stock layers: fused gradients and attention kernels cannot be
    differentiated twice.

    Args:
        subject: model and task.
        seed: of the parts of the data and the first directions.
        settings: of the measurement.
    """
    settings = settings or SensitivitySettings()
    model = unfuse(load_model(subject))
    train, head = subject.data.splits["train"], subject.data.head
    members = subject.data.sequences(subject.task.splits["train"])
    kind = subject.task.kind
    with objective.kept(model, wanted=kind == "regress"):
        goal = head.fit(model, train, members, subject.settings.class_weights)
    objective.unfold(goal, model)
    stacks = [list(layer.parameters()) for layer in layers(model)]
    found: list[list[float]] = [[] for _ in stacks]
    for part in range(settings.parts):
        count = min(settings.sequences, len(members))
        chosen = members[rng.permute(np.arange(count), len(members), seed, "sensitivity", part)]
        batches = [chosen[first : first + settings.batch] for first in range(0, count, settings.batch)]

        def loss(number: int, batches: list[np.ndarray] = batches) -> Tensor:
            return head.loss(model, train, batches[number], goal, 0)

        shares = [len(batch) / count for batch in batches]
        starts = [rng.derive(seed, "power", part, depth) for depth in range(len(stacks))]
        with sdpa_kernel(SDPBackend.MATH):
            values = top_eigenvalues(loss, shares, stacks, starts, settings)
        for row, value in zip(found, values, strict=True):
            row.append(value)
    return [Sensitivity(omega(row), tuple(row)) for row in found]


def omega(eigenvalues: Sequence[float]) -> float:
    """|mean| + standard deviation."""
    return float(abs(np.mean(eigenvalues)) + np.std(eigenvalues))


def top_eigenvalues(
    loss: Callable[[int], Tensor],
    shares: Sequence[float],
    stacks: Sequence[Sequence[Tensor]],
    seeds: Sequence[int],
    settings: SensitivitySettings,
) -> list[float]:
    """The eigenvalue of largest magnitude of the Hessian of sum_b share_b loss_b, for groups of parameters.

    It may be negative.  Groups share the forward and the first backward pass of an iteration.

    Args:
        loss: (number of a batch) -> its mean loss.
        shares: of each batch.
        stacks: groups of parameters; only the block of the Hessian within a group counts.
        seeds: of each group's first direction.
        settings: when to stop; ``batch``, ``parts`` and ``sequences`` do not matter here.
    """
    vectors = [_direction(group, seed) for group, seed in zip(stacks, seeds, strict=True)]
    values: list[float | None] = [None] * len(stacks)
    active = list(range(len(stacks)))
    for _ in range(settings.max_iterations):
        products = _products(loss, shares, stacks, vectors, active)
        for number in list(active):
            product, before = products[number], values[number]
            value = values[number] = float(_dot(vectors[number], product))
            norm = float(_dot(product, product)) ** 0.5
            if norm == 0 or (
                before is not None and abs(value - before) < settings.tolerance * abs(value) + 1e-12
            ):
                active.remove(number)
            else:
                vectors[number] = [part / norm for part in product]
        if not active:
            break
    return [float(value or 0.0) for value in values]


def _products(
    loss: Callable[[int], Tensor],
    shares: Sequence[float],
    stacks: Sequence[Sequence[Tensor]],
    vectors: Sequence[Sequence[Tensor]],
    active: Sequence[int],
) -> dict[int, list[Tensor]]:
    """Hessian times vector for some groups."""
    found = {number: [torch.zeros_like(weight) for weight in stacks[number]] for number in active}
    wanted = [weight for number in active for weight in stacks[number]]
    for batch, share in enumerate(shares):
        gradients = iter(torch.autograd.grad(loss(batch), wanted, create_graph=True, materialize_grads=True))
        for number in active:
            own = [next(gradients) for _ in stacks[number]]
            along = _dot(own, vectors[number])
            if not along.requires_grad:  # the loss is linear in these weights
                continue
            product = torch.autograd.grad(
                along, list(stacks[number]), retain_graph=True, materialize_grads=True
            )
            for total, part in zip(found[number], product, strict=True):
                total.add_(part, alpha=share)
    return found


def _direction(group: Sequence[Tensor], seed: int) -> list[Tensor]:
    """A random direction of length 1."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(weight.shape, generator=generator).to(weight) for weight in group]
    norm = float(_dot(drawn, drawn)) ** 0.5
    return [part / norm for part in drawn]


def _dot(first: Sequence[Tensor], second: Sequence[Tensor]) -> Any:
    return torch.stack([(a * b).sum() for a, b in zip(first, second, strict=True)]).sum()
