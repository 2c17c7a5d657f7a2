"""The table [finetune.answer]."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from wellread.settings.base import Fraction, Rate, Settings, as_pairs


class AnswerSettings(Settings):
    """Answering in words (`finetune.head` "mlm" and "lm"): the question and the words."""

    template: str | None = Field(
        None,
        description="What the model reads: {text}, {text_pair} and {options} are filled in, {answer} is "
        "where it answers. Lines of which nothing is filled in are left out; only the texts are cut when it "
        'is too long. Default "{text}\\n{text_pair}\\n{options}\\nAnswer: {answer}".',
    )
    words: tuple[tuple[str, str], ...] = Field(
        (),
        description='What is answered for each label, as a table such as {SUPPORT = "yes", REFUTE = "no"}; '
        'default the labels themselves, and for "mlm" the letters A, B, ... beside a list of the labels '
        "where one of them is more than a token.",
    )
    mlm_share: Fraction = Field(
        0.2, description='"mlm": share of the training examples that are plain masked language modelling.'
    )
    mlm_rate: Rate = Field(0.3, description='"mlm": share of their tokens that are masked.')
    normalise: Literal["none", "tokens"] = Field(
        "none",
        description='"lm": compare the log-likelihoods of the answers as they are, or divided by their '
        "numbers of tokens.",
    )

    _pairs = field_validator("words", mode="before")(as_pairs)
