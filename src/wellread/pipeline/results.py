"""The stages that compare and tell: word vectors and rivals, evaluation, report."""

from __future__ import annotations

from pathlib import Path

from wellread import known_models as known
from wellread.evaluate.rivals import ON_ENCODER, ON_VECTORS
from wellread.pipeline.context import DOCUMENTS, ENCODING, FINETUNING, READING, Context, checkpoint_files
from wellread.pipeline.text import selected_texts
from wellread.stages import Stage


def vectors_stage(context: Context) -> Stage:
    """Word vectors of the corpus, for rivals that stand on them."""

    def build(folder: Path) -> None:
        from wellread.evaluate.rivals import vectors

        total = sum(1 for _ in (context.folder("selection") / "train_ids.txt").open())
        vectors.train(
            lambda: (text for _, text in selected_texts(context, "train")),
            folder,
            total=total,
            quiet=context.quiet,
        )

    return Stage(
        name="vectors",
        build=build,
        settings={},
        inputs=("corpus", "selection"),
        code=("evaluate/rivals/vectors", *DOCUMENTS),
    )


def rivals_stage(context: Context, task: str) -> Stage:
    """Cheap methods on a task's splits and budgets."""
    recipe = context.recipe
    names = recipe.evaluate.rivals
    static, encoder = set(names) & set(ON_VECTORS), None
    if set(names) & set(ON_ENCODER):
        encoder = known.folder_of(known.MINILM, context.base, "evaluate.rivals")

    def build(folder: Path) -> None:
        from wellread.evaluate.rivals.run import Means, run_rivals
        from wellread.tasks.read import read_task

        run_rivals(
            read_task(context.folder(f"tasks/{task}"), task),
            names,
            recipe.tasks[task].budgets,
            recipe.finetune.seeds,
            folder,
            Means(context.folder("vectors") if static else None, encoder),
            quiet=context.quiet,
        )

    return Stage(
        name=f"rivals/{task}",
        build=build,
        settings={
            "rivals": list(names),
            "budgets": list(recipe.tasks[task].budgets),
            "seeds": list(recipe.finetune.seeds),
        },
        inputs=(f"tasks/{task}", *(("vectors",) if static else ())),
        files=checkpoint_files(encoder) if encoder else (),
        code=(
            *("evaluate/rivals", *READING),
            *(("finetune/batches", "finetune/encode", *ENCODING) if encoder else ()),
            *(FINETUNING if "cct" in names else ()),
        ),
    )


def evaluate_stage(context: Context, units: list[str]) -> Stage:
    """Scores, means and intervals of all units."""
    recipe = context.recipe

    def build(folder: Path) -> None:
        from wellread.evaluate.summary import summarise

        models = {}
        for variant in recipe.variant_names():
            sparsity = recipe.pretrain_for(variant).sparsity
            models[variant] = {
                "sparsity": sparsity.level,
                "pattern": sparsity.pattern if sparsity.level else "dense",
            }
        summarise(
            {task: context.folder(f"tasks/{task}") for task in recipe.tasks},
            [unit for name in units for unit in sorted((context.folder(name) / "units").iterdir())],
            models,
            recipe.evaluate.bootstrap,
            folder,
            recipe.seed,
        )

    return Stage(
        name="evaluate",
        build=build,
        settings={"bootstrap": recipe.evaluate.bootstrap, "seed": recipe.seed},
        inputs=(*(f"tasks/{task}" for task in recipe.tasks), *units),
        code=("evaluate", *READING),
    )


def report_stage(context: Context, before: list[str]) -> Stage:
    """The page and the model card."""

    def build(folder: Path) -> None:
        from wellread.report import card, page

        page.write(context.run, folder)
        card.write(context.run, folder)

    return Stage(
        name="report",
        build=build,
        settings=context.recipe.model_dump(mode="json"),
        inputs=tuple(before),
        code=("report", "pipeline/order", "stages"),
    )
