"""ONNX Runtime's dynamic quantisation: int8 weights, activations scaled by their own range in each call.

Weights are symmetric with one scale for each output and use 7 of 8 bits: without VNNI the processor adds
two products of 8-bit numbers in 16 bits, which overflows with the eighth.  So the graph means the same
everywhere.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path


def write(graph: Path, path: Path, kept: Sequence[str] = ()) -> None:
    """Quantise the linear layers and embeddings of a graph.

    Args:
        graph: a graph in floating point.
        path: of the quantised one.
        kept: names of nodes that stay in floating point.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(str(graph))
    # Shapes that the exporter noted contradict those that the quantiser infers.
    del model.graph.value_info[:]
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        quantize_dynamic(
            model,
            str(path),
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            nodes_to_exclude=list(kept),
        )
    finally:
        logging.disable(before)
