"""The tables [corpus] and [texts.NAME]."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from wellread.corpus.languages import language_code
from wellread.settings.base import Fraction, Positive, Settings


class CorpusSettings(Settings):
    """Which raw text is read, and how it is cleaned."""

    sources: tuple[str, ...] = Field(
        min_length=1,
        description="Known corpora (`wellread data list`), files, folders or glob patterns; relative paths "
        "start at the recipe.",
    )
    languages: tuple[str, ...] = Field(
        ("eng",), description="Keep documents stated to be in these languages (ISO 639-2); empty keeps all."
    )

    @field_validator("languages")
    @classmethod
    def _codes(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        codes = tuple(map(language_code, languages))
        for given, code in zip(languages, codes, strict=True):
            if len(code) != 3:
                raise ValueError(f'{given!r} is no language code; write for instance "eng"')
        return codes

    min_words: int = Field(20, ge=0, description="Drop documents with fewer words.")
    max_documents: Positive | None = Field(None, description="Stop reading after so many kept documents.")
    near_duplicates: Fraction = Field(
        0.8,
        description="Drop documents whose estimated Jaccard similarity (word 5-grams) to an earlier one "
        "reaches this; 0 keeps them. Exact duplicates always go.",
    )
    validation: Fraction = Field(
        0.01, description="Share of the pre-training documents held out, by id, for the validation loss."
    )
    on_overlap: Literal["refuse", "exclude"] = Field(
        "refuse",
        description="When a document's id or text stands in the dev or test set of a task: stop, or leave it "
        "out. Documents behind derived tasks are always left out.",
    )
    keep_layout: bool = Field(
        False,
        description="Text with code: keep line ends, indentation and blank lines (byte-level BPE only).",
    )
    text_field: str | Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        "text",
        description="Column or key of the text in JSONL, CSV, TSV and Parquet; of several, for files that "
        "differ, the first that a document has. As long as text is among them, sections and abstract "
        "stand in.",
    )
    id_field: str = Field(
        "id", description="Column or key of the document id; made from file and row if absent."
    )
