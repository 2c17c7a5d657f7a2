"""The tables [[variants]] and [[checkpoints]]: models that stand side by side."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from wellread.settings.base import Name, Settings


class VariantSettings(Settings):
    """A named change of the model or its pre-training, built side by side with the others."""

    name: Name = Field(description="Name in tables and plots.")
    model: dict[str, Any] = Field(default_factory=dict, description="Keys of [model] that differ.")
    pretrain: dict[str, Any] = Field(default_factory=dict, description="Keys of [pretrain] that differ.")
    finetune: dict[str, Any] = Field(default_factory=dict, description="Keys of [finetune] that differ.")


class CheckpointSettings(Settings):
    """A model made elsewhere, fine-tuned beside ours on every task."""

    name: Name = Field(description="Name in tables and plots.")
    start: str = Field(
        description="Folder of a checkpoint with its tokenizer, or a known model (`wellread data list`)."
    )
    finetune: dict[str, Any] = Field(
        default_factory=dict, description="Keys of [finetune] that differ, the learning rate for one."
    )
