"""What the stages of a run share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wellread.recipe import Recipe
from wellread.stages import stage_folder

# Code that reads a task, draws its label budgets and scores it.
READING = (
    "tasks/read",
    "tasks/cut",
    "tasks/near",
    "tasks/rows",
    "tasks/examples",
    "tasks/subset",
    "tasks/task",
    "corpus/shingles",
    "evaluate/metrics",
    "tabbed",
    "rng",
)
# Code that reads a run's documents.
DOCUMENTS = ("corpus/documents", "corpus/open")
# Code that makes a task, from documents or from labelled files.
TASKS = ("tasks", *DOCUMENTS, "corpus/readers/roles", "corpus/shingles", "evaluate/metrics", "rng", "tabbed")
# Code that encodes texts with a model and computes with it, down to the kernels.
ENCODING = ("models", "precision", "schedules", "sparsity/kernels", "tokens/batch", "tokens/tokenizer")
# Code of fine-tuning; tests/test_stage_code.py holds each stage's list against what it imports.
FINETUNING = ("finetune", "objectives/masking", "tasks/decoding", *ENCODING, *READING)
StartName = Literal["pretrained", "random"]
RANDOM: StartName = "random"  # the model name of fine-tuning without pre-training


@dataclass(frozen=True)
class Context:
    """What all stages of a run share: recipe, folders and switches."""

    recipe: Recipe
    base: Path  # relative paths of the recipe start here
    run: Path
    allow_overlap: bool = False
    quiet: bool = False
    processes: int = 1  # that share each pre-training; no part of what a stage is

    def folder(self, name: str) -> Path:
        """Where the stage of this name leaves its result."""
        return stage_folder(self.run, name)


def checkpoint_files(folder: Path) -> tuple[Path, ...]:
    """What a checkpoint made elsewhere is told by."""
    return tuple(sorted(path for path in folder.glob("*") if path.suffix in (".safetensors", ".json")))
