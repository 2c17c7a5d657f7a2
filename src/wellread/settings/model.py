"""The table [model]."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from wellread.models import presets
from wellread.settings.base import Fraction, Positive, Settings


class ModelSettings(Settings):
    """The architecture: a stock `transformers` layout."""

    # What it fills in tells the model; the name is no part of that.
    preset: str | None = Field(
        None,
        exclude=True,
        description="A published shape by name (docs/methods/miniatures.md), such as bert-4-256 or "
        "bert-tiny: fills in `layout`, `layers`, `hidden`, `heads` and `ffn`; keys that are given win.",
    )
    layout: Literal["modernbert", "bert", "llama", "gpt2"] = Field("modernbert", description="Stock layout.")
    layers: Positive = Field(4, description="Transformer layers.")
    hidden: Positive = Field(256, description="Width of the residual stream.")
    heads: Positive = Field(4, description="Attention heads; must divide `hidden`.")
    ffn: Positive | None = Field(
        None,
        description="Inner width of the feed-forward block; default 4 x hidden, for gated layouts "
        "(modernbert, llama) 8/3 x hidden rounded up to a multiple of 32.",
    )
    max_length: int = Field(512, ge=8, description="Longest sequence in tokens, special tokens included.")
    local_attention: Positive = Field(128, description="ModernBERT: window of the local layers, in tokens.")
    global_every: Positive = Field(3, description="ModernBERT: every n-th layer attends globally.")
    dropout: Fraction = Field(0.0, description="Dropout during pre-training.")
    init_std: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="Standard deviation of the initial weights; default 0.02 x sqrt(768 / hidden)."
    )
    start: str | None = Field(
        None,
        description="A checkpoint to start from, instead of random weights: its folder, or a known model "
        "(`wellread data list`). A head that it lacks is new.",
    )
    start_vocabulary: Literal["same", "mean"] = Field(
        "same",
        description="With `start`: refuse a tokenizer that is not the checkpoint's, or give each of its new "
        "pieces the mean of the rows of the old pieces that it was cut into.",
    )
    grow: Literal["none", "function-preserving", "advanced", "zero-pad", "stack"] = Field(
        "none",
        description="With `start`: grow the checkpoint to the shape given here. Its width by copies that "
        "compute the same, by copies of the layer above, or by zeros at any ratio (llama, gpt2); or its "
        "layers only.",
    )
    grow_depth: Literal["stack", "interleave", "identity"] = Field(
        "stack",
        description="With `grow`: where layers are added, the stack once more on top, copies beside their "
        "layers, or on top with zero outputs, so that they change nothing at first (not bert).",
    )

    @model_validator(mode="after")
    def _growth(self) -> ModelSettings:
        if self.grow != "none" and self.start is None:
            raise ValueError(f'grow = "{self.grow}" needs `start`, the checkpoint that grows')
        if self.grow == "none" and self.grow_depth != "stack":
            raise ValueError(f'grow_depth = "{self.grow_depth}" needs `grow`')
        return self

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, value: Any) -> Any:
        return presets.filled(value)

    @field_validator("preset")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        return presets.check(value) if value is not None else None

    @model_validator(mode="after")
    def _shape(self) -> ModelSettings:
        if self.hidden % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide hidden ({self.hidden})")
        if self.layout in ("modernbert", "llama") and (self.hidden // self.heads) % 2:
            raise ValueError("hidden / heads must be even (rotary positions)")
        return self

    @property
    def inner(self) -> int:
        """Inner width of the feed-forward block, default filled in."""
        if self.ffn is not None:
            return self.ffn
        if self.layout in ("modernbert", "llama"):
            return -(-self.hidden * 8 // 3 // 32) * 32
        return 4 * self.hidden

    @property
    def std(self) -> float:
        """Standard deviation of the initial weights, default filled in."""
        return self.init_std if self.init_std is not None else 0.02 * (768 / self.hidden) ** 0.5

    @property
    def causal(self) -> bool:
        """Whether the layout is a decoder."""
        return self.layout in ("llama", "gpt2")
