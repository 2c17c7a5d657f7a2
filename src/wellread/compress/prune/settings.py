"""What each way of pruning can be told."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from wellread.settings import Fraction, Positive, Rate, Settings
from wellread.sparsity.patterns import Pattern


class GradualSettings(Settings):
    """Magnitude and movement pruning: the level rises while the model trains on."""

    level: Fraction = Field(0.5, description="Share of zeros in the attention and feed-forward matrices.")
    pattern: Pattern = Field("unstructured", description="Single weights, or square blocks of this size.")
    ramp: Rate = Field(0.6, description="Share of the steps in which the level rises; then the mask stays.")
    every: Positive = Field(10, description="Steps between two choices of the mask.")
    epochs: Positive | None = Field(None, description="Passes over train; default as in fine-tuning.")


class WandaSettings(Settings):
    """Wanda: one choice from the weights and what comes in, without training."""

    level: Fraction = Field(0.5, description="Share of zeros in each row of the matrices.")
    pattern: Pattern = Field("unstructured", description="Single weights, or square blocks of this size.")
    calibration: Positive = Field(128, description="Sequences of train that are run through the model.")
    train: bool = Field(False, description="Train what is left afterwards.")
    epochs: Positive | None = Field(None, description="Passes over train; default as in fine-tuning.")


class StructuredSettings(Settings):
    """Layers, feed-forward neurons and heads that are taken out of the architecture."""

    layers: Annotated[int, Field(ge=0)] = Field(0, description="Whole layers to take out.")
    order: Literal["taylor", "top"] = Field(
        "taylor", description="Which layers go: those of the least importance, or the topmost."
    )
    ffn: Fraction = Field(0.0, description="Share of the feed-forward neurons to take out of each layer.")
    multiple: Positive = Field(16, description="The neurons left are a multiple of this, as kernels like it.")
    heads: Fraction = Field(0.0, description="Share of the heads to take out of each layer (llama only).")
    sample: Positive = Field(512, description="Training sequences on which importance is measured.")
    train: bool = Field(True, description="Train what is left afterwards.")
    epochs: Positive | None = Field(None, description="Passes over train; default as in fine-tuning.")
