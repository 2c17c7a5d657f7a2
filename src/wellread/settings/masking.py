"""The table [pretrain.masking]."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from wellread.settings.base import Positive, Rate, Settings, Weight, as_pairs

Unit = Literal["token", "word", "span", "pmi", "ngram", "lexicon", "tf-idf"]
MESH = "mesh"  # as a lexicon: the names of diseases that come with the derived task of that kind


class MaskingSettings(Settings):
    """What a masked language model has to predict."""

    rate: Rate = Field(0.3, description="Share of the tokens that are masked.")
    rate_end: Rate | None = Field(
        None, description="The share at the end, reached linearly; default the same throughout."
    )
    units: tuple[tuple[Unit, Weight], ...] = Field(
        (("token", 1.0),),
        description="What is masked together, as a table of weights such as {token = 0.5, span = 0.5}: "
        "token, word, span (of words), pmi (phrases learnt from the corpus), ngram (by t-statistic), "
        "lexicon, tf-idf (the words that tell a text from others). A weight is a share of the masked tokens.",
    )
    lexicon: str | None = Field(
        None,
        description='Unit lexicon: a text file with one term a line, or "mesh" for the names of diseases in '
        "MeSH.",
    )
    pmi_coverage: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5, description="Unit pmi: as many phrases are listed as cover this share of the words."
    )
    ngrams: Positive = Field(30_000, description="Unit ngram: most n-grams of two and three words listed.")
    explicit: bool = Field(
        False,
        description="Unit ngram, alone: each n-gram is hidden behind one [MASK] and predicted whole as "
        "well as by its tokens (ERNIE-Gram).",
    )
    tf_idf_top: Rate = Field(
        0.25, description="tf-idf: the share of a sequence's words, those of the highest scores, that counts."
    )
    replace: Literal["mask", "bert", "tf-idf"] = Field(
        "mask",
        description="What is read there: [MASK] throughout; or 80% [MASK], 10% the token itself and 10% "
        "random tokens (bert) or tokens with a high TF-IDF (tf-idf).",
    )

    _pairs = field_validator("units", mode="before")(as_pairs)

    @model_validator(mode="after")
    def _weighted(self) -> MaskingSettings:
        weights = dict(self.units)
        if not sum(weights.values()):
            raise ValueError("the weights of `units` sum to 0: give at least one of them a weight above 0")
        if bool(weights.get("lexicon")) != (self.lexicon is not None):
            raise ValueError(
                "`units.lexicon` and `lexicon` go together: give the unit a weight and the list a file, or "
                "leave both out"
            )
        if self.explicit and (
            {name for name, weight in self.units if weight} != {"ngram"} or self.replace != "mask"
        ):
            raise ValueError('`explicit` needs `units = {ngram = 1.0}` alone, and `replace = "mask"`')
        return self

    @property
    def lists(self) -> set[str]:
        """What has to be learnt or read before masking."""
        weighted = {name for name, weight in self.units if weight}
        return weighted & {"pmi", "ngram", "lexicon", "tf-idf"} | ({self.replace} & {"tf-idf"})
