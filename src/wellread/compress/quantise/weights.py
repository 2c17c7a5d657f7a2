"""Which weights of a stock model are quantised, each by its scheme; codes and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from wellread.compress.quantise import bits as packing
from wellread.compress.quantise import codebook, groups, uniform
from wellread.compress.quantise.settings import QuantiseSettings
from wellread.errors import UserError
from wellread.sparsity.linear import STACKS


@dataclass(frozen=True)
class Scheme:
    """How one weight is quantised.

    Attributes:
        kind: evenly spaced levels, or a code book.
        bits: of a code.
        parts: matrices that lie one below the other in the weight.
        groups: ranges of each part (uniform).
        symmetric: ranges around zero (uniform).
        block: weights that share a scale (code books).
        double: the scales are quantised too (code books).
        transposed: the weight is stored as (inputs, outputs), as in ``Conv1D``.
    """

    kind: Literal["uniform", "nf4", "fp4"]
    bits: int
    parts: int = 1
    groups: int = 1
    symmetric: bool = False
    block: int = 64
    double: bool = False
    transposed: bool = False


@dataclass(frozen=True)
class Codes:
    """A quantised weight.

    Attributes:
        scheme: how it was quantised.
        codes: (outputs, inputs) uint8, one for each weight.
        tables: "step" and "zero" by group; or "scale" by block; or, with double quantisation, "scale_codes"
            by block, "scale_scale" by 256 blocks and "scale_mean".
    """

    scheme: Scheme
    codes: Tensor
    tables: dict[str, Tensor]

    @property
    def bytes(self) -> int:
        """Of the packed codes and their tables."""
        tables = sum(table.numel() * table.element_size() for table in self.tables.values())
        return packing.bytes_of(self.codes.numel(), self.scheme.bits) + tables


def plan(model: Any, settings: QuantiseSettings) -> dict[str, Scheme]:
    """Schemes by name of the weight, in the model's order.

    All matrices of the layers follow ``method``; embeddings and dense layers outside the stack are uniform
    with ``embedding_bits``.  The layer that gives labels stays as it is, and so do norms and biases.

    Raises:
        UserError: ``layer_bits`` are not as many as the model's layers.
    """
    depth = model.config.num_hidden_layers
    if settings.layer_bits and len(settings.layer_bits) != depth:
        raise UserError(
            f"{len(settings.layer_bits)} numbers for a model of {depth} layers",
            where="layer_bits",
            fix="give one number of bits for each layer",
        )
    found = {}
    for name, layer, module in modules(model):
        scheme = _scheme(name, layer, module, settings, model.config)
        if scheme is not None:
            found[f"{name}.weight"] = scheme
    return found


def modules(model: Any) -> Iterator[tuple[str, int | None, Any]]:
    """(name, number of its layer or None, module) of all that has a matrix, but the layer that gives labels.

    Of modules that share a weight only the first, which is the embedding.
    """
    body = "" if model.base_model is model else f"{model.base_model_prefix}."
    stack = f"{body}{STACKS[model.config.model_type]}."
    seen = set()
    for name, module in model.named_modules():
        if not isinstance(module, (nn.Linear, Conv1D, nn.Embedding)) or name in ("classifier", "score"):
            continue
        if id(module.weight) in seen:
            continue
        seen.add(id(module.weight))
        inside = name.startswith(stack)
        yield name, int(name[len(stack) :].split(".")[0]) if inside else None, module


def encode(weight: Tensor, scheme: Scheme) -> Codes:
    """Quantise a weight as it is stored: (outputs, inputs), or (inputs, outputs) where transposed.

    Raises:
        UserError: a weight is not a number.
    """
    rows = weight.detach().to(torch.float32)
    rows = rows.T.contiguous() if scheme.transposed else rows
    if not bool(torch.isfinite(rows).all()):
        raise UserError("a weight is not a number", fix="train the model again; this one is broken")
    if scheme.kind == "uniform":
        owner = _owners(rows, scheme)
        count = scheme.parts * scheme.groups
        codes, step, zero = uniform.encode(rows, owner, count, scheme.bits, symmetric=scheme.symmetric)
        return Codes(scheme, codes, {"step": step} if scheme.symmetric else {"step": step, "zero": zero})
    flat, scales = codebook.encode(rows.flatten(), scheme.kind, scheme.block)
    tables = {"scale": scales}
    if scheme.double:
        tables = dict(
            zip(("scale_codes", "scale_scale", "scale_mean"), codebook.encode_scales(scales), strict=True)
        )
    return Codes(scheme, flat.view(rows.shape), tables)


def decode(found: Codes) -> Tensor:
    """The float32 weight of its codes, as it is stored."""
    scheme, tables = found.scheme, found.tables
    if scheme.kind == "uniform":
        step = tables["step"]
        half = (1 << (scheme.bits - 1)) - 1
        zero = torch.full_like(step, half) if scheme.symmetric else tables["zero"]
        rows = uniform.decode(found.codes, step, zero, _owners(found.codes, scheme))
    else:
        if scheme.double:
            scales = codebook.decode_scales(
                tables["scale_codes"], tables["scale_scale"], tables["scale_mean"]
            )
        else:
            scales = tables["scale"]
        flat = codebook.decode(found.codes.flatten(), scales, scheme.kind, scheme.block)
        rows = flat.view(found.codes.shape)
    return rows.T.contiguous() if scheme.transposed else rows


def table_shapes(shape: tuple[int, int], scheme: Scheme) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Type and shape of each table of a quantised weight of (outputs, inputs)."""
    if scheme.kind == "uniform":
        count = (scheme.parts * scheme.groups,)
        zero = {} if scheme.symmetric else {"zero": (torch.uint8, count)}
        return {"step": (torch.float32, count), **zero}
    blocks = -(-shape[0] * shape[1] // scheme.block)
    if not scheme.double:
        return {"scale": (torch.float32, (blocks,))}
    return {
        "scale_codes": (torch.uint8, (blocks,)),
        "scale_scale": (torch.float32, (-(-blocks // codebook.SCALE_BLOCK),)),
        "scale_mean": (torch.float32, ()),
    }


def _scheme(
    name: str, layer: int | None, module: Any, settings: QuantiseSettings, config: Any
) -> Scheme | None:
    transposed = isinstance(module, Conv1D)
    rows = module.weight.shape[1 if transposed else 0]
    last = name.rpartition(".")[2]
    parts = groups.PARTS.get(last, 1)
    count = groups.count(settings.groups, last, rows // parts, config)
    if layer is None:
        if settings.embedding_bits == 32:
            return None
        return Scheme("uniform", settings.embedding_bits, 1, count, settings.symmetric)
    if settings.method == "int8":
        return Scheme("uniform", 8, 1, rows, symmetric=True, transposed=transposed)
    if settings.method in ("nf4", "fp4"):
        return Scheme(settings.method, 4, block=settings.block, double=settings.double, transposed=transposed)
    bits = settings.layer_bits[layer] if settings.layer_bits else settings.bits
    return Scheme("uniform", bits, parts, count, settings.symmetric, transposed=transposed)


def _owners(rows: Tensor, scheme: Scheme) -> Tensor:
    return groups.owners(rows.shape[0], scheme.parts, scheme.groups).to(rows.device)
