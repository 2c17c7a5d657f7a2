"""The table [finetune.light]."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from wellread.settings.base import Positive, Settings


class LightSettings(Settings):
    """Light-weight fine-tuning: a few parameters are trained beside the head, the rest stays."""

    method: Literal[
        "full",
        "lora",
        "houlsby",
        "lightweight",
        "tiny-attention",
        "residual",
        "prompt",
        "prefix",
        "bitfit",
    ] = Field("full", description="What is trained beside the head; `full` trains every weight.")
    rank: Positive = Field(8, description="LoRA: rank of the change of a matrix.")
    alpha: Annotated[float, Field(gt=0)] = Field(
        16.0, description="LoRA: the change is multiplied by alpha / rank."
    )
    targets: tuple[Literal["query", "key", "value", "output", "ffn"], ...] = Field(
        ("query", "value"), min_length=1, description="LoRA: the matrices that change."
    )
    bottleneck: Positive = Field(
        32, description="Inner width of the adapters (houlsby, lightweight, residual)."
    )
    heads: Positive = Field(4, description="TinyAttention: heads, each of one dimension.")
    blocks: Positive = Field(1, description="Gated residual networks on top of the last layer.")
    vectors: Positive = Field(10, description="prompt, prefix: learnt vectors; inputs are so much shorter.")
    place: Literal["before", "after"] = Field(
        "before", description="prompt: before the text, or between the text and the answer."
    )
    frozen: bool = Field(
        True,
        description="Keep the model's own weights as they are; false (prompt, prefix): train them, too.",
    )

    @model_validator(mode="after")
    def _only_what_stands_in_the_text(self) -> LightSettings:
        if not self.frozen and self.method not in ("prompt", "prefix"):
            raise ValueError(
                f'light.frozen = false goes with method "prompt" or "prefix", not {self.method!r}: '
                'to train every weight take method "full"'
            )
        return self

    @property
    def keeps_weights(self) -> bool:
        """Whether the model's own weights stay as they are."""
        return self.method != "full" and self.frozen
