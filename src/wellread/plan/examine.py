"""Examine a recipe: check it and its data, measure a little on a sample, and add up what it would take."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wellread import recipe, stages
from wellread.api import find_recipe, use_threads
from wellread.errors import DataError, UserError
from wellread.pipeline import order
from wellread.pipeline.context import Context
from wellread.plan import checks, estimate, probe
from wellread.plan.checks import Findings
from wellread.progress import Progress
from wellread.recipe import Recipe

PROBE_SECONDS = 6.0
STARTING_SECONDS = 10.0  # loading the libraries, hashing inputs, evaluation and the report
MANY_DOCUMENTS = 1000


def plan(recipe_path: str, out: Path | None = None) -> dict[str, Any]:
    """Examine a recipe and its data, and measure a little.

    Args:
        recipe_path: a recipe, or the name of one that comes along.
        out: the run folder it would go into; default ``runs/NAME``.

    Returns:
        {"recipe", "problems": [{"what", "where", "fix"}], "corpus", "models", "memory", "disk", "time",
        "writes"}; what could not be found out is None.

    Raises:
        RecipeError: the recipe itself is wrong.
    """
    path = find_recipe(recipe_path)
    settings = recipe.load(path)
    run = out or Path("runs") / settings.name
    use_threads(settings.threads)
    findings, settled = Findings(), checks.settle(settings, path.parent)
    with tempfile.TemporaryDirectory(prefix="wellread-plan-") as name:
        seen = _look(settled, path.parent, Path(name), findings)
    text, disk = seen.text, estimate.disk(settings, seen.text, seen.models)
    checks.check_room(run, disk, seen.memory, findings)
    fresh = set() if findings.problems else _fresh(Context(settings, path.parent, run, quiet=True))
    left = {kind: round(value, 1) for kind, value in findings.seconds.items() if kind not in fresh}
    return {
        "recipe": {"name": settings.name, "path": str(path), "description": settings.description},
        "problems": findings.problems,
        "notes": findings.notes,
        "corpus": text and {"documents": text.documents, "words": text.words, "tokens": text.tokens},
        "models": seen.models,
        "memory": seen.memory,
        "disk": disk,
        "time": text and {"seconds": round(sum(left.values()) + STARTING_SECONDS, 1), "stages": left},
        "up_to_date": sorted(fresh),
        "writes": [str(run / name) for name in ("report.html", "metrics.json", "model_card.md", "stages/")],
    }


@dataclass(frozen=True)
class _Seen:
    """What was found out with a scratch folder at hand; the text is None where it cannot be read."""

    text: probe.Text | None
    models: list[dict[str, Any]]
    memory: dict[str, int]


def _look(settings: Recipe, base: Path, scratch: Path, findings: Findings) -> _Seen:
    """Check the recipe and its data, and measure what can be measured of it."""
    variants = settings.variant_names()
    # A part each: the files, the text, every variant and every task.
    with Progress("plan", 2 + len(variants) + len(settings.tasks), "parts") as progress:
        progress.note = "the files"
        checks.check_tasks(settings, base, findings)
        progress.advance(note="the text")
        sampled = _sample(settings, base, scratch, findings)
        checks.check_models(settings, base, findings)
        checks.check_lengths(settings, base, findings)
        checks.check_texts(settings, base, findings)
        text, trainings = None, {}
        if sampled:
            with findings.taking():
                text = probe.text_stages(settings, sampled, scratch, base)
        if sampled and text:
            findings.seconds |= text.seconds
            for variant in variants:
                progress.advance(note=f"pre-training {variant}")
                with findings.taking():
                    found = probe.pretraining(settings, variant, text, scratch, base, PROBE_SECONDS)
                    trainings[variant] = found
                    checks.check_updates(settings, variant, found.steps, findings)
            checks.check_categories(settings, sampled, findings)
            for task in settings.tasks:
                progress.advance(note=f"fine-tuning {task}")
                _add_finetuning(settings, task, sampled, text, base, findings)
        progress.advance(note="")
    vocab = estimate.vocabulary(settings, text)
    models = [estimate.of_model(settings, variant, trainings.get(variant), vocab) for variant in variants]
    _add_origins(settings, trainings, findings)
    findings.seconds["pretrain"] = sum(training.seconds for training in trainings.values())
    reduced = any(training.reduced for training in trainings.values()) or not trainings
    return _Seen(text, models, estimate.memory(settings, vocab, reduced))


def _sample(settings: Recipe, base: Path, scratch: Path, findings: Findings) -> probe.Sample | None:
    from wellread.corpus.prepare import source_files

    try:
        found = probe.sample(settings.corpus, source_files(settings.corpus, base), scratch)
    except UserError as error:
        findings.add(error)
        return None
    if not found.documents:
        what = f"none of the {found.read} documents looked at passes the filters"
        findings.add(
            DataError(what, where="corpus", fix="look at corpus.languages, min_words and text_field")
        )
        return None
    if found.total < MANY_DOCUMENTS:
        findings.notes.append(f"about {found.total:.0f} documents: too few to learn a language from")
    return found


def _add_finetuning(
    settings: Recipe, task: str, sampled: probe.Sample, text: probe.Text, base: Path, findings: Findings
) -> None:
    try:
        seconds = probe.finetuning(settings, task, sampled, text.tokenizer, base)
    except UserError as error:
        findings.notes.append(f"{task}: its time is not counted ({error.what})")
        return
    for kind, value in seconds.items():
        findings.seconds[kind] = findings.seconds.get(kind, 0.0) + value


def _add_origins(settings: Recipe, trainings: dict[str, probe.Training], findings: Findings) -> None:
    """Say what the variants that others start from cost; their FLOPs are not in the others' own."""
    for variant in trainings:
        before = settings.forebears(variant)
        # One that could not be tried is told of as a problem, and costs nobody knows what.
        if before and trainings.keys() >= set(before):
            cost = sum(trainings[name].flops["accounted"] for name in before)
            findings.notes.append(
                f"{variant}: {cost:.3g} FLOPs were spent before on {', '.join(before)}, and come on top"
            )


def _fresh(context: Context) -> set[str]:
    """Kinds of stages that are up to date throughout."""
    every = order.stages(context)
    stale = {name.split("/")[0] for name in stages.stale(every, context.run)}
    return {stage.name.split("/")[0] for stage in every} - stale
