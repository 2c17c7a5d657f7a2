"""Fused AdamW, or Muon for the hidden matrices with AdamW for the rest.

Weight decay goes to the hidden matrices only: norms and biases set scales, and the rows of an embedding that
a step does not see would shrink without ever being trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from wellread.precision import product_type
from wellread.settings import PretrainSettings
from wellread.sparsity.linear import SparseLinear
from wellread.sparsity.structure import Structure

MOMENTUM = 0.95
# The quintic of Keller Jordan's Muon (2024): steep at zero, near one after five rounds.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ROUNDS = 5
# Muon's steps are as long whatever the gradient: with AdamW's decay the layers outgrow the embeddings.
DECAY = {"adamw": 0.01, "muon": 0.1}


class Optimizer:
    """AdamW over all parameters, or over those that Muon leaves.

    Args:
        model: its parameters are updated in place.
        settings: kind of optimiser, peak rates, decay, clipping.

    Raises:
        KeyError: a kind that settings know is none here; AdamW would train in its place.
    """

    def __init__(self, model: nn.Module, settings: PretrainSettings) -> None:
        self.settings = settings
        given = settings.weight_decay
        self.decay = DECAY[settings.optimizer] if given is None else given
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        hidden = hidden_matrices(model)
        self.muon = {"adamw": {}, "muon": hidden}[settings.optimizer]
        self.momentum = {name: torch.zeros_like(self.parameters[name]) for name in self.muon}
        self._adamw_names = [name for name in self.parameters if name not in self.muon]
        decayed = [self.parameters[name] for name in self._adamw_names if name in hidden]
        tables = embeddings(model)
        embedded = [self.parameters[name] for name in self._adamw_names if name in tables]
        others = [
            self.parameters[name] for name in self._adamw_names if name not in hidden and name not in tables
        ]
        rate = settings.learning_rate
        self.adamw = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": self.decay, "peak": rate},
                {"params": others, "weight_decay": 0.0, "peak": rate},
                {"params": embedded, "weight_decay": 0.0, "peak": settings.embedding_learning_rate or rate},
            ],
            lr=rate,
            betas=settings.betas,
            eps=settings.eps,
            fused=True,
        )

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters.values():
            parameter.grad = None

    def clip(self) -> float:
        """Scale the gradients down to the largest allowed norm; returns the norm that they had."""
        return float(nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.clip))

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """Update the parameters at ``factor`` times the peak rates."""
        for group in self.adamw.param_groups:
            group["lr"] = factor * group["peak"]
        self.adamw.step()
        rate = factor * self.settings.muon_learning_rate
        for name, layer in self.muon.items():
            parameter = self.parameters[name]
            if parameter.grad is None:
                continue
            sparse = layer.structure if isinstance(layer, SparseLinear) else None
            kind = product_type(self.settings.precision, parameter.device)
            update = muon_update(parameter.grad, self.momentum[name], sparse, kind)
            outputs, inputs = _shape(layer)
            parameter.mul_(1 - rate * self.decay)
            parameter.add_(update, alpha=-rate * max(1.0, outputs / inputs) ** 0.5)

    def moments(self, parameter: nn.Parameter) -> list[Tensor]:
        """What is kept for each single weight of a parameter: tensors of its shape, none before a step."""
        momentum = [kept for name, kept in self.momentum.items() if self.parameters[name] is parameter]
        adamw = self.adamw.state.get(parameter, {})
        return momentum + [kept for key, kept in adamw.items() if key != "step"]

    def state(self) -> dict[str, Tensor]:
        """All that a continued run needs, by name."""
        tensors = {f"momentum.{name}": tensor for name, tensor in self.momentum.items()}
        for name in self._adamw_names:
            kept = self.adamw.state.get(self.parameters[name], {})
            tensors |= {f"{key}.{name}": value for key, value in kept.items()}
        return tensors

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over a state that :meth:`state` gave.

        Values are copied: the bits of a later matrix product may depend on how memory is aligned, and
        tensors from a file are aligned as the file is.
        """
        for name, tensor in self.momentum.items():
            tensor.copy_(tensors[f"momentum.{name}"])
        for name in self._adamw_names:
            parameter = self.parameters[name]
            if f"exp_avg.{name}" in tensors:
                self.adamw.state[parameter] = {
                    "step": tensors[f"step.{name}"].to(parameter.device, copy=True),
                    **{
                        key: torch.empty_like(parameter).copy_(tensors[f"{key}.{name}"])
                        for key in ("exp_avg", "exp_avg_sq")
                    },
                }


def hidden_matrices(model: nn.Module) -> dict[str, nn.Module]:
    """The matrices inside the stack of layers: name of the parameter, and the layer that it belongs to."""
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        inside = any(part.isdigit() for part in name.split("."))
        if inside and isinstance(module, (nn.Linear, Conv1D, SparseLinear)):
            found[f"{name}.values" if isinstance(module, SparseLinear) else f"{name}.weight"] = module
    return found


def embeddings(model: nn.Module) -> set[str]:
    """Names of the embedding tables, and with them of a head that is tied to one."""
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    return {name for name, parameter in model.named_parameters() if id(parameter) in tables}


def muon_update(
    gradient: Tensor,
    momentum: Tensor,
    sparse: Structure | None = None,
    kind: torch.dtype = torch.float32,
) -> Tensor:
    """Fold a gradient into ``momentum`` (in place) and make the Nesterov look-ahead orthogonal.

    M = 0.95 M + G; U = G + 0.95 M.

    Args:
        gradient: G, any two-dimensional shape.
        momentum: M, of the same shape.
        sparse: where the values of G and M, which are then packed, live.
        kind: in which the rounds of :func:`orthogonalise` are done.

    Returns:
        A matrix of that shape whose singular values are all near 1; it does not change when G and M are
        scaled.  Of a sparse one only the living part is kept, so its singular values are no longer equal.
    """
    momentum.mul_(MOMENTUM).add_(gradient)
    ahead = gradient.add(momentum, alpha=MOMENTUM)
    if sparse is None:
        return orthogonalise(ahead, kind)
    return sparse.pack(orthogonalise(sparse.unpack(ahead), kind))


def orthogonalise(matrix: Tensor, kind: torch.dtype = torch.float32) -> Tensor:
    """Five Newton-Schulz rounds towards U V' of the singular value decomposition U S V'.

    Args:
        matrix: M, of two dimensions; one of zeros stays so.
        kind: of the products; bfloat16, as Muon's author has it, where that is faster.
    """
    x = matrix.to(kind)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / x.norm().clamp(min=torch.finfo(torch.float32).tiny)
    a, b, c = COEFFICIENTS
    for _ in range(ROUNDS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)


def _shape(module: Any) -> tuple[int, int]:
    """(outputs, inputs) of a linear layer of any kind."""
    if isinstance(module, SparseLinear):
        return module.shape
    first, second = module.weight.shape
    return (second, first) if isinstance(module, Conv1D) else (first, second)
