"""The settings of distillation."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from wellread.settings import Positive, Settings


class DistilSettings(Settings):
    """How a student learns from a teacher.  The defaults are Pre-trained Distillation's."""

    temperature: Annotated[float, Field(gt=0)] = Field(
        1.0, description="Both distributions are softened by it; 1 in Pre-trained Distillation."
    )
    alpha: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0,
        description="Weight of the teacher's soft labels; the rest goes to the labels where there are any.",
    )
    transfer: Positive = Field(20_000, description="Unlabelled texts that the teacher labels, at most.")
    own: bool = Field(True, description="The task's own training texts are part of the transfer set.")
    fine_tune: bool = Field(
        True, description="Fine-tune on the labels afterwards, and keep that where dev is no worse."
    )
