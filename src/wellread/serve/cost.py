"""What a prediction costs: processor seconds for a thousand texts on one thread, and bytes on disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from wellread.tasks.task import Example, Task

TIMED = 200  # test examples on which the time is measured
WARM_UP = 8


def seconds_per_1000(
    predict: Callable[[Sequence[Example]], Any], examples: Sequence[Example], *, on_gpu: bool = False
) -> float:
    """Seconds for a thousand examples, from text to prediction, measured on a few.

    Args:
        predict: from examples to whatever it predicts; must not remember examples.
        examples: of which the first are used.
        on_gpu: go by the clock.  Otherwise processor time counts, which a busy machine disturbs less; torch
            and whatever else computes should be kept to one thread meanwhile.
    """
    clock = time.perf_counter if on_gpu else time.process_time
    seconds = 0.0
    for chosen in (examples[:WARM_UP], examples[:TIMED]):
        began = clock()
        predict(chosen)
        seconds = (clock() - began) * 1000 / max(1, len(chosen))
    return seconds


def of_model(folder: Path, task: Task) -> dict[str, Any]:
    """Cost of predictions with a fine-tuned model: {"seconds_per_1000", "size_bytes"}.

    Raises:
        ArtefactError: the folder holds no fine-tuned model.
    """
    from wellread.serve.predict import Predictor
    from wellread.workers import torch_threads

    predictor = Predictor.load(folder)

    def predict(examples: Sequence[Example]) -> None:
        if task.kind == "tag":
            inputs: list[Any] = [list(example.tokens) for example in examples]
        else:
            inputs = [_asked(example) for example in examples]
        for _ in predictor.predict(inputs):
            pass

    with torch_threads(1):
        seconds = seconds_per_1000(predict, task.splits["test"], on_gpu=predictor.model.device.type == "cuda")
    return {
        "seconds_per_1000": round(seconds, 4),
        "size_bytes": sum(path.stat().st_size for path in folder.rglob("*.safetensors")),
    }


def _asked(example: Example) -> Any:
    """An example as predictions take it."""
    if example.options:
        asked = {"text": example.text, "options": list(example.options)}
        return asked | ({} if example.text_pair is None else {"text_pair": example.text_pair})
    return example.text if example.text_pair is None else (example.text, example.text_pair)
