"""OpenVINO int8: static post-training quantisation (NNCF), calibrated on the task's own texts.

Weights use 7 of 8 bits everywhere, for the reason given in :mod:`.onnx_int8`.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wellread.serve.engines import openvino


def write(graph: Path, path: Path, feeds: Sequence[dict[str, np.ndarray]], kept: Sequence[str] = ()) -> None:
    """Quantise an ONNX graph and write it in OpenVINO's form.

    Args:
        graph: a graph in floating point.
        path: of the quantised one (XML).
        feeds: inputs of the graph to calibrate on.
        kept: names of nodes that stay in floating point.
    """
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):
        model = nncf.quantize(
            openvino.read(graph),
            nncf.Dataset(feeds),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(feeds),
            ignored_scope=nncf.IgnoredScope(names=list(kept)) if kept else None,
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE),
        )
    openvino.save(model, path)
