"""What ``wellread bench train`` measures, and the reading of its options.  Imports nothing heavy."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass, field
from pathlib import Path

from wellread.errors import UserError, install
from wellread.settings import ModelSettings

PARTS = ("layers", "steps", "trainer", "memory")
USUAL = ("layers", "steps", "trainer")
HEAD = 64  # width of an attention head
# Counted pairs of each part, without and with --quick.
ROUNDS = {"layers": 20, "steps": 15, "trainer": 10}
QUICK_ROUNDS = {"layers": 3, "steps": 2, "trainer": 2}


@dataclass(frozen=True)
class Options:
    """Everything that decides what is measured.

    Attributes:
        parts: some of PARTS.
        threads: CPU threads; everything but memory is measured with each.
        linears: (inputs, outputs) of single layers.
        linear_tokens: tokens in a layer's call.
        shape: (layers, hidden) of the model in steps.
        vocabulary: tokens of the made-up vocabulary.
        max_length: longest sequence in tokens.
        batch_tokens: tokens in a step.
        rounds: counted pairs by part.
        memory_shape: (layers, hidden) of the model whose memory is measured.
        memory_tokens: tokens in a step there, one measurement each.
        tokens_from: run folder whose tokens and tokenizer are used instead of made-up ones.
        quiet: say nothing.
    """

    parts: tuple[str, ...] = USUAL
    threads: tuple[int, ...] = (1,)
    linears: tuple[tuple[int, int], ...] = ((384, 384),)
    linear_tokens: int = 4096
    shape: tuple[int, int] = (6, 384)
    vocabulary: int = 16384
    max_length: int = 512
    batch_tokens: int = 4096
    rounds: dict[str, int] = field(default_factory=lambda: dict(ROUNDS))
    memory_shape: tuple[int, int] = (12, 768)
    memory_tokens: tuple[int, ...] = (1024, 4096)
    tokens_from: Path | None = None
    quiet: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be measured.

        Raises:
            UserError: a step has no room for a sequence.
        """
        smallest = min(self.batch_tokens, *self.memory_tokens)
        if smallest < self.max_length:
            raise UserError(
                f"a step of {smallest} tokens has no room for a sequence of {self.max_length}",
                where="--batch-tokens, --memory-tokens",
                fix="raise it, or lower --max-length",
            )

    def model(self, shape: tuple[int, int]) -> ModelSettings:
        """The ModernBERT of a shape, with heads of HEAD dimensions."""
        layers, hidden = shape
        return ModelSettings(
            layers=layers, hidden=hidden, heads=max(1, hidden // HEAD), max_length=self.max_length
        )


def read_parts(only: str | None, memory: bool) -> tuple[str, ...]:
    """The parts to measure; without ``only``, the Trainer is left out where it cannot run.

    Raises:
        UserError: an unknown part, or the Trainer is asked for where ``accelerate`` is missing.
    """
    chosen = tuple(dict.fromkeys(only.split(","))) if only is not None else USUAL
    for part in chosen:
        if part not in PARTS:
            raise UserError(f"there is no part {part!r}", where="--only", fix=f"some of: {','.join(PARTS)}")
    if importlib.util.find_spec("accelerate") is None and "trainer" in chosen:
        if only is not None:
            what = "the Trainer of transformers needs the package accelerate"
            raise UserError(what, where="--only", fix=install("bench"))
        chosen = tuple(part for part in chosen if part != "trainer")
    return chosen if not memory or "memory" in chosen else (*chosen, "memory")


def read_threads(text: str | None, cores: int) -> tuple[int, ...]:
    """``1,2`` as numbers; by default one thread and, where there are as many cores, two.

    Raises:
        UserError: no numbers, or more threads than cores, which measures the scheduler.
    """
    if text is None:
        return (1, 2) if cores > 1 else (1,)
    threads = read_numbers(text, "--threads")
    if max(threads) > cores:
        raise UserError(
            f"{max(threads)} threads on {cores} core(s) would wait for each other",
            where="--threads",
            fix=f"ask for {cores} at most",
        )
    return threads


def read_numbers(text: str, where: str) -> tuple[int, ...]:
    """``1,2`` as (1, 2).

    Raises:
        UserError: not whole numbers from 1 on.
    """
    found = text.split(",")
    if not all(re.fullmatch(r"0*[1-9]\d{0,8}", part) for part in found):
        raise UserError(f"{text!r} is no list of numbers from 1 on", where=where, fix="for instance 1,2")
    return tuple(dict.fromkeys(map(int, found)))


def read_linears(text: str) -> tuple[tuple[int, int], ...]:
    """``384x1536,768x768`` as ((384, 1536), (768, 768)).

    Raises:
        UserError: not pairs of numbers.
    """
    return tuple(dict.fromkeys(_pair(part, "--linear", "inputs x outputs") for part in text.split(",")))


def read_shape(text: str, where: str) -> tuple[int, int]:
    """``6x384`` as (layers, hidden).

    Raises:
        UserError: not a pair of numbers, or no width that attention heads can share.
    """
    layers, hidden = _pair(text, where, "layers x width")
    heads = max(1, hidden // HEAD)
    if hidden % (2 * heads):
        raise UserError(
            f"heads of {HEAD} dimensions cannot share a width of {hidden}",
            where=where,
            fix=f"give a multiple of {HEAD}, or an even number below it",
        )
    return layers, hidden


def _pair(text: str, where: str, meaning: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text)
    if not found or not (int(found[1]) and int(found[2])):
        raise UserError(f"{text!r} is not {meaning}", where=where, fix="for instance 6x384")
    return int(found[1]), int(found[2])
