"""A recipe: all settings of a run, read from one TOML file.

An unknown key is an error that names the nearest known one.  This module imports neither torch nor
transformers, so that a wrong recipe is refused at once.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from wellread.errors import RecipeError
from wellread.models import presets
from wellread.settings import (
    CheckpointSettings,
    CorpusSettings,
    EvaluateSettings,
    FinetuneSettings,
    ModelSettings,
    Name,
    Positive,
    PretrainSettings,
    Settings,
    TaskSettings,
    TokenizerSettings,
    VariantSettings,
    consistency,
)
from wellread.settings.explain import validate


class Recipe(Settings):
    """One run of Wellread, from raw text to a tested model."""

    name: Name = Field(description="Name of the run; its folder is runs/NAME.")
    description: str = Field("", description="A sentence for the report.")
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(0, description="Seed of everything but fine-tuning.")
    threads: Positive | None = Field(
        None,
        description="CPU threads, in pre-training for each process; default all cores, shared out over the "
        "processes. Results depend on it in the last bits.",
    )
    corpus: CorpusSettings = Field(description="Raw text.")
    texts: dict[Name, CorpusSettings] = Field(
        default_factory=dict,
        description="Other texts by name, which [pretrain.continual] refers to; keys as in [corpus].",
    )
    tokenizer: TokenizerSettings = Field(default_factory=TokenizerSettings, description="Tokenizer.")
    model: ModelSettings = Field(default_factory=ModelSettings, description="Architecture.")
    pretrain: PretrainSettings = Field(default_factory=PretrainSettings, description="Pre-training.")
    variants: tuple[VariantSettings, ...] = Field(
        (), description="Models built side by side; the first is the main one."
    )
    checkpoints: tuple[CheckpointSettings, ...] = Field(
        (), description="Models made elsewhere, fine-tuned beside ours with their own tokenizers."
    )
    tasks: dict[Name, TaskSettings] = Field(default_factory=dict, description="Labelled tasks by name.")
    finetune: FinetuneSettings = Field(default_factory=FinetuneSettings, description="Fine-tuning.")
    evaluate: EvaluateSettings = Field(default_factory=EvaluateSettings, description="Evaluation.")

    def variant_names(self) -> tuple[str, ...]:
        """Names of the models that the run builds, the main one first."""
        return tuple(variant.name for variant in self.variants) or ("main",)

    def checkpoint(self, name: str) -> CheckpointSettings | None:
        """The checkpoint of that name, or None."""
        return next((one for one in self.checkpoints if one.name == name), None)

    def _variant(self, name: str) -> VariantSettings:
        if not self.variants and name == "main":
            return VariantSettings(name="main")
        return next(variant for variant in self.variants if variant.name == name)

    def model_for(self, variant: str) -> ModelSettings:
        """[model] with the variant's changes."""
        # A variant's preset replaces the whole shape that [model] gives.
        change = presets.filled(self._variant(variant).model)
        return merge(self.model, change, f"variants.{variant}.model")

    def forebear(self, variant: str) -> str | None:
        """The variant from whose result a variant starts (``start = "variants.NAME"``), or None."""
        start = self.model_for(variant).start or ""
        return start.removeprefix("variants.") if start.startswith("variants.") else None

    def teacher_variant(self, variant: str) -> str | None:
        """The variant that teaches a variant (``teacher.path = "variants.NAME"``), or None."""
        teacher = self.pretrain_for(variant).teacher
        path = teacher.path if teacher else ""
        return path.removeprefix("variants.") if path.startswith("variants.") else None

    def forebears(self, variant: str) -> list[str]:
        """The variants that have to be trained before one, the nearest first.

        Raises:
            ValueError: one does not exist, or they start from each other.
        """
        found: list[str] = []
        waiting = [variant]
        while waiting:
            name = waiting.pop(0)
            named = (
                ("model.start", self.forebear(name)),
                ("pretrain.teacher.path", self.teacher_variant(name)),
            )
            for key, before in named:
                if before is None or before in found:
                    continue
                if before not in self.variant_names():
                    raise ValueError(f"{key}: there is no variant {before!r}")
                found.append(before)
                waiting.append(before)
        if variant in found:
            raise ValueError(f"model.start, pretrain.teacher.path: variant {variant!r} would need itself")
        return found

    def pretrain_for(self, variant: str) -> PretrainSettings:
        """[pretrain] with the variant's changes and the objective filled in."""
        settings = merge(self.pretrain, self._variant(variant).pretrain, f"variants.{variant}.pretrain")
        if settings.objective is None:
            objective = "clm" if self.model_for(variant).causal else "mlm"
            settings = settings.model_copy(update={"objective": objective})
        return settings

    def finetune_for(self, task: str, model: str) -> FinetuneSettings:
        """[finetune] with the variant's and then the task's changes.

        Of a checkpoint, the task's and then its own, so that a rate for our small models on a task is not
        given to a larger one.
        """
        checkpoint = self.checkpoint(model)
        if checkpoint is not None:
            settings = merge(self.finetune, self.tasks[task].finetune, f"tasks.{task}.finetune")
            return merge(settings, checkpoint.finetune, f"checkpoints.{model}.finetune")
        settings = merge(self.finetune, self._variant(model).finetune, f"variants.{model}.finetune")
        return merge(settings, self.tasks[task].finetune, f"tasks.{task}.finetune")

    @model_validator(mode="after")
    def _laid_out(self) -> Recipe:
        if self.corpus.keep_layout and self.tokenizer.path is None and self.tokenizer.kind == "wordpiece":
            raise ValueError(
                'corpus.keep_layout: WordPiece drops spaces and line ends: set tokenizer.kind = "bpe", or '
                "leave keep_layout out"
            )
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        names = [*self.variant_names(), *(one.name for one in self.checkpoints), "random"]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"variants, checkpoints: the name {sorted(twice)[0]!r} is given twice")
        for name in self.variant_names():
            model, pretrain = self.model_for(name), self.pretrain_for(name)
            consistency.check(name, model, pretrain, self.texts)
            self.forebears(name)
        for task in self.tasks:
            for name in (*self.variant_names(), *(one.name for one in self.checkpoints)):
                self.finetune_for(task, name)
        return self


def load(path: str | Path) -> Recipe:
    """Read a recipe.

    Raises:
        RecipeError: the file is missing, is not TOML (with line and column), or a key is unknown, missing or
            impossible (with its dotted name).
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise RecipeError(
            "no such recipe",
            where=str(path),
            fix="`wellread recipes` lists those that come along, `wellread new` writes one",
        ) from None
    except OSError as error:
        raise RecipeError(f"cannot be read ({error.strerror})", where=str(path)) from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise RecipeError("not UTF-8", where=f"{path}:{line}", fix="save the recipe as UTF-8") from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        where = f"{path}:{found.group(1)}" if found else f"{path}:{text.count(chr(10)) + 1}"
        raise RecipeError(f"not valid TOML: {error}", where=where, fix="see docs/recipe.md") from None
    return parse(values, where=str(path))


def parse(values: dict[str, Any], where: str = "recipe") -> Recipe:
    """Check a recipe given as nested dictionaries; errors as in :func:`load`."""
    return validate(Recipe, values, where)


def resolve(path: str, base: Path, key: str) -> Path:
    """A path of a recipe: variables and ~ filled in, relative ones starting at the recipe's folder.

    Args:
        path: as written, for instance "$WELLREAD_DATA/notes.jsonl".
        base: the recipe's folder.
        key: dotted recipe key, for the error.

    Raises:
        RecipeError: a variable is not set.
    """
    expanded = os.path.expandvars(path)
    missing = re.search(r"\$\{?(\w+)", expanded)
    if missing:
        raise RecipeError(
            f"the variable {missing.group(1)} is not set",
            where=key,
            fix=f"export {missing.group(1)}=/your/folder",
        )
    try:
        return base / Path(expanded).expanduser()
    except RuntimeError:
        raise RecipeError(
            f"there is no home folder for {path!r}", where=key, fix="give the whole path"
        ) from None


def merge(settings: Any, change: dict[str, Any], where: str) -> Any:
    """The settings with some keys changed, checked again; nested tables merge.

    Raises:
        RecipeError: a key is unknown or impossible, named below ``where``.
    """
    if not change:
        return settings
    return validate(type(settings), overlaid(settings.model_dump(exclude_unset=True), change), where)


def overlaid(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """One nested table over another: the values of ``change``, and ``base`` where it has none."""
    merged = dict(base)
    for key, value in change.items():
        both_tables = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = overlaid(merged[key], value) if both_tables else value
    return merged
