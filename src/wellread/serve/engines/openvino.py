"""A graph in OpenVINO's own form, and its compiled model."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from wellread.serve.engines.engine import Run


def read(graph: Path) -> Any:
    """An ONNX graph as an OpenVINO model."""
    import openvino

    return openvino.Core().read_model(str(graph))


def write(graph: Path, path: Path) -> None:
    """Convert an ONNX graph: ``path`` (XML) and the weights in float32 beside it."""
    save(read(graph), path)


def save(model: Any, path: Path) -> None:
    """Write a model without rounding its weights to 16 bits, which is OpenVINO's own default."""
    import openvino

    openvino.save_model(model, str(path), compress_to_fp16=False)


def open_graph(path: Path, threads: int, workers: int = 1) -> Run:
    """A compiled model as a function from inputs to logits.

    Args:
        path: of the graph.
        threads: CPU threads of each call.
        workers: threads that may call at once.
    """
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads * workers,
        "NUM_STREAMS": workers,
        "INFERENCE_PRECISION_HINT": "f32",  # else processors with bfloat16 would round
    }
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    own = threading.local()

    def run(feed: dict[str, np.ndarray]) -> np.ndarray:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        return np.array(own.request.infer(feed, share_inputs=True)[0])

    return run
