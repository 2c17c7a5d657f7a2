"""Quantised models on disk: every code in its bits, without gaps.

    config.json, tokenizer files    as of the stock model
    quantised.safetensors           NAME.codes (bytes), NAME.step, ... of the quantised weights; others as are
    quantised.json                  settings, scheme and shape of each weight, SHA-256 of the other files

There is no ``model.safetensors``, so plain transformers refuses the folder instead of loading something else.
Loading makes the float32 weights again: the folder is small, the model in memory is not.
"""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from wellread import files
from wellread.compress.quantise import activations, bits, weights
from wellread.compress.quantise.quantise import Quantised, parameter_bytes
from wellread.compress.quantise.settings import QuantiseSettings
from wellread.compress.quantise.weights import Codes, Scheme
from wellread.errors import ArtefactError
from wellread.models import build
from wellread.models import packed as attention

FACTS, WEIGHTS = "quantised.json", "quantised.safetensors"
FIX = "restore the folder from its source"


def save(quantised: Quantised, tokenizer: Any, folder: Path) -> dict[str, int]:
    """Write a quantised model.

    Args:
        quantised: from this package.
        tokenizer: of the model.
        folder: to write into.

    Returns:
        :func:`size` of it.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    config = copy.deepcopy(quantised.model.config)
    config.architectures = [type(quantised.model).__name__]  # as a model's own save_pretrained does
    config.save_pretrained(folder)
    save_file(_tensors(quantised), folder / WEIGHTS)
    schemes = {
        name: {"shape": list(each.codes.shape), **asdict(each.scheme)}
        for name, each in quantised.codes.items()
    }
    size_bytes = size(quantised)
    facts = {
        "settings": quantised.settings.model_dump(mode="json"),
        "weights": schemes,
        "bytes": size_bytes,
        "sha256": {name: files.sha256_file(folder / name) for name in ("config.json", WEIGHTS)},
    }
    files.write_json(folder / FACTS, {**facts, "self": files.sha256_bytes(files.canonical_json(facts))})
    return size_bytes


def size(quantised: Quantised) -> dict[str, int]:
    """Bytes of the weights file: "codes", "tables", "float", "names" (its header), and all, "total".

    The tokenizer is not counted.
    """
    parts = parameter_bytes(quantised)
    parts["names"] = _header_bytes(_tensors(quantised))
    return {**parts, "total": sum(parts.values())}


def load(folder: Path, head: build.Head | None) -> Any:
    """The model with packed attention, to the bit the one that was saved; its weights in float32.

    Args:
        folder: written by :func:`save`.
        head: the kind of model that was saved.

    Raises:
        ArtefactError: the folder is incomplete, damaged or of another kind of model.
    """
    folder = Path(folder)
    facts = _facts(folder)
    config = build.load_config(folder)
    try:
        stored = load_file(folder / WEIGHTS)
        settings = QuantiseSettings.model_validate(facts["settings"])
        with build.seeded(0):
            model = build.MODELS[head].from_config(config, attn_implementation="sdpa", dtype=torch.float32)
        if settings.activation_bits == 8:
            activations.attach(model, [name.removesuffix(".weight") for name in facts["weights"]])
        for name, scheme in facts["weights"].items():
            stored[name] = weights.decode(_codes(stored, name, dict(scheme)))
        wanted = {name for name, _ in model.named_parameters()}
        if wanted != stored.keys():
            raise ValueError(f"{len(wanted ^ stored.keys())} weights too many or too few")
        model.load_state_dict(stored, strict=False)
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError, ValidationError) as error:
        raise ArtefactError(
            f"the quantised weights do not fit the configuration ({type(error).__name__})",
            where=str(folder),
            fix=FIX,
        ) from None
    return attention.enable(model).eval()


def _tensors(quantised: Quantised) -> dict[str, Tensor]:
    """What the weights file holds, by name."""
    found: dict[str, Tensor] = {}
    for name, weight in quantised.model.named_parameters():
        each = quantised.codes.get(name)
        if each is None:
            found[name] = weight.detach().to(torch.float32).contiguous()
            continue
        found[f"{name}.codes"] = bits.pack(each.codes.flatten(), each.scheme.bits)
        found |= {f"{name}.{key}": table.contiguous() for key, table in each.tables.items()}
    return found


def _codes(stored: dict[str, Tensor], name: str, facts: dict[str, Any]) -> Codes:
    """Take one weight's codes and tables out of what was stored."""
    shape = tuple(facts.pop("shape"))
    scheme = Scheme(**facts)
    packed = stored.pop(f"{name}.codes")
    tables = {}
    for key, (dtype, expected) in weights.table_shapes((shape[0], shape[1]), scheme).items():
        tables[key] = stored.pop(f"{name}.{key}")
        if tables[key].dtype != dtype or tuple(tables[key].shape) != expected:
            raise ValueError(f"{name}.{key}")
    if len(packed) != bits.bytes_of(prod(shape), scheme.bits):
        raise ValueError(f"{name}.codes")
    return Codes(scheme, bits.unpack(packed, scheme.bits, prod(shape)).view(shape), tables)


def _facts(folder: Path) -> dict[str, Any]:
    """The content of quantised.json, checked against itself and the other files."""
    facts = files.read_json(folder / FACTS)
    rest = {key: value for key, value in facts.items() if key != "self"} if isinstance(facts, dict) else {}
    if not rest or facts.get("self") != files.sha256_bytes(files.canonical_json(rest)):
        raise ArtefactError("content changed", where=str(folder / FACTS), fix=FIX)
    for name, wanted in rest["sha256"].items():
        if not (folder / name).exists():
            raise ArtefactError("the file is missing", where=str(folder / name), fix=FIX)
        if files.sha256_file(folder / name) != wanted:
            raise ArtefactError("content changed (SHA-256 differs)", where=str(folder / name), fix=FIX)
    return rest


def _header_bytes(tensors: dict[str, Tensor]) -> int:
    """Length of a safetensors header: JSON of names, types, shapes and places, padded to 8 bytes."""
    kinds = {torch.float32: "F32", torch.uint8: "U8"}
    place, header = 0, {}
    # Larger types first, then by name, as the library lays them out.
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])):
        end = place + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": kinds[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [place, end],
        }
        place = end
    return 8 + -(-len(json.dumps(header, separators=(",", ":"))) // 8) * 8
