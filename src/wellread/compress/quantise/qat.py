"""Quantisation-aware fine-tuning: the loss sees the values of the codes, the exact weights are trained.

After Q-BERT (Shen et al., arXiv 1909.05840): codes are made anew in every forward pass, with the range of the
moment, and the gradient goes straight through the rounding.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize

from wellread.compress.quantise import uniform, weights
from wellread.compress.quantise.quantise import Quantised, attach_ranges
from wellread.compress.quantise.settings import QuantiseSettings
from wellread.compress.quantise.weights import Codes, Scheme
from wellread.compress.subject import Subject, load_model
from wellread.errors import UserError
from wellread.finetune import stable
from wellread.finetune.loop import Loss, tune
from wellread.models import packed


class Rounded(nn.Module):
    """A parametrisation: a weight as the value of its codes, trained straight through."""

    def __init__(self, scheme: Scheme) -> None:
        super().__init__()
        self.scheme = scheme

    def forward(self, weight: Tensor) -> Tensor:
        """The values of the weight's codes, of its shape."""
        return uniform.straight_through(weight, weights.decode(weights.encode(weight, self.scheme)))


def quantise_aware(
    subject: Subject, settings: QuantiseSettings, seed: int, *, loss: Loss | None = None
) -> Quantised:
    """Fine-tune further with quantised weights, and quantise.

    Args:
        subject: the fine-tuned model to begin with, its task, and the settings of this training.
        settings: bits and ranges.
        seed: of order, dropout and calibration.
        loss: instead of the head's own, a teacher's for instance.

    Raises:
        UserError: the settings do not fit the model, or the training failed.
    """
    train = subject.task.splits["train"]
    size = stable.size_of(subject.folder)
    tuning, _ = stable.resolve(subject.settings, subject.task.kind, len(train), size)
    model = load_model(subject)
    schemes = weights.plan(model, settings)
    if settings.activation_bits == 8:
        attach_ranges(model, subject, settings, seed)
    prepare(model, schemes)
    result = tune(model, subject.data, train, tuning, seed, loss=loss, fine_tuned=True)
    if result.failed:
        raise UserError(
            f"quantisation-aware training failed: {result.failure}",
            where=subject.task.name,
            fix="lower the learning rate, or use more bits",
        )
    codes = finish(model, schemes)
    return Quantised(packed.enable(model).eval(), codes, settings, tuple(result.history))


def prepare(model: Any, schemes: dict[str, Scheme]) -> None:
    """Have a model compute with quantised weights, in place, its exact weights to be trained.

    Raises:
        ValueError: two modules share a weight; they would part.
    """
    if len(list(model.named_parameters(remove_duplicate=False))) != len(list(model.named_parameters())):
        raise ValueError("a model with tied weights cannot be trained quantised")
    for name, scheme in schemes.items():
        module = model.get_submodule(name.removesuffix(".weight"))
        parametrize.register_parametrization(module, "weight", Rounded(scheme))


def finish(model: Any, schemes: dict[str, Scheme]) -> dict[str, Codes]:
    """Take the exact weights off a model of :func:`prepare`, in place, and return their codes."""
    found = {}
    for name, scheme in schemes.items():
        module = model.get_submodule(name.removesuffix(".weight"))
        found[name] = weights.encode(module.parametrizations.weight.original, scheme)
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    return found
