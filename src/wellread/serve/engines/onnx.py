"""A stock encoder as an ONNX graph with any number of sequences of any length, and its session."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from wellread.serve.engines.engine import Run

SAMPLE = (2, 9)  # sequences and tokens of the traced input; no size of it stays in the graph


def write(model: Any, inputs: Sequence[str], path: Path) -> None:
    """Write the graph: int64 ``inputs`` (batch, length) in, float32 "logits" out.

    Args:
        model: a stock classifier of sequences or tokens.
        inputs: names of its inputs, of "input_ids", "attention_mask" and "token_type_ids".
        path: of the file.
    """
    import torch

    class Logits(torch.nn.Module):
        """The model with nothing but logits as its output."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *given: torch.Tensor) -> torch.Tensor:
            return self.model(**dict(zip(inputs, given, strict=True))).logits

    batch, length = torch.export.Dim("batch"), torch.export.Dim("length")
    sample = {
        "input_ids": torch.ones(SAMPLE, dtype=torch.int64),
        "attention_mask": torch.ones(SAMPLE, dtype=torch.int64),
        "token_type_ids": torch.zeros(SAMPLE, dtype=torch.int64),
    }
    sample["attention_mask"][1, SAMPLE[1] // 2 :] = 0
    with _quiet(), torch.inference_mode():
        program = torch.onnx.export(
            Logits().eval(),
            tuple(sample[name] for name in inputs),
            dynamo=True,
            input_names=list(inputs),
            output_names=["logits"],
            dynamic_shapes=(tuple({0: batch, 1: length} for _ in inputs),),
            external_data=False,
            verbose=False,
        )
        assert program is not None
        program.save(str(path))


def layer_products(graph: Path, stack: str, layers: Sequence[int]) -> list[str]:
    """Names of the matrix products within some layers, as the exporter noted where each node comes from.

    Args:
        graph: written by :func:`write`.
        stack: path of the layers in the base model.
        layers: their numbers.
    """
    import onnx

    places = [f".{stack}.{layer}'" for layer in layers]
    found = []
    for node in onnx.load(str(graph), load_external_data=False).graph.node:
        scopes = {entry.key: entry.value for entry in node.metadata_props}
        scope = scopes.get("pkg.torch.onnx.name_scopes", "")
        if node.op_type in ("MatMul", "Gemm") and any(place in scope for place in places):
            found.append(node.name)
    return found


def open_graph(path: Path, threads: int, _workers: int = 1) -> Run:
    """A session as a function from inputs to logits; several threads may call it at once.

    Args:
        path: of the graph.
        threads: CPU threads of each call.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(feed: dict[str, np.ndarray]) -> np.ndarray:
        return session.run(["logits"], feed)[0]

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks on its own parts off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
