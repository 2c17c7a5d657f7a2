"""The stages of fine-tuning, one for each task and model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wellread import known_models as known
from wellread.pipeline.context import FINETUNING, RANDOM, Context, StartName, checkpoint_files
from wellread.pipeline.origin import settled
from wellread.settings import ModelSettings
from wellread.stages import Stage
from wellread.workers import cores


def finetune_stages(context: Context) -> Iterator[Stage]:
    """On every task: every variant, once no pre-training, and every checkpoint made elsewhere."""
    recipe = context.recipe
    main = recipe.variant_names()[0]
    for task in recipe.tasks:
        for variant in recipe.variant_names():
            if "pretrained" in recipe.finetune_for(task, variant).starts:
                model = context.folder(f"pretrain/{variant}") / "model"
                inputs = ("tokenizer", f"pretrain/{variant}")
                yield _finetune(context, task, Begin(variant, variant, model, inputs))
        if RANDOM in recipe.finetune_for(task, main).starts:
            random = settled(recipe, main, context.base)
            yield _finetune(context, task, Begin(RANDOM, main, random, ("tokenizer",)))
        for one in recipe.checkpoints:
            folder = known.folder_of(one.start, context.base, f"checkpoints.{one.name}.start")
            yield _finetune(context, task, Begin(one.name, one.name, folder))


@dataclass(frozen=True)
class Begin:
    """Where fine-tuning begins.

    Attributes:
        name: of the model in folders and tables.
        settings: whose changes of [finetune] count.
        model: a checkpoint's folder, or the architecture for random weights.
        inputs: stages that it comes from; without any, the checkpoint brings its own tokenizer.
    """

    name: str
    settings: str
    model: Path | ModelSettings
    inputs: tuple[str, ...] = ()

    @property
    def start(self) -> StartName:
        """As in results."""
        return RANDOM if isinstance(self.model, ModelSettings) else "pretrained"


def _finetune(context: Context, task: str, begin: Begin) -> Stage:
    recipe, model = context.recipe, begin.model
    settings = recipe.finetune_for(task, begin.settings)

    def build(folder: Path) -> None:
        from wellread.finetune import grid

        job = grid.Job(
            task=context.folder(f"tasks/{task}"),
            start=model,
            tokenizer=context.folder("tokenizer") if begin.inputs or not isinstance(model, Path) else model,
            settings=settings,
            budgets=recipe.tasks[task].budgets,
            folder=folder,
            task_name=task,
            model_name=begin.name,
            start_name=begin.start,
        )
        grid.run(job, threads=recipe.threads or cores(), quiet=context.quiet)

    used: dict[str, Any] = {
        "finetune": settings.facts("starts"),
        "budgets": list(recipe.tasks[task].budgets),
        "start": begin.start,
    }
    if isinstance(model, ModelSettings):
        used["model"] = model.model_dump(mode="json")
    return Stage(
        name=f"finetune/{task}/{begin.name}",
        build=build,
        settings=used,
        inputs=(f"tasks/{task}", *begin.inputs),
        files=checkpoint_files(model) if isinstance(model, Path) and not begin.inputs else (),
        code=FINETUNING,
    )
