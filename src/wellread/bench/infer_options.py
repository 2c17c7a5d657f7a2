"""What ``wellread bench infer`` measures, and the reading of its options.  Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wellread.errors import UserError
from wellread.serve.engines.formats import FORMATS, need

PARTS = ("latency", "file")
LAYOUTS = ("modernbert", "bert")
TORCH = ("torch-packed", "torch-int8")
CONTENDERS = (*TORCH, *FORMATS)


@dataclass(frozen=True)
class InferOptions:
    """Everything that decides what is measured.

    Attributes:
        model: folder of a fine-tuned encoder; None for one made up.
        texts: file of documents; None for documents made up.
        documents: how many of them are taken.
        shape: (layers, hidden) of the model made up.
        layout: of the model made up.
        parts: some of PARTS.
        contenders: some of CONTENDERS, each against transformers in fp32.
        batches: texts in a call.
        lengths: tokens in a text.
        threads: CPU threads.
        rounds: counted pairs of short calls; a fifth of them, 3 at least, of calls above LONG tokens.
        quiet: say nothing.
    """

    model: Path | None = None
    texts: Path | None = None
    documents: int = 512
    shape: tuple[int, int] = (6, 384)
    layout: str = "modernbert"
    parts: tuple[str, ...] = PARTS
    contenders: tuple[str, ...] = CONTENDERS
    batches: tuple[int, ...] = (1, 32)
    lengths: tuple[int, ...] = (32, 128, 512)
    threads: tuple[int, ...] = (1,)
    rounds: int = 30
    quiet: bool = False


def read_names(text: str | None, known: tuple[str, ...], where: str) -> tuple[str, ...]:
    """``a,b`` as ("a", "b"); None as all that are known.

    Raises:
        UserError: an unknown name.
    """
    chosen = known if text is None else tuple(dict.fromkeys(text.split(",")))
    for name in chosen:
        if name not in known:
            raise UserError(f"there is no {name!r}", where=where, fix=f"some of: {','.join(known)}")
    return chosen


def read_contenders(text: str | None) -> tuple[str, ...]:
    """The contenders to measure.

    Raises:
        UserError: an unknown name, or the package of one is missing.
    """
    chosen = read_names(text, CONTENDERS, "--engines")
    for name in chosen:
        if name in FORMATS:
            need(FORMATS[name].packages, "--engines")
    return chosen


def read_layout(text: str) -> str:
    """The layout's name.

    Raises:
        UserError: an unknown one.
    """
    if text not in LAYOUTS:
        raise UserError(f"there is no layout {text!r}", where="--layout", fix=f"one of: {', '.join(LAYOUTS)}")
    return text
