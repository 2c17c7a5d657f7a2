"""Folders of pruned models: a stock checkpoint with zeros, or one without them, and sparse layers at loading.

    pruning.json         {"method", "pattern", "compact"}
    model.safetensors    the stock checkpoint, zeros written out; transformers loads it
    pruned.safetensors   instead of it where ``compact``: of each matrix the living weights, and a bit a place

Wellread runs either through :class:`wellread.sparsity.linear.SparseLinear`, so that zeros save time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from wellread import files
from wellread.compress.prune.masks import matrices, oriented
from wellread.errors import ArtefactError
from wellread.models import build, packed
from wellread.sparsity.linear import SparseLinear
from wellread.sparsity.patterns import BLOCK, Pattern, spread
from wellread.sparsity.structure import Structure

FACTS, WEIGHTS = "pruning.json", "pruned.safetensors"
# From this share of zeros on a forward pass through the kernels is faster than a dense one.
FASTER = {1: 0.5, 4: 0.5, 8: 0.3, 16: 0.3, 32: 0.3}


def is_pruned(folder: Path) -> bool:
    """Whether a folder is such a one."""
    return (Path(folder) / FACTS).exists()


def save(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    method: str,
    pattern: Pattern = "unstructured",
    compact: bool = False,
) -> None:
    """Write a model with zeros.

    Args:
        model: stock, its matrices dense tensors with zeros.
        tokenizer: of the model.
        folder: to write into.
        method: that made the zeros.
        pattern: in which they lie.
        compact: leave them out; the folder is then smaller, but for Wellread only.
    """
    build.save(model, tokenizer, folder)
    if compact:
        save_file(_packed(model, BLOCK[pattern]), folder / WEIGHTS)
        (folder / "model.safetensors").unlink()
    files.write_json(folder / FACTS, {"method": method, "pattern": pattern, "compact": compact})


def load(folder: Path, head: build.Head) -> Any:
    """A pruned model with packed attention, in which the matrices with enough zeros are sparse.

    Raises:
        ArtefactError: the folder is incomplete or damaged.
    """
    folder = Path(folder)
    facts = files.read_json(folder / FACTS)
    try:
        pattern: Pattern = facts["pattern"]
        model = _unpacked(folder, head, BLOCK[pattern]) if facts["compact"] else build.load(folder, head)
    except (KeyError, TypeError, ValueError, OSError, RuntimeError, SafetensorError):
        raise ArtefactError(
            "the pruned weights cannot be read", where=str(folder), fix="restore the folder from its source"
        ) from None
    return packed.enable(sparse(model, pattern))


def sparse(model: Any, pattern: Pattern) -> Any:
    """Have the kernels run every matrix that has enough zeros, in place; the weights stay what they are."""
    size = BLOCK[pattern]
    for name, matrix in matrices(model).items():
        grid = living(oriented(matrix, matrix.weight), size)
        if 1 - float(grid.float().mean()) < FASTER[size]:
            continue
        parent, _, child = name.rpartition(".")
        weight = oriented(matrix, matrix.weight)
        live = spread(grid, size, (weight.shape[0], weight.shape[1]))
        setattr(
            model.base_model.get_submodule(parent), child, SparseLinear.from_linear(matrix, live, pattern)
        )
    return model


def living(weight: Tensor, size: int) -> Tensor:
    """(outputs, inputs) -> (rows of blocks, columns of blocks) bool: whether a block has a weight."""
    padded = torch.nn.functional.pad(
        weight.detach(), (0, -weight.shape[1] % size, 0, -weight.shape[0] % size)
    )
    return (padded.unfold(0, size, size).unfold(1, size, size) != 0).flatten(2).any(2)


def _packed(model: Any, size: int) -> dict[str, Tensor]:
    """State of a model: of each matrix a bit a block and the living blocks."""
    state = {name: weight.contiguous() for name, weight in model.state_dict().items()}
    for name, matrix in matrices(model).items():
        weight = oriented(matrix, matrix.weight.detach())
        grid = living(weight, size)
        structure = Structure.of(spread(grid, size, (weight.shape[0], weight.shape[1])), size)
        full = f"{model.base_model_prefix}.{name}"
        del state[f"{full}.weight"]
        state[f"{full}.values"] = structure.pack(weight).contiguous()
        state[f"{full}.live"] = torch.from_numpy(np.packbits(grid.numpy()))
    return state


def _unpacked(folder: Path, head: build.Head, size: int) -> Any:
    """The stock model of a compact folder."""
    config = build.load_config(folder)
    with build.seeded(0):
        model = build.MODELS[head].from_config(config, attn_implementation="sdpa", dtype=torch.float32)
    state = load_file(folder / WEIGHTS)
    for name, matrix in matrices(model).items():
        full, shape = f"{model.base_model_prefix}.{name}", oriented(matrix, matrix.weight).shape
        rows, columns = -(-shape[0] // size), -(-shape[1] // size)
        bits = np.unpackbits(state.pop(f"{full}.live").numpy(), count=rows * columns).astype(bool)
        grid = torch.from_numpy(bits.reshape(rows, columns))
        structure = Structure.of(spread(grid, size, (shape[0], shape[1])), size)
        weight = structure.unpack(state.pop(f"{full}.values"))
        state[f"{full}.weight"] = oriented(matrix, weight).contiguous()
    model.load_state_dict(state)
    return model.eval()
