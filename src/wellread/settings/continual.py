"""The table [pretrain.continual]."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from wellread.settings.base import Fraction, Rate, Settings


class ContinualSettings(Settings):
    """Going on from a checkpoint on a field's text without the stability gap."""

    subset: Rate = Field(
        1.0,
        description="Share of the training tokens that is kept, in whole documents; `epochs` counts passes "
        "over these.",
    )
    reference: str | None = Field(
        None,
        description="Name of a trusted text in [texts]: the subset is then what a trigram model of it finds "
        "likeliest; default drawn at random.",
    )
    general: str | None = Field(
        None,
        description="Name of a text in [texts] like that of the first pre-training: its held-out part is "
        "validated on beside the field's.",
    )
    replay: Fraction = Field(0.0, description="Share of the tokens read that come from `general`.")
    max_rise: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Stop where the loss on `general` has risen by more nats than this above the start "
        "checkpoint's; the last checkpoint within the bound is kept.",
    )

    @model_validator(mode="after")
    def _texts(self) -> ContinualSettings:
        if self.reference is not None and self.subset == 1:
            raise ValueError("`reference` ranks documents for a subset: set subset below 1, or leave it out")
        if self.general is None and (self.replay or self.max_rise):
            key = "replay" if self.replay else "max_rise"
            raise ValueError(f"{key} needs `general`, the name of a text in [texts]")
        return self
