"""A teacher in language modelling: its distribution over the likeliest tokens where a token is predicted.

Hinton et al. (arXiv 1503.02531), as a stage of pre-training.  The teacher reads exactly what the student
reads, so both must cut text into the same tokens.  When it is listened to: :mod:`wellread.objectives.salt`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from wellread.errors import ArtefactError
from wellread.models import build, packed
from wellread.models.grow.shapes import settings_of
from wellread.models.heads import lm_logits
from wellread.objectives import salt
from wellread.objectives.prediction import Prediction, Soft
from wellread.precision import Precision, autocast
from wellread.settings import ModelSettings, PretrainSettings, TeacherSettings
from wellread.sparsity.flops import step_flops
from wellread.tokens import tokenizer as tokenizers

ROWS = 512  # positions whose logits over the vocabulary stand at a time
KEY = "pretrain.teacher.path"


@dataclass(frozen=True)
class Teacher:
    """An open teacher, on the GPU where there is one.

    Attributes:
        model: in evaluation mode with packed attention.
        settings: how it is learnt from.
        shape: its architecture.
        precision: in which type its matrices are multiplied, as the student's.
    """

    model: Any
    settings: TeacherSettings
    shape: ModelSettings
    precision: Precision

    def __call__(self, prediction: Prediction, progress: float = 0.0) -> Prediction:
        """The prediction with what the teacher says; as it is once the teacher is not listened to."""
        weight = salt.weight(self.settings, progress)
        if not weight:
            return prediction
        with self.autocast():
            soft = soft_targets(self.model, prediction, self.settings)
        return replace(prediction, soft=replace(soft, weight=weight))

    def autocast(self) -> torch.autocast:
        """A context in which it is run."""
        return autocast(self.precision, self.model.device)

    def flops(self, lengths: Sequence[int], predictions: int, progress: float = 0.0) -> float:
        """Of its forward pass over some sequences; 0 once it is not listened to."""
        if not salt.weight(self.settings, progress):
            return 0.0
        return self.forward_flops(lengths, predictions)

    def forward_flops(self, lengths: Sequence[int], predictions: int) -> float:
        """Of a forward pass, a third of a training step."""
        return step_flops(self.shape, self.model.config.vocab_size, lengths, predictions, 0.0)[0] / 3


def open_teacher(
    settings: PretrainSettings, tokenizer: PreTrainedTokenizerBase, student: ModelSettings
) -> Teacher:
    """Load a teacher.

    Args:
        settings: of pre-training, with a teacher.
        tokenizer: of the student.
        student: its architecture.

    Raises:
        ArtefactError: the teacher cannot be loaded, is of another kind, reads shorter sequences, or has
            another tokenizer.
    """
    assert settings.teacher is not None
    folder = Path(settings.teacher.path)
    check_tokenizer(folder, tokenizer)
    shape = settings_of(build.load_config(folder))
    check_shape(shape, student.causal, student.max_length)
    model = build.load(folder, "clm" if student.causal else "mlm")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    packed.enable(model).eval().to(device)  # type: ignore[arg-type]
    return Teacher(model, settings.teacher, shape, settings.precision)


def check_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Whether a teacher reads the student's tokens.

    Raises:
        ArtefactError: it has another tokenizer.
    """
    if tokenizers.load(folder).get_vocab() != tokenizer.get_vocab():
        raise ArtefactError(
            "the teacher was trained with another tokenizer",
            where=KEY,
            fix="set tokenizer.path to the teacher's folder, or choose another teacher",
        )


def check_shape(shape: ModelSettings, causal: bool, max_length: int) -> None:
    """Whether a teacher can answer what a student is asked.

    Args:
        shape: the teacher's.
        causal: whether the student is a decoder.
        max_length: the student's.

    Raises:
        ArtefactError: one is a decoder and the other is not, or the teacher reads shorter sequences.
    """
    if shape.causal != causal:
        kinds = ("an encoder", "a decoder")
        raise ArtefactError(
            f"the teacher ({shape.layout}) is {kinds[shape.causal]}, the student {kinds[causal]}: they are "
            "asked different things",
            where=KEY,
            fix="choose a teacher of the student's kind, or another model.layout",
        )
    if shape.max_length < max_length:
        raise ArtefactError(
            f"the teacher reads {shape.max_length} tokens at most",
            where=KEY,
            fix=f"set model.max_length to {shape.max_length} or less, or choose another teacher",
        )


@torch.no_grad()
def soft_targets(model: Any, prediction: Prediction, settings: TeacherSettings) -> Soft:
    """The teacher's likeliest tokens at the predicted positions, their probabilities made to add up to 1.

    Args:
        model: a language model in evaluation mode with packed attention.
        prediction: what is read, and M positions.
        settings: how many tokens, and the temperature.

    Returns:
        (M, k) ids and probabilities on the CPU.
    """
    device = next(model.parameters()).device
    asked = prediction.to(device)
    hidden = packed.hidden_states(model, asked.inputs).index_select(0, asked.positions)
    top = min(settings.top, model.config.vocab_size)
    found = [torch.topk(lm_logits(model, part).float(), top, dim=-1) for part in hidden.split(ROWS)]
    ids = torch.cat([one.indices for one in found]).cpu()
    values = torch.cat([one.values for one in found]).cpu()
    probabilities = torch.softmax(values / settings.temperature, dim=-1)
    softened = settings.temperature if settings.soften == "both" else 1.0
    return Soft(ids, probabilities, settings.weight, softened)
