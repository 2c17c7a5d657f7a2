"""What is quantised, and how."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from wellread.settings import Positive, Settings

Bits = Annotated[int, Field(ge=2, le=8)]


class QuantiseSettings(Settings):
    """Bits and ranges of a quantised model; norms, biases and the layer that gives labels stay float32."""

    method: Literal["uniform", "nf4", "fp4", "int8"] = Field(
        "uniform", description="Of the matrices in the layers; embeddings are always uniform."
    )
    bits: Bits = Field(8, description="Of every matrix in the layers (uniform).")
    layer_bits: tuple[Bits, ...] = Field(
        (), description="Bits of each layer instead, from the lowest on (mixed precision)."
    )
    groups: Positive | Literal["matrix", "head"] = Field(
        128, description="Ranges of each matrix, over neighbouring output neurons; at most one for each."
    )
    symmetric: bool = Field(False, description="Ranges around zero: no zero points, one level less.")
    embedding_bits: Bits | Literal[32] = Field(
        8, description="Of embeddings and of dense layers outside the stack; 32 leaves them."
    )
    activation_bits: Literal[8, 32] = Field(32, description="Of the inputs of quantised matrices; 32 leaves.")
    calibration: Positive = Field(128, description="Training examples that activation ranges are read from.")
    block: int = Field(64, ge=32, le=4096, description="Weights that share a scale (nf4, fp4).")
    double: bool = Field(False, description="Quantise the scales of nf4 and fp4 as well.")

    @model_validator(mode="after")
    def _fits(self) -> QuantiseSettings:
        if self.method != "uniform" and self.layer_bits:
            raise ValueError("layer_bits needs method uniform")
        if self.double and self.method not in ("nf4", "fp4"):
            raise ValueError("double needs method nf4 or fp4")
        return self
