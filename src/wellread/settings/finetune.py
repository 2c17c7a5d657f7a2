"""The table [finetune]; its inner tables have files of their own."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from wellread.settings.answer import AnswerSettings
from wellread.settings.base import Fraction, Positive, Rate, Settings, distinct
from wellread.settings.light import LightSettings


class FinetuneSettings(Settings):
    """Fine-tuning on labelled tasks."""

    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (0, 1, 2), min_length=1, description="Runs per setting."
    )
    _distinct = field_validator("seeds")(distinct)
    starts: tuple[Literal["pretrained", "random"], ...] = Field(
        ("pretrained", "random"),
        min_length=1,
        description="From the pre-trained model, and from no pre-training.",
    )
    recipe: Literal["stable", "standard"] | None = Field(
        None,
        description="Settings picked by task and model size (docs/methods/stable-recipe.md); keys given here "
        "win. `standard` is the original BERT recipe, a baseline.",
    )
    epochs: Positive = Field(10, description="Passes over the training examples, at most.")
    max_steps: Positive | None = Field(None, description="Optimiser steps at most.")
    min_steps: Annotated[int, Field(ge=0)] = Field(
        100, description="Small budgets run more epochs to reach this."
    )
    batch: Positive = Field(32, description="Examples per step.")
    learning_rate: Rate = Field(3e-4, description="Peak rate of AdamW.")
    random_learning_rate: Rate | None = Field(
        None, description="Peak rate when starting without pre-training; default the same."
    )
    weight_decay: Annotated[float, Field(ge=0, le=1)] = Field(0.01, description="Decoupled weight decay.")
    eps: Annotated[float, Field(gt=0)] = Field(1e-6, description="AdamW's epsilon.")
    clip: Annotated[float, Field(gt=0)] = Field(1.0, description="Largest gradient norm.")
    warmup: Fraction = Field(0.1, description="Share of the steps that warm up; then linear decay to zero.")
    dropout: Fraction = Field(0.1, description="Dropout in the model and before the head.")
    patience: Positive = Field(3, description="Stop after so many evaluations on dev without a better score.")
    evaluations: Positive = Field(10, description="Evaluations on dev in a full run.")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="In which type training steps multiply matrices; auto: bf16 on a CPU made for it "
        "(AVX512-BF16, AMX), else fp32. A GPU takes bf16 always. Scores are taken in fp32 on a CPU.",
    )
    max_length: Positive | None = Field(None, description="Longest input in tokens; default the model's.")
    class_weights: bool = Field(False, description="Weigh classes inversely to their frequency.")
    base_rates: bool = Field(
        False, description="Begin with the labels' frequencies in the bias of a fresh classifier."
    )
    bias_correction: bool = Field(
        True, description="AdamW's bias correction; without it as in the original BERT code."
    )
    freeze_layers: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="Freeze the embeddings and so many of the lowest layers (0: the embeddings only); "
        "pre-trained starts only.",
    )
    layer_decay: Rate = Field(
        1.0, description="Learning rate of a layer over that of the layer above it; pre-trained starts only."
    )
    reinit_layers: Annotated[int, Field(ge=0)] = Field(
        0, description="Re-initialise so many of the top layers; pre-trained starts only."
    )
    average: Literal["none", "ema", "swa"] = Field(
        "none", description="Evaluate and keep an average of the weights over steps."
    )
    ema_decay: Fraction = Field(0.98, description="Factor by which a step's weight in the EMA falls.")
    swa_last: Rate = Field(0.25, description="Share of the steps, at the end, that SWA averages.")
    rdrop: Annotated[float, Field(ge=0)] = Field(
        0.0, description="R-Drop: weight of the divergence of two dropout passes; doubles the time."
    )
    light: LightSettings = Field(
        default_factory=LightSettings, description="Light-weight methods, for pre-trained starts."
    )
    head: Literal["classifier", "mlm", "lm", "similarity", "comparison"] = Field(
        "classifier",
        description="A fresh classification head; (one label of several) the head of pre-training that "
        "answers in words, under a mask (mlm, encoders) or as a continuation (lm, decoders); or (scored "
        "pairs) how well the tokens of two texts match (similarity, encoders), or (labelled pairs) a network "
        "over what each token meets in the other text (comparison, encoders).",
    )
    answer: AnswerSettings = Field(default_factory=AnswerSettings, description="Answering in words.")

    def facts(self, *without: str) -> dict[str, Any]:
        """All keys but ``without``, and where a recipe picks the rest, which of them are stated."""
        facts = self.model_dump(mode="json", exclude=set(without))
        return facts | ({"stated": sorted(self.model_fields_set - {*without})} if self.recipe else {})
