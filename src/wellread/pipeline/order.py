"""The stages of a recipe, in order.

corpus -> tasks/* -> selection -> texts/* -> tokenizer -> tokens -> pretrain/*
       -> finetune/*/*, vectors, rivals/* -> evaluate -> report
"""

from __future__ import annotations

from wellread.evaluate.rivals import ON_VECTORS
from wellread.pipeline import finetuning, pretraining, results, text
from wellread.pipeline.context import Context
from wellread.stages import Stage

# The order in which a run goes through its kinds of stages; also what `until` may name.
KINDS = (
    "corpus",
    "tasks",
    "selection",
    "texts",
    "tokenizer",
    "tokens",
    "pretrain",
    "finetune",
    "vectors",
    "rivals",
    "evaluate",
    "report",
)


def stages(context: Context, until: str | None = None) -> list[Stage]:
    """All stages of the recipe, up to and including those of kind ``until``.

    Raises:
        UserError: an input file of the corpus or of a task is missing.
    """
    found: list[Stage] = [text.corpus_stage(context)]
    tasks = [text.task_stage(context, name) for name in context.recipe.tasks]
    texts = [text.text_stage(context, name) for name in context.recipe.texts]
    found += [
        *tasks,
        text.selection_stage(context),
        *texts,
        text.tokenizer_stage(context),
        text.tokens_stage(context),
    ]
    names = sorted(context.recipe.variant_names(), key=lambda name: len(context.recipe.forebears(name)))
    found += [pretraining.pretrain_stage(context, variant) for variant in names]
    found += (tuned := list(finetuning.finetune_stages(context)))
    if tasks and set(context.recipe.evaluate.rivals) & set(ON_VECTORS):
        found.append(results.vectors_stage(context))
    found += (rivals := [results.rivals_stage(context, name) for name in context.recipe.tasks])
    if tasks:
        found.append(results.evaluate_stage(context, [stage.name for stage in (*tuned, *rivals)]))
    found.append(results.report_stage(context, [stage.name for stage in found]))
    last = KINDS.index(until) if until else len(KINDS) - 1
    return [stage for stage in found if KINDS.index(stage.name.split("/")[0]) <= last]
