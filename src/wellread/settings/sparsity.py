"""The table [pretrain.sparsity]."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from wellread.settings.base import Fraction, Positive, Rate, Settings

# Those of wellread.sparsity.patterns, which this module cannot import: settings do without torch.
Pattern = Literal["unstructured", "2:4", "block4", "block8", "block16", "block32", "block64", "block128"]


class SparsitySettings(Settings):
    """Random sparsity during pre-training (SPDF / MediSwift), fixed or moving (SET, RigL)."""

    level: Fraction = Field(
        0.0,
        description="Share of the weights fixed at zero in every attention and "
        "feed-forward matrix; 0 is dense.",
    )
    pattern: Pattern = Field(
        "unstructured",
        description="Single weights, two of every four inputs, or square blocks balanced per block row.",
    )
    rescale: bool = Field(True, description="Scale the surviving initial weights by 1/sqrt(1 - level).")
    dynamic: Literal["none", "set", "rigl"] = Field(
        "none",
        description="Let the smallest weights die now and then, and as many others come to life: random ones "
        "(set), or those with the largest gradient (rigl).",
    )
    update_every: Positive = Field(100, description="Dynamic: steps between updates.")
    drop_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.3, description="Dynamic: share of the living weights that die at the first update; falls to 0."
    )
    update_until: Rate = Field(0.75, description="Dynamic: share of the steps after which updates end.")

    @model_validator(mode="after")
    def _moving(self) -> SparsitySettings:
        if self.dynamic != "none" and self.level == 0:
            raise ValueError(
                f'dynamic = "{self.dynamic}" moves weights only where some are zero: '
                'set level above 0, or dynamic = "none"'
            )
        if self.pattern == "2:4" and self.level not in (0, 0.5):
            raise ValueError('pattern = "2:4" keeps half of the weights: set level = 0.5')
        if self.pattern == "2:4" and self.dynamic != "none":
            raise ValueError('moving weights break pattern = "2:4": set dynamic = "none", or use blocks')
        return self
