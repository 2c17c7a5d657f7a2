"""A graph as a model: logits of encoded texts, in padded batches of neighbours by length."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wellread import files
from wellread.errors import ArtefactError, UserError
from wellread.finetune.encode import Encoded
from wellread.serve.engines import onnx, openvino
from wellread.serve.engines.formats import RUNTIMES, need
from wellread.tasks.task import Kind

FACTS = "engine.json"
BATCH_TOKENS = 1024  # in a padded batch: activations of a small model then stay in the cache

# Inputs by name, each int64 (B, L), to float32 logits: (B, labels), for tag (B, L, labels).
Run = Callable[[dict[str, np.ndarray]], np.ndarray]
OPEN: dict[str, Callable[[Path, int, int], Run]] = {"onnx": onnx.open_graph, "openvino": openvino.open_graph}


@dataclass(frozen=True)
class Engine:
    """A graph that gives logits.

    Attributes:
        run: the graph.
        inputs: names of its inputs.
        kind: of the task.
        labels: number of outputs.
        pad_id: token that fills rows up.
        workers: batches that are run side by side.
    """

    run: Run
    inputs: tuple[str, ...]
    kind: Kind
    labels: int
    pad_id: int
    workers: int = 1

    def logits(self, encoded: Encoded) -> np.ndarray:
        """Logits of S sequences with W labelled words: float32 (S, labels), for tag (W, labels)."""
        count = len(encoded.word_positions) if self.kind == "tag" else len(encoded.lengths)
        found = np.zeros((count, self.labels), dtype=np.float32)

        def fill(index: np.ndarray) -> None:
            logits = self.run(feed(encoded, index, self.inputs, self.pad_id))
            if self.kind != "tag":
                found[index] = logits
                return
            for row, sequence in zip(logits, index, strict=True):
                words = slice(encoded.word_offsets[sequence], encoded.word_offsets[sequence + 1])
                found[words] = row[encoded.word_positions[words]]

        batches = padded_batches(encoded.lengths, BATCH_TOKENS)
        if self.workers == 1 or len(batches) == 1:
            for index in batches:
                fill(index)
            return found
        with ThreadPoolExecutor(self.workers) as pool:
            list(pool.map(fill, batches))
        return found


def feed(encoded: Encoded, index: np.ndarray, inputs: tuple[str, ...], pad_id: int) -> dict[str, np.ndarray]:
    """Some sequences as padded inputs of a graph, each int64 (B, longest)."""
    lengths = encoded.lengths[index]
    columns = np.arange(lengths.max())
    real = columns < lengths[:, None]
    tokens = np.where(real, encoded.offsets[index][:, None] + columns, 0)
    types = encoded.type_ids
    rows = {
        "input_ids": np.where(real, encoded.input_ids[tokens], pad_id),
        "attention_mask": real.astype(np.int64),
        "token_type_ids": np.zeros_like(tokens) if types is None else np.where(real, types[tokens], 0),
    }
    return {name: rows[name] for name in inputs}


def padded_batches(lengths: np.ndarray, tokens: int) -> list[np.ndarray]:
    """All sequences, longest first, in batches of at most ``tokens`` tokens with padding, or of one."""
    ranked = np.argsort(-lengths, kind="stable")
    batches, begin = [], 0
    while begin < len(ranked):
        rows = max(1, tokens // max(1, int(lengths[ranked[begin]])))
        batches.append(ranked[begin : begin + rows])
        begin += rows
    return batches


def is_engine(folder: Path) -> bool:
    """Whether a folder was exported for an engine."""
    return (Path(folder) / FACTS).exists()


def load(
    folder: Path, name: str | None = None, *, threads: int = 1, workers: int = 1
) -> tuple[Engine, dict[str, Any]]:
    """The engine of an exported folder, and the folder's facts.

    Args:
        folder: as :func:`wellread.serve.engines.folder.export_engine` made it.
        name: "onnx" or "openvino"; default the first that the folder holds.
        threads: CPU threads of each batch.
        workers: batches side by side.

    Raises:
        ArtefactError: the folder is damaged, or was not exported for an engine.
        UserError: the folder does not hold this engine, or its package is not installed.
    """
    folder = Path(folder)
    if not is_engine(folder):
        raise ArtefactError(
            "the folder holds no graph for an engine",
            where=str(folder),
            fix=f"export it with `wellread export --format {name or 'onnx'}` and give that folder",
        )
    files.check(folder)
    facts = files.read_json(folder / FACTS)
    return open_engine(folder, facts, name or next(iter(facts["engines"])), threads, workers), facts


def open_engine(folder: Path, facts: dict[str, Any], name: str, threads: int, workers: int) -> Engine:
    """One engine of a folder with these facts; raises as :func:`load`."""
    if name not in facts["engines"]:
        held = " or ".join(facts["engines"])
        raise UserError(
            f"the folder holds no graph for {name!r}",
            where=str(folder),
            fix=f"use --engine {held}, or export the model again with --format {name} as well",
        )
    need([RUNTIMES[name]], f"--engine {name}")
    path = folder / facts["engines"][name]["file"]
    try:
        run = OPEN[name](path, threads, workers)
    except Exception as error:
        raise ArtefactError(
            f"the graph cannot be opened ({type(error).__name__})",
            where=str(path),
            fix="export it again with the versions that are installed here",
        ) from error
    return Engine(
        run, tuple(facts["inputs"]), facts["kind"], len(facts["labels"]), int(facts["pad_id"]), workers
    )
