"""The tables [tasks.NAME]."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from wellread.settings.base import Positive, Settings, distinct

Budget = Annotated[int, Field(ge=0)] | Literal["all"]


class TaskSettings(Settings):
    """One labelled task."""

    derive: Literal["sentence-role", "human-animal", "disease-category", "review"] | None = Field(
        None, description="Build the task from the corpus's own structure."
    )
    known: str | None = Field(None, description="A benchmark task whose original files lie under `path`.")
    path: str | None = Field(
        None,
        description="Folder of train, dev and test files, or one labelled file; see `wellread data check`.",
    )
    fold: Annotated[int, Field(ge=0)] = Field(
        0, description="Known tasks with folds (pubmedqa): the one that is dev."
    )
    max_train: Positive | None = Field(None, description="Derived tasks: at most so many training examples.")
    max_eval: Positive | None = Field(
        None, description="Derived tasks: at most so many dev and test examples each."
    )
    budgets: tuple[Budget, ...] = Field(
        ("all",),
        min_length=1,
        description='Numbers of training examples to try; 0 asks the model untrained (heads "mlm" and "lm").',
    )
    metric: str | None = Field(None, description="Score to report first; default by kind of task.")
    finetune: dict[str, Any] = Field(
        default_factory=dict, description="Settings of [finetune] that differ here."
    )

    _distinct = field_validator("budgets")(distinct)

    @model_validator(mode="after")
    def _source(self) -> TaskSettings:
        if (self.derive is None) == (self.path is None):
            raise ValueError("give either `derive` or `path` (with `known` for a benchmark's original files)")
        for key, goes in {
            "max_train": "derive",
            "max_eval": "derive",
            "known": "path",
            "fold": "known",
        }.items():
            if key in self.model_fields_set and getattr(self, goes) is None:
                raise ValueError(f"`{key}` goes with `{goes}`")
        return self
