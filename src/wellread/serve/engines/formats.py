"""The formats of an export by name, and the packages that they need.  Imports nothing heavy."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass

from wellread.errors import UserError, install

TRANSFORMERS = "transformers"
SENTENCES = "sentence-transformers"
ENGINES = ("torch", "onnx", "openvino")


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        engine: that runs it.
        packages: that making it takes; the engine's own is the last.
        int8: whether weights and activations are 8-bit integers.
        calibrated: whether it is made with the help of texts.
    """

    engine: str
    packages: tuple[str, ...]
    int8: bool = False
    calibrated: bool = False


_GRAPH = ("onnx", "onnxscript")
FORMATS = {
    "onnx": Format("onnx", (*_GRAPH, "onnxruntime")),
    "onnx-int8": Format("onnx", (*_GRAPH, "onnxruntime"), int8=True),
    "openvino": Format("openvino", (*_GRAPH, "openvino")),
    "openvino-int8": Format("openvino", (*_GRAPH, "nncf", "openvino"), int8=True, calibrated=True),
}
RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino"}


def check_formats(names: Sequence[str]) -> tuple[str, ...]:
    """The names if all can be made here and stand side by side in one folder.

    Raises:
        UserError: an unknown name, two formats of one engine, or a missing package.
    """
    for name in names:
        if name.lower() == "gguf":
            raise UserError(
                "nothing that Wellread uses turns checkpoints into GGUF; the package gguf only writes files",
                where="--format gguf",
                fix="export with --format transformers, then convert_hf_to_gguf.py of the llama.cpp sources",
            )
        if name not in (TRANSFORMERS, SENTENCES, *FORMATS):
            known = ", ".join((TRANSFORMERS, SENTENCES, *FORMATS))
            raise UserError(f"there is no format {name!r}", where="--format", fix=f"one of: {known}")
    chosen = tuple(dict.fromkeys(names))
    if SENTENCES in chosen and len(chosen) > 1:
        raise UserError(
            f"{SENTENCES} stands alone in its folder", where="--format", fix="export into two folders"
        )
    engines = [FORMATS[name].engine for name in chosen if name in FORMATS]
    if len(engines) > len(set(engines)):
        raise UserError(
            "two formats for one engine in one folder", where="--format", fix="export into two folders"
        )
    need([package for name in chosen if name in FORMATS for package in FORMATS[name].packages], "--format")
    return chosen


def need(packages: Sequence[str], where: str) -> None:
    """Refuse where a package is missing.

    Raises:
        UserError: naming it and the command that installs it.
    """
    missing = [name for name in dict.fromkeys(packages) if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"not installed: {', '.join(missing)}", where=where, fix=install("deploy"))
