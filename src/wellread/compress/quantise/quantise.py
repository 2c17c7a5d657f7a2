"""Quantisation after training: weights become the values of their codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from wellread import rng
from wellread.compress.quantise import activations, weights
from wellread.compress.quantise.settings import QuantiseSettings
from wellread.compress.quantise.weights import Codes
from wellread.compress.subject import Subject, load_model


@dataclass(frozen=True)
class Quantised:
    """A quantised model.

    Attributes:
        model: the stock model in evaluation mode, whose quantised weights hold the values of their codes;
            with 8-bit activations also an ``input_range`` in each quantised linear layer.
        codes: by name of the weight.
        settings: how it was quantised.
        history: of quantisation-aware training, as in ``FinetuneResult``; empty without.
    """

    model: Any
    codes: dict[str, Codes]
    settings: QuantiseSettings
    history: tuple[dict[str, Any], ...] = ()


def quantise(subject: Subject, settings: QuantiseSettings, seed: int = 0) -> Quantised:
    """Quantise a fine-tuned model without training.

    Args:
        subject: the model and its task.
        settings: bits and ranges.
        seed: chooses the calibration texts (8-bit activations only).

    Raises:
        UserError: the settings do not fit the model.
    """
    model = load_model(subject)
    if settings.activation_bits == 8:
        attach_ranges(model, subject, settings, seed)
    return quantise_weights(model, settings)


def quantise_weights(model: Any, settings: QuantiseSettings) -> Quantised:
    """Quantise the weights of any stock model, in place: an encoder or decoder with or without a head.

    Raises:
        UserError: the settings do not fit the model, or a weight is not a number.
    """
    found = {}
    for name, scheme in weights.plan(model, settings).items():
        weight = model.get_parameter(name)
        found[name] = weights.encode(weight, scheme)
        with torch.no_grad():
            weight.copy_(weights.decode(found[name]))
    return Quantised(model.eval(), found, settings)


def attach_ranges(model: Any, subject: Subject, settings: QuantiseSettings, seed: int) -> None:
    """Have the inputs of the matrices that will be quantised rounded, at ranges seen on training texts."""
    names = [name.removesuffix(".weight") for name in weights.plan(model, settings)]
    activations.attach(model, names)
    examples = subject.task.splits["train"]
    count = min(settings.calibration, len(examples))
    chosen = rng.permute(np.arange(count), len(examples), seed, "calibration")
    length = model.config.max_position_embeddings
    if subject.settings.max_length:
        length = min(length, subject.settings.max_length)
    encoded = subject.data.head.encode([examples[number] for number in chosen], length)
    activations.calibrate(model, lambda: subject.data.head.logits(model.eval(), encoded))


def parameter_bytes(quantised: Quantised) -> dict[str, int]:
    """Bytes by kind: "codes", "tables" (and ranges of inputs), "float" (what is not quantised)."""
    packed = sum(-(-each.codes.numel() * each.scheme.bits // 8) for each in quantised.codes.values())
    everything = sum(each.bytes for each in quantised.codes.values())
    rest = dict(quantised.model.named_parameters())
    ranges = sum(weight.numel() for name, weight in rest.items() if ".input_range." in name)
    others = sum(weight.numel() for name, weight in rest.items() if name not in quantised.codes)
    return {
        "codes": packed,
        "tables": everything - packed + 4 * ranges,
        "float": 4 * (others - ranges),
    }
