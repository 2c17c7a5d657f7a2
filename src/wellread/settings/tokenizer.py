"""The table [tokenizer]."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from wellread.settings.base import Positive, Settings


class TokenizerSettings(Settings):
    """The tokenizer, trained on the pre-training documents."""

    kind: Literal["wordpiece", "bpe"] = Field("wordpiece", description="WordPiece or byte-level BPE.")
    vocab_size: int = Field(8192, ge=300, le=1_000_000, description="Entries, special tokens included.")
    lowercase: bool = Field(True, description="Lower-case the text (WordPiece only).")
    min_frequency: Positive = Field(2, description="Pieces seen less often are not learnt.")
    path: str | None = Field(
        None,
        description="Use this tokenizer folder, or a known model's (`wellread data list`), instead of "
        "training one.",
    )
    add_words: Annotated[int, Field(ge=0)] = Field(
        0,
        description="With `path`: so many words of the corpus become pieces, those that save most; text "
        "without them is cut as before (WordPiece only).",
    )

    @model_validator(mode="after")
    def _added(self) -> TokenizerSettings:
        if self.add_words and self.path is None:
            raise ValueError("add_words needs `path`, the tokenizer that is extended")
        return self
