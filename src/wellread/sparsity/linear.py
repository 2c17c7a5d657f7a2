"""Linear layers of which most weights are fixed at zero, and the way back to dense ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear as dense_linear
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from wellread.settings import SparsitySettings
from wellread.sparsity.patterns import Pattern, mask

# Where each layout keeps its stack of layers, from the base model on.
STACKS = {"modernbert": "layers", "bert": "encoder.layer", "llama": "layers", "gpt2": "h"}


@dataclass(frozen=True)
class LayerReport:
    """One matrix: shape (outputs, inputs), share of zeros, outputs without any live weight."""

    name: str
    shape: tuple[int, int]
    level: float
    dead_rows: int


class _MaskGradient(torch.autograd.Function):
    """The identity, whose gradient is zero wherever the mask is False."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, live: Tensor) -> Tensor:
        ctx.save_for_backward(live)
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (live,) = ctx.saved_tensors
        return torch.where(live, gradient, 0.0), None


class SparseLinear(nn.Module):
    """``nn.Linear`` (or GPT-2's ``Conv1D``) with a fixed mask over its weight.

    The weight is stored dense with zeros, under the names of the dense layer, so a sparse model's state dict
    is a dense one's; the mask is no part of it, being a pure function of the run's seed.

    Attributes:
        weight, bias: as in the dense layer.
        mask: bool, of the shape of ``weight``, True where the weight lives.
        pattern: name of the mask's pattern.
        transposed: whether ``weight`` is (inputs, outputs), as in ``Conv1D``.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    mask: Tensor

    def __init__(
        self,
        weight: nn.Parameter,
        bias: nn.Parameter | None,
        mask: Tensor,
        pattern: Pattern,
        transposed: bool,
    ) -> None:
        super().__init__()
        self.weight = weight
        self.register_parameter("bias", bias)
        self.register_buffer("mask", mask, persistent=False)
        self.pattern = pattern
        self.transposed = transposed

    @classmethod
    def from_linear(cls, linear: Any, mask: Tensor, pattern: Pattern) -> SparseLinear:
        """Take over the parameters of a dense layer and set its masked weights to zero.

        Args:
            linear: ``nn.Linear`` or ``Conv1D``; its parameters now belong to the sparse one.
            mask: (outputs, inputs) bool.
            pattern: name of the mask's pattern.
        """
        transposed = isinstance(linear, Conv1D)
        live = (mask.T.contiguous() if transposed else mask).to(linear.weight.device)
        sparse = cls(linear.weight, linear.bias, live, pattern, transposed)
        sparse.enforce()
        return sparse.train(linear.training)

    def to_linear(self) -> nn.Linear | Conv1D:
        """The dense layer with the same parameters; the weights that come back to life start at zero."""
        outputs, inputs = self.shape
        with torch.device("meta"):
            dense: Any = (
                Conv1D(outputs, inputs) if self.transposed else nn.Linear(inputs, outputs, bias=False)
            )
        dense.weight, dense.bias = self.weight, self.bias
        return dense.train(self.training)

    @property
    def shape(self) -> tuple[int, int]:
        """(outputs, inputs)."""
        first, second = self.weight.shape
        return (second, first) if self.transposed else (first, second)

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        weight = _MaskGradient.apply(self.weight, self.mask)
        if (
            self.transposed and self.bias is not None
        ):  # the same call as Conv1D makes, so that densifying changes no bit
            flat = torch.addmm(self.bias, inputs.view(-1, inputs.shape[-1]), weight)
            return flat.view(*inputs.shape[:-1], -1)
        return dense_linear(inputs, weight, self.bias)

    @torch.no_grad()
    def enforce(self) -> None:
        """Set the masked weights to zero."""
        self.weight.copy_(torch.where(self.mask, self.weight, 0.0))

    def layer_report(self, name: str) -> LayerReport:
        """What the mask leaves."""
        live = self.mask.T if self.transposed else self.mask
        level = 1.0 - int(live.sum()) / live.numel()
        return LayerReport(name, self.shape, level, int((~live.any(1)).sum()))


def sparsify(model: PreTrainedModel, settings: SparsitySettings, seed: int) -> list[LayerReport]:
    """Make every attention and feed-forward matrix sparse, in place; level 0 leaves the model dense.

    Embeddings, norms, biases and the head stay dense (SPDF, arXiv 2303.10464).  With ``settings.rescale`` the
    surviving weights are multiplied by 1/sqrt(share that survives), which keeps the variance of the outputs.

    Args:
        model: a dense model of one of the four layouts.
        settings: level, pattern and rescaling.
        seed: of the masks; the same seed gives the same masks.

    Returns:
        One report for each matrix.

    Raises:
        ValueError: a matrix is no multiple of the block, or is sparse already.
    """
    if settings.level == 0:
        return []
    reports = []
    for name, parent, child, linear in list(_matrices(model)):
        if isinstance(linear, SparseLinear):
            raise ValueError(f"{name} is sparse already")
        first, second = linear.weight.shape
        shape = (second, first) if isinstance(linear, Conv1D) else (first, second)
        live = mask(shape, settings.level, settings.pattern, seed, name)
        sparse = SparseLinear.from_linear(linear, live, settings.pattern)
        if settings.rescale:
            with torch.no_grad():
                sparse.weight.mul_(float(live.float().mean()) ** -0.5)
        setattr(parent, child, sparse)
        reports.append(sparse.layer_report(name))
    return reports


def densify(model: PreTrainedModel) -> PreTrainedModel:
    """Put dense layers back, in place: same outputs to the bit, revived weights at exactly zero."""
    for _, parent, child, linear in list(_matrices(model)):
        if isinstance(linear, SparseLinear):
            setattr(parent, child, linear.to_linear())
    return model


def enforce(model: nn.Module) -> None:
    """Set all masked weights to zero again, after a step of an optimiser that mixes weights (Muon)."""
    for module in model.modules():
        if isinstance(module, SparseLinear):
            module.enforce()


def report(model: PreTrainedModel) -> dict[str, Any]:
    """The content of sparsity.json: level over all matrices, pattern, and each matrix."""
    layers, pattern = [], "dense"
    for name, _, _, linear in _matrices(model):
        if isinstance(linear, SparseLinear):
            layers.append(linear.layer_report(name))
            pattern = linear.pattern
    weights = [layer.shape[0] * layer.shape[1] for layer in layers]
    zeros = sum(layer.level * size for layer, size in zip(layers, weights, strict=True))
    return {
        "level": zeros / sum(weights) if weights else 0.0,
        "pattern": pattern,
        "layers": [asdict(layer) for layer in layers],
    }


def _matrices(model: PreTrainedModel) -> Iterator[tuple[str, nn.Module, str, Any]]:
    """(name from the base model on, parent, name in the parent, layer) of every matrix in the layers."""
    stack = STACKS[model.config.model_type]
    base = model.base_model
    for name, module in base.get_submodule(stack).named_modules():
        if isinstance(module, (nn.Linear, Conv1D, SparseLinear)):
            full = f"{stack}.{name}"
            parent, _, child = full.rpartition(".")
            yield full, base.get_submodule(parent), child, module
