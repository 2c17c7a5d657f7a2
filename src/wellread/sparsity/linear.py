"""Linear layers of which most weights are fixed at zero, and the way back to dense ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from wellread.settings import SparsitySettings
from wellread.sparsity.patterns import BLOCK, Pattern, mask
from wellread.sparsity.product import product
from wellread.sparsity.structure import Structure

# Where each layout keeps its stack of layers, from the base model on.
STACKS = {"modernbert": "layers", "bert": "encoder.layer", "llama": "layers", "gpt2": "h"}


@dataclass(frozen=True)
class LayerReport:
    """One matrix: shape (outputs, inputs), share of zeros, outputs without any live weight."""

    name: str
    shape: tuple[int, int]
    level: float
    dead_rows: int


class SparseLinear(nn.Module):
    """``nn.Linear`` (or GPT-2's ``Conv1D``) of whose weight only the living part is stored and trained.

    Gradients and the optimiser's state are as small as the weight.  The state dict is a dense layer's, zeros
    filled in; where the weights live is no part of it, being a pure function of the run's seed (where dynamic
    sparsity moves them, checkpoints hold it apart).

    Attributes:
        values: the living weights, packed (see :mod:`wellread.sparsity.structure`).
        bias: as in the dense layer.
        structure: where the living weights are, as (outputs, inputs).
        pattern: name of the mask's pattern.
        transposed: whether the dense layer's weight is (inputs, outputs), as in ``Conv1D``.
        moved: how many weights dynamic sparsity has brought to life so far.
    """

    values: nn.Parameter
    bias: nn.Parameter | None

    def __init__(
        self,
        values: Tensor,
        bias: nn.Parameter | None,
        structure: Structure,
        pattern: Pattern,
        transposed: bool,
    ) -> None:
        super().__init__()
        self.values = nn.Parameter(values)
        self.register_parameter("bias", bias)
        self.structure = structure
        self.pattern = pattern
        self.transposed = transposed
        self.moved = 0

    @classmethod
    def from_linear(cls, linear: Any, live: Tensor, pattern: Pattern) -> SparseLinear:
        """Take over the living weights, and the bias, of a dense layer.

        Args:
            linear: ``nn.Linear`` or ``Conv1D``.
            live: (outputs, inputs) bool, True where the weight lives.
            pattern: name of the mask's pattern.
        """
        transposed = isinstance(linear, Conv1D)
        structure = Structure.of(live.cpu(), BLOCK[pattern])
        weight = linear.weight.detach()
        values = structure.pack(weight.T if transposed else weight).contiguous()
        return cls(values, linear.bias, structure, pattern, transposed).train(linear.training)

    def to_linear(self) -> nn.Linear | Conv1D:
        """The dense layer with the same weights; those that come back to life start at zero."""
        outputs, inputs = self.shape
        with torch.device("meta"):
            dense: Any = (
                Conv1D(outputs, inputs) if self.transposed else nn.Linear(inputs, outputs, bias=False)
            )
        dense.weight, dense.bias = nn.Parameter(self.weight), self.bias
        return dense.train(self.training)

    @property
    def shape(self) -> tuple[int, int]:
        """(outputs, inputs)."""
        return self.structure.shape

    @property
    def weight(self) -> Tensor:
        """The dense layer's weight, made anew; no gradient flows through it."""
        dense = self.structure.unpack(self.values.detach())
        return dense.T.contiguous() if self.transposed else dense

    @property
    def mask(self) -> Tensor:
        """Bool of the shape of ``weight``, True where it lives."""
        live = self.structure.live()
        return live.T if self.transposed else live

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        return product(inputs, self.values, self.bias, self.structure)

    def layer_report(self, name: str) -> LayerReport:
        """What the mask leaves."""
        live = self.structure.live()
        level = 1.0 - int(live.sum()) / live.numel()
        return LayerReport(name, self.shape, level, int((~live.any(1)).sum()))

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        del destination[f"{prefix}values"]
        destination[f"{prefix}weight"] = self.weight

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        weight = state_dict.pop(f"{prefix}weight", None)
        if weight is not None:
            dense = weight.T if self.transposed else weight
            state_dict[f"{prefix}values"] = self.structure.pack(dense)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def sparsify(
    model: PreTrainedModel,
    settings: SparsitySettings,
    seed: int,
    living: Mapping[str, Tensor] | None = None,
) -> list[LayerReport]:
    """Make every attention and feed-forward matrix sparse, in place; level 0 leaves the model dense.

    Embeddings, norms, biases and the head stay dense (SPDF, arXiv 2303.10464).  With ``settings.rescale`` the
    surviving weights are multiplied by 1/sqrt(share that survives), which keeps the variance of the outputs.

    Args:
        model: a dense model of one of the four layouts.
        settings: level, pattern and rescaling.
        seed: of the masks; the same seed gives the same masks.
        living: by name the (outputs, inputs) masks of weights that were trained so; they are not rescaled.

    Returns:
        One report for each matrix.

    Raises:
        ValueError: a matrix is sparse already.
    """
    if settings.level == 0:
        return []
    reports = []
    for name, parent, child, linear in list(_matrices(model)):
        if isinstance(linear, SparseLinear):
            raise ValueError(f"{name} is sparse already")
        first, second = linear.weight.shape
        shape = (second, first) if isinstance(linear, Conv1D) else (first, second)
        live = mask(shape, settings.level, settings.pattern, seed, name) if living is None else living[name]
        sparse = SparseLinear.from_linear(linear, live, settings.pattern)
        if settings.rescale and living is None:
            with torch.no_grad():
                sparse.values.mul_(float(live.float().mean()) ** -0.5)
        setattr(parent, child, sparse)
        reports.append(sparse.layer_report(name))
    return reports


def densify(model: PreTrainedModel) -> PreTrainedModel:
    """Put dense layers back, in place: the same weights, those that come back to life at zero."""
    for _, parent, child, linear in list(_matrices(model)):
        if isinstance(linear, SparseLinear):
            setattr(parent, child, linear.to_linear())
    return model


def sparse_layers(model: PreTrainedModel) -> dict[str, SparseLinear]:
    """All sparse layers, by name from the base model on."""
    return {name: layer for name, _, _, layer in _matrices(model) if isinstance(layer, SparseLinear)}


def dense_weights(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Name from the base model on, and (outputs, inputs) view, of every matrix in a dense model's layers."""
    for name, _, _, layer in _matrices(model):
        weight = layer.weight.detach()
        yield name, weight.T if isinstance(layer, Conv1D) else weight


def share_of_zeros(model: PreTrainedModel) -> float:
    """The share of the weights in a dense model's matrices that are zero."""
    weights = [weight for _, weight in dense_weights(model)]
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)


def report(model: PreTrainedModel) -> dict[str, Any]:
    """The content of sparsity.json: level over all matrices, pattern, and each matrix."""
    layers, pattern = [], "dense"
    for name, layer in sparse_layers(model).items():
        layers.append(layer.layer_report(name))
        pattern = layer.pattern
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
