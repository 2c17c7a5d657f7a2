"""The table [pretrain]; its inner tables have files of their own."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from wellread.settings.base import Fraction, Positive, Rate, Settings, Weight, as_pairs
from wellread.settings.continual import ContinualSettings
from wellread.settings.masking import MaskingSettings
from wellread.settings.sparsity import SparsitySettings
from wellread.settings.teacher import TeacherSettings

Beside = Literal["contrastive", "categories", "replaced-tokens"]


class PretrainSettings(Settings):
    """Objective, optimiser and schedule of pre-training."""

    later: ClassVar[tuple[str, ...]] = (
        "schedule",
        "ema_decay",
        "embedding_learning_rate",
        "lengths",
        "batches",
        "submodels",
        "submodel_share",
        "teacher",
        "pairs",
        "besides",
        "categories",
        "continual",
        "seed",
    )

    objective: Literal["mlm", "clm"] | None = Field(
        None, description="Masked or causal language model; default by layout."
    )
    tokens: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="Training tokens in all; give this or `epochs`. 0 takes `model.start` as it is.",
    )
    epochs: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Passes over the corpus (default 1)."
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = Field(
        None,
        description="Seed of new weights, masks and order, by default the recipe's. With `model.start`, "
        "another than the checkpoint's: else it reads the same text under the same masks again.",
    )
    batch_tokens: Positive = Field(8192, description="Tokens per optimiser step, before the last short bin.")
    lengths: tuple[tuple[Positive, Rate], ...] = Field(
        (),
        description="Stages of sequence length, such as [[128, 0.5], [512, 0.5]]: the longest sequence, "
        "up to model.max_length, and the share of the tokens. A step has as many tokens in each.",
    )
    batches: tuple[tuple[Positive, Rate], ...] = Field(
        (),
        description="Stages of batch size, such as [[1024, 0.2], [4096, 0.8]]: tokens per step, up to "
        "`batch_tokens`, and the share of the tokens.",
    )
    submodels: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Two-stage training of a grown model: at first each step trains the top `submodels` "
        "layers of a sub-model of the lowest `submodels`, twice as many, ... layers; 0 for none.",
    )
    submodel_share: Rate = Field(0.2, description="Share of the steps that train sub-models.")
    accumulate: Positive = Field(1, description="Parts into which a step's batch is cut to save memory.")
    recompute: bool = Field(
        False, description="Keep only each layer's input and work the rest out again: less memory, slower."
    )
    masking: MaskingSettings = Field(default_factory=MaskingSettings, description="What is masked.")
    pairs: Literal["none", "sop", "nsp"] = Field(
        "none",
        description="Besides masking, as ablations: samples of two segments, and whether these are in their "
        "order (sop), or the second follows the first (nsp).",
    )
    besides: tuple[tuple[Beside, Weight], ...] = Field(
        (),
        description="What is learnt besides, as a table of weights such as {contrastive = 1.0}: contrastive "
        "(near spans get near embeddings), categories (of the documents), replaced-tokens (which tokens a "
        "small generator replaced; its usual weight is 50).",
    )
    categories: Literal["journal", "type", "year", "mesh"] | None = Field(
        None, description="With `besides.categories`: what the documents' categories are."
    )
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw", description="Fused AdamW, or Muon for hidden matrices with AdamW for the rest."
    )
    learning_rate: Rate = Field(2e-3, description="Peak rate of AdamW.")
    embedding_learning_rate: Rate | None = Field(
        None,
        description="Peak rate of AdamW for the embedding tables; default `learning_rate`. From random "
        "weights, four times that learns much faster (docs/methods/optimisers.md).",
    )
    muon_learning_rate: Rate = Field(0.02, description="Peak rate of Muon's matrices.")
    weight_decay: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None,
        description="Decoupled weight decay of the hidden matrices; default 0.01 with AdamW, 0.1 with Muon.",
    )
    betas: tuple[Fraction, Fraction] = Field((0.9, 0.98), description="AdamW's decay rates.")
    eps: Annotated[float, Field(gt=0)] = Field(1e-8, description="AdamW's epsilon.")
    clip: Annotated[float, Field(gt=0)] = Field(1.0, description="Largest gradient norm.")
    schedule: Literal["wsd", "wsd-sqrt", "cosine", "triangular"] = Field(
        "wsd",
        description="After the warm-up: a plateau and a linear decay (wsd), a plateau and a decay by "
        "1 - sqrt (wsd-sqrt), half a cosine down, or a line down from the peak (triangular).",
    )
    warmup: Fraction = Field(0.06, description="Share of the steps that warm up.")
    decay: Rate = Field(
        0.4,
        description="wsd, wsd-sqrt: share of the steps, at the end, that decay to zero; cosine and "
        "triangular fall from the warm-up on.",
    )
    ema_decay: Fraction = Field(
        0.0,
        description="Validate and keep an exponential moving average of the weights, in which a step's "
        "weight falls by this factor with each later one; 0 for none.",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="In which type matrices are multiplied; auto: bf16 on a GPU, and on a CPU made for it "
        "(AVX512-BF16, AMX), else fp32.",
    )
    checkpoint_seconds: Annotated[float, Field(gt=0)] = Field(
        60.0, description="Save a checkpoint this often."
    )
    validate_every: Positive | None = Field(
        None, description="Steps between validations; default 10 in a run."
    )
    sparsity: SparsitySettings = Field(default_factory=SparsitySettings, description="Sparse pre-training.")
    teacher: TeacherSettings | None = Field(None, description="Distillation of a language model; SALT.")
    continual: ContinualSettings | None = Field(
        None, description="Going on from a checkpoint: subset, replay, a bound on forgetting."
    )

    _pairs = field_validator("besides", mode="before")(as_pairs)

    @model_validator(mode="after")
    def _categorised(self) -> PretrainSettings:
        if bool(dict(self.besides).get("categories")) != (self.categories is not None):
            raise ValueError(
                "`besides.categories` and `categories` go together: give the first a weight and the second a "
                "property of documents, or leave both out"
            )
        return self

    @model_validator(mode="after")
    def _whole(self) -> PretrainSettings:
        others = {name for name, weight in self.besides if weight} & {"categories", "replaced-tokens"}
        if self.masking.explicit and (others or self.pairs != "none"):
            raise ValueError(
                "`masking.explicit` shortens the text, and cannot stand beside "
                f"{', '.join(sorted(others)) or '`pairs`'}: choose one"
            )
        whole = {name for name, weight in self.besides if weight} & {"categories", "contrastive"}
        if self.pairs == "nsp" and whole:
            raise ValueError(
                '`pairs = "nsp"` puts texts of two documents into a sample, and '
                f"{', '.join(sorted(whole))} takes a sample for one: choose one"
            )
        return self

    @model_validator(mode="after")
    def _length(self) -> PretrainSettings:
        if self.tokens is not None and self.epochs is not None:
            raise ValueError("give `tokens` or `epochs`, not both")
        if self.tokens == 0 and self.sparsity.level:
            raise ValueError(
                "tokens = 0 trains nothing, so there is nothing to be sparse: leave sparsity out"
            )
        return self

    @model_validator(mode="after")
    def _stages(self) -> PretrainSettings:
        for key, stages in (("lengths", self.lengths), ("batches", self.batches)):
            values = [value for value, _ in stages]
            if values != sorted(set(values)):
                raise ValueError(f"{key} must grow from stage to stage, not {values}")
            total = sum(share for _, share in stages)
            if stages and abs(total - 1) > 1e-6:
                raise ValueError(f"the shares in {key} must sum to 1, not {total:g}")
        if self.batches and self.batches[-1][0] != self.batch_tokens:
            raise ValueError(f"the last of batches must be batch_tokens ({self.batch_tokens})")
        if self.continual and (self.lengths or self.batches):
            raise ValueError("continual does not go with stages of lengths or batches: choose one")
        if self.continual and self.continual.replay and self.categories:
            raise ValueError("categories are the corpus' own: continual.replay has none, choose one")
        if self.tokens == 0 and (self.continual or (self.teacher and self.teacher.keep < 1)):
            raise ValueError("tokens = 0 reads no text: leave continual and teacher.keep out")
        if self.teacher and self.teacher.keep < 1 and (self.continual or self.lengths or self.batches):
            raise ValueError(
                "teacher.keep chooses the text, and so do continual, lengths and batches: choose one of them"
            )
        if self.submodels and self.sparsity.dynamic != "none":
            raise ValueError("submodels leave layers out, dynamic sparsity wants them all: choose one")
        return self

    def no_part(self) -> dict[str, Any]:
        """What changes no bit of a finished run, to be excluded from a dump that tells it by."""
        found: dict[str, Any] = {"checkpoint_seconds": True, "recompute": True} | self.idle()
        return found if "continual" in found else found | {"continual": {"max_rise"}}

    @property
    def mask_rate(self) -> float:
        """Share of the tokens that are masked, on average over the training."""
        masking = self.masking
        return (masking.rate + (masking.rate if masking.rate_end is None else masking.rate_end)) / 2
