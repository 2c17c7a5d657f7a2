"""What a fine-tuned model is asked and how its answer is read: a head, as a handful of functions.

| name | model | asked | answers |
|---|---|---|---|
| classifier | stock sequence or token classifier | the text | a fresh layer (:mod:`.classifier`) |
| mlm | stock masked language model | a template with a mask | the word under the mask (:mod:`.answer_mask`) |
| lm | stock causal language model | a template | the likeliest continuation (:mod:`.likelihood`) |
| similarity | stock encoder | two texts apart | how well their tokens match (:mod:`.similarity`) |
| comparison | encoder and two layers | two texts apart | a network over matched tokens (:mod:`.comparison`) |

The loop knows none of them: it takes the head that :func:`wellread.finetune.data.prepare` has put beside the
encoded task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wellread.finetune.encode import Encoded
from wellread.finetune.objective import Objective, Split
from wellread.settings import ModelSettings
from wellread.tasks.task import Example

# Tokens in a batch of inference: enough to fill the matrix units, little enough for the cache.
INFERENCE_TOKENS = 2048
NOTES = (
    "answers.json"  # beside a model that is no stock classifier: head, template, words, all its user needs
)

Start = Path | ModelSettings


@dataclass(frozen=True)
class Head:
    """The functions of a head, bound to a task's labels and a tokenizer.

    Attributes:
        open: (checkpoint folder or architecture, tokenizer, dropout, seed) -> a stock model.
        encode: (N examples, longest length in tokens) -> their sequences; labels are not looked at.
        fit: (model, train, its S sequences, whether to weigh classes) -> objective, before the first step.
        loss: (model, split, (B,) sequences, objective, a seed of this step) -> mean loss, to differentiate.
        logits: (model in evaluation mode, S sequences) -> float32 (S, labels), for tag (words, labels).
        finish: (model, objective) after the last step, with the best weights in place.
        notes: what stands beside the saved model in answers.json; None for a model that needs nothing.
        save: (model, tokenizer, folder) -> writes the model; None where that is a stock checkpoint, or what a
            light-weight method makes of one.
    """

    open: Callable[[Start, Any, float, int], Any]
    encode: Callable[[Sequence[Example], int], Encoded]
    fit: Callable[[Any, Split, np.ndarray, bool], Objective]
    loss: Callable[[Any, Split, np.ndarray, Objective, int], Tensor]
    logits: Callable[[Any, Encoded], np.ndarray]
    finish: Callable[[Any, Objective], None]
    notes: dict[str, Any] | None = None
    save: Callable[[Any, Any, Path], None] | None = None


def precision(device: torch.device) -> AbstractContextManager[Any]:
    """bfloat16 where the GPU's attention kernel wants it; full precision on CPU."""
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()


def neighbours(encoded: Encoded, index: np.ndarray) -> np.ndarray:
    """The sequences of a batch by length: those of equal length share one attention call."""
    return index[np.argsort(encoded.lengths[index], kind="stable")]
