"""A teacher in masked language modelling: its distribution over the likeliest tokens where words are hidden.

Hinton et al. (arXiv 1503.02531), as a stage of pre-training.  The teacher reads exactly what the student
reads, so both must cut text into the same tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from wellread.errors import ArtefactError
from wellread.models import build, packed
from wellread.models.heads import lm_logits
from wellread.objectives.prediction import Prediction, Soft
from wellread.settings import TeacherSettings
from wellread.tokens import tokenizer as tokenizers

ROWS = 512  # positions whose logits over the vocabulary stand at a time


def open_teacher(
    settings: TeacherSettings, tokenizer: PreTrainedTokenizerBase
) -> Callable[[Prediction], Prediction]:
    """A function that adds what the teacher says to a prediction; it runs on the GPU where there is one.

    Args:
        settings: which teacher, and how it is learnt from.
        tokenizer: of the student.

    Raises:
        ArtefactError: the teacher cannot be loaded, or has another tokenizer.
    """
    folder = Path(settings.path)
    model = build.load(folder, "mlm")
    if tokenizers.load(folder).get_vocab() != tokenizer.get_vocab():
        raise ArtefactError(
            "the teacher was trained with another tokenizer",
            where="pretrain.teacher.path",
            fix="set tokenizer.path to the teacher's folder, or choose another teacher",
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    packed.enable(model).eval().to(device)  # type: ignore[arg-type]
    return lambda prediction: replace(prediction, soft=soft_targets(model, prediction, settings))


@torch.no_grad()
def soft_targets(model: Any, prediction: Prediction, settings: TeacherSettings) -> Soft:
    """The teacher's likeliest tokens at the predicted positions, their probabilities made to add up to 1.

    Args:
        model: a masked language model in evaluation mode with packed attention.
        prediction: what is read, and M positions.
        settings: how many tokens, and the temperature.

    Returns:
        (M, k) ids and probabilities on the CPU.
    """
    device = next(model.parameters()).device
    asked = prediction.to(device)
    with torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda"):
        hidden = packed.hidden_states(model, asked.inputs).index_select(0, asked.positions)
        top = min(settings.top, model.config.vocab_size)
        found = [torch.topk(lm_logits(model, part).float(), top, dim=-1) for part in hidden.split(ROWS)]
    ids = torch.cat([one.indices for one in found]).cpu()
    values = torch.cat([one.values for one in found]).cpu()
    probabilities = torch.softmax(values / settings.temperature, dim=-1)
    return Soft(ids, probabilities, settings.weight, settings.temperature)
