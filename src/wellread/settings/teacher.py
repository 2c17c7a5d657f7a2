"""The table [pretrain.teacher]."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from wellread.settings.base import Positive, Rate, Settings


class TeacherSettings(Settings):
    """A language model whose predictions are learnt beside the words, throughout or at first only (SALT)."""

    path: str = Field(
        description="Folder of the teacher, a model of the same kind (masked or causal) with this run's "
        'tokenizer, a known model, or another variant of the recipe ("variants.NAME").'
    )
    weight: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5,
        description="Share of the teacher's distributions in the loss; the words themselves get the rest.",
    )
    top: Positive = Field(16, description="The teacher's likeliest tokens at each position that are learnt.")
    temperature: Annotated[float, Field(gt=0)] = Field(1.0, description="Softens both distributions.")
    soften: Literal["both", "teacher"] = Field(
        "both", description="Whose distributions the temperature softens (SALT: below 1, the teacher's)."
    )
    share: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="Share of the steps, from the first on, that have the teacher; the rest is plain."
    )
    ramp: bool = Field(False, description="Let the weight fall to zero over that share.")
    keep: Rate = Field(
        1.0,
        description="Steps with the teacher read only this share of the text: what the teacher scores as "
        "hard but learnable.",
    )
    keep_top: Positive = Field(
        10, description="`keep`: a token is learnable if it is among so many of the teacher's likeliest."
    )
