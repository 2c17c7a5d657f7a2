"""The table [evaluate]."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from wellread.settings.base import Settings


class EvaluateSettings(Settings):
    """Rivals and intervals."""

    rivals: tuple[Literal["majority", "tfidf", "static", "minilm-frozen", "minilm-setfit", "cct"], ...] = (
        Field(
            ("majority", "tfidf"),
            description="Cheap rivals on the same splits (docs/methods/rivals.md); those with minilm need "
            "`wellread data get minilm`.",
        )
    )
    bootstrap: Annotated[int, Field(ge=0)] = Field(
        1000, description="Resamples behind each 95% interval; 0 for none."
    )
