"""Folders of binary models: what no stock checkpoint can hold.

    config.json, tokenizer files    as of the stock model
    binary.json                     {"method", "elastic"} or {"method", "group"}
    binary.safetensors              packed signs, scales, and all that stayed real

There is no ``model.safetensors``, so that transformers refuses the folder rather than guess.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from wellread import files
from wellread.compress.binarise import bibert, dual
from wellread.errors import ArtefactError
from wellread.models import build, packed

FACTS, WEIGHTS = "binary.json", "binary.safetensors"


def save(model: Any, tokenizer: Any, folder: Path) -> int:
    """Write a model with binary or dual layers; equal models give equal bytes.

    Args:
        model: of :func:`wellread.compress.binarise.bibert.binarise` or of
            :func:`wellread.compress.binarise.dual.binarise`; it is packed, in place.
        tokenizer: of the model.
        folder: to write into.

    Returns:
        Bytes of the weights, scales and signs as counted (:func:`counted`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    if dual.is_dual(model):
        facts: dict[str, Any] = {"method": "dual", "group": dual.group_of(model)}
        tensors = dual.tensors(model)
    else:
        facts = {"method": "bibert", "elastic": bibert.is_elastic(model)}
        tensors = bibert.packed(model).state_dict()
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(kept, folder / WEIGHTS)
    files.write_json(folder / FACTS, facts)
    return counted(kept)


def counted(tensors: dict[str, Tensor]) -> int:
    """Bytes of tensors as they are kept, the file's own table of contents left out."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def load(folder: Path, head: build.Head) -> Any:
    """A model for predictions from a folder of :func:`save`, in evaluation mode.

    Raises:
        ArtefactError: the folder is incomplete or damaged.
    """
    folder = Path(folder)
    config, facts = build.load_config(folder), files.read_json(folder / FACTS)
    try:
        method = facts["method"]
        tensors = load_file(folder / WEIGHTS)
        with build.seeded(0):
            model: Any = build.MODELS[head].from_config(
                config, attn_implementation="sdpa", dtype=torch.float32
            )
        if method == "bibert":
            bibert.hollow(model, elastic=bool(facts["elastic"]))
        elif method == "dual":
            tensors = dual.restored(model, tensors, int(facts["group"]))
            packed.enable(model)
        else:
            raise ValueError(method)
        model.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, OSError, RuntimeError, SafetensorError):
        raise ArtefactError(
            "the packed weights cannot be read, or do not fit config.json",
            where=str(folder),
            fix="restore the folder from its source",
        ) from None
    return model.eval()
