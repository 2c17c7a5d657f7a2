"""Width: every new coordinate is a copy of an old one (bert2BERT, Chen et al., 2022, arXiv 2110.07143).

With the map g from new coordinates to old ones and C, how many new ones an old one has, a matrix grows in
two steps: its inputs U[i, :] = W[g(i), :] / C(g(i)), its outputs U[:, j] = W[:, g(j)].  Old coordinates are
copied in turn: all equally often (but for the rest of a division), and a sparse matrix keeps its blocks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from wellread import rng
from wellread.models.grow.shapes import (
    LAST_NORM,
    STACKS,
    Shape,
    axes_of,
    blank,
    columns,
    sources,
    tied,
)

# How unevenly copies share their outgoing weights, in (0, 1).  Copies that share evenly get equal gradients
# and stay copies for ever; any split whose sum is one keeps the function.
UNEVEN = 0.5


@torch.no_grad()
def widen(
    small: PreTrainedModel,
    config: PreTrainedConfig,
    seed: int,
    *,
    advanced: bool = False,
    uneven: float = UNEVEN,
    masks: bool = False,
) -> PreTrainedModel:
    """A wider model made of copies; ``small`` stays as it is.

    Function-preserving initialisation (FPI) computes what the small model does where the new width of the
    residual stream is a multiple of the old one: only then do means and variances in the norms stay.  The
    heads and the feed-forward layer may have any number of copies.  Where the output layer is the embedding
    table, the norm before it is divided by C.

    Advanced knowledge initialisation (AKI) takes the new outputs of a matrix, and of its bias, from the layer
    above, whose inputs grow in the same way (the last layer: from itself).  That breaks the symmetry of the
    copies, and the function.

    Args:
        small: a stock model of one of the four layouts with the head of its pre-training.
        config: of the wider model, with as many layers.
        seed: of the uneven shares.
        advanced: AKI instead of FPI.
        uneven: how unevenly copies share their outgoing weights (AKI: evenly); 0 is the paper's 1/C.
        masks: the weights are marks, 1 where a weight lives, which are copied whole.
    """
    before, after = Shape.of(small.config).axes, Shape.of(config).axes
    large = blank(small, config, seed)
    skip = large.get_output_embeddings() if tied(large) else None
    for name, module in large.named_modules():
        source = small.get_submodule(name)
        axes = axes_of(name, module) if getattr(module, "weight", None) is not None else None
        if axes is None or module is skip:
            for key, parameter in module.named_parameters(recurse=False):
                if module is not skip or key != "weight":
                    parameter.copy_(source.get_parameter(key))
            continue
        outputs, inputs = (sources(axis, before, after) if axis else None for axis in axes)
        split = 0.0 if advanced else uneven
        matrix, bias = _grown(source, inputs, split, rng.derive(seed, f"uneven {name}"), masks)
        if outputs is not None:
            matrix, bias = matrix[:, outputs], None if bias is None else bias[outputs]
        above = _above(name, small) if advanced and inputs is not None else None
        if above is not None:
            fresh = torch.cat([torch.arange(after[kind]) >= before[kind] for kind in axes[0]])
            upper, upper_bias = _grown(above, inputs, 0.0, 0, masks)
            matrix[:, fresh] = upper[:, outputs][:, fresh]
            if bias is not None and upper_bias is not None:
                bias[fresh] = upper_bias[outputs][fresh]
        columns(module).copy_(matrix)
        if bias is not None:
            module.bias.copy_(bias)  # type: ignore[union-attr, operator]
    if skip is not None and not masks:
        _share_head(large, sources("e", before, after))
    return large


def _grown(
    source: Any, inputs: Tensor | None, uneven: float, seed: int, masks: bool
) -> tuple[Tensor, Tensor | None]:
    """The weight as (inputs, outputs) with its inputs copied and shared out, and the bias."""
    matrix = columns(source).clone()
    if inputs is not None:
        matrix = matrix[inputs]
        if not masks:
            matrix *= shares(inputs, matrix.shape[1], uneven, seed).to(matrix.dtype)
    bias = getattr(source, "bias", None)
    return matrix, None if bias is None else bias.detach().clone()


def shares(inputs: Tensor, outputs: int, uneven: float, seed: int) -> Tensor:
    """What share of the old weight each copy carries: (inputs, outputs) float64; copies sum to one.

    Args:
        inputs: for each copy its old coordinate.
        outputs: columns; each has shares of its own.
        uneven: a copy's share lies between (1 - 2 uneven) / C and (1 + 2 uneven) / C.
        seed: of the shares.
    """
    counts = torch.bincount(inputs).double()
    noise = torch.zeros(len(inputs), outputs, dtype=torch.float64)
    if uneven:
        noise.uniform_(-uneven, uneven, generator=torch.Generator().manual_seed(seed))
    sums = torch.zeros(len(counts), outputs, dtype=torch.float64).index_add_(0, inputs, noise)
    return (1 + noise - (sums / counts[:, None])[inputs]) / counts[inputs, None]


def _above(name: str, small: PreTrainedModel) -> nn.Module | None:
    """The same matrix one layer up, in the last layer itself; None outside the layers."""
    stack = STACKS[small.config.model_type]
    if not name.startswith(f"{stack}."):
        return None
    number, _, rest = name.removeprefix(f"{stack}.").partition(".")
    layer = min(int(number) + 1, small.config.num_hidden_layers - 1)
    return small.get_submodule(f"{stack}.{layer}.{rest}")


def _share_head(large: PreTrainedModel, copies: Tensor) -> None:
    """Have the copies of a coordinate add up to one in a head that is the embedding table."""
    norm = large.get_submodule(LAST_NORM[large.config.model_type])
    counts = torch.bincount(copies)[copies].to(norm.weight.dtype)  # type: ignore[union-attr, arg-type]
    for parameter in norm.parameters(recurse=False):
        parameter.div_(counts)
