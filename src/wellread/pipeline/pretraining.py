"""The stage of pre-training, one for each variant, and what its settings refer to."""

from __future__ import annotations

from pathlib import Path

from wellread import known_models as known
from wellread.errors import DataError
from wellread.pipeline.context import DOCUMENTS, Context, checkpoint_files
from wellread.recipe import resolve
from wellread.settings import MESH, PretrainSettings
from wellread.stages import Stage, stage_folder


def pretrain_stage(context: Context, variant: str) -> Stage:
    """Pre-training of one variant."""
    recipe = context.recipe
    model, settings = recipe.model_for(variant), recipe.pretrain_for(variant)
    before, start = recipe.forebear(variant), _start(context, variant)
    seed = recipe.seed if settings.seed is None else settings.seed
    terms = lexicon_path(settings, context.base)
    teaching = recipe.teacher_variant(variant)
    located = with_teacher(with_lexicon(settings, terms), context.base, context.run)
    teacher = Path(located.teacher.path) if located.teacher and not teaching else None

    def build(folder: Path) -> None:
        from wellread.pretrain import processes

        if settings.categories:
            from wellread.objectives import categories

            corpus, train = context.folder("corpus"), context.folder("tokens") / "train"
            categories.prepare(corpus / "documents.jsonl.zst", train, settings.categories, folder)
        job = processes.Job(
            model.model_copy(update={"start": str(start)}) if start else model,
            located,
            tokens=context.folder("tokens"),
            tokenizer=context.folder("tokenizer"),
            folder=folder,
            seed=seed,
            quiet=context.quiet,
            threads=recipe.threads,
        )
        processes.run(job, context.processes)

    return Stage(
        name=f"pretrain/{variant}",
        build=build,
        settings={
            "model": model.model_dump(mode="json"),
            "pretrain": settings.model_dump(mode="json", exclude=settings.no_part()),
            "seed": seed,
        },
        inputs=(
            *("tokenizer", "tokens"),
            *(("corpus",) if settings.categories else ()),
            *sorted({f"pretrain/{name}" for name in (before, teaching) if name}),
        ),
        files=(
            *(checkpoint_files(start) if start and not before else ()),
            *(checkpoint_files(teacher) if teacher else ()),
            *([terms] if terms else []),
        ),
        code=_code(settings),
    )


def _start(context: Context, variant: str) -> Path | None:
    """The checkpoint that a variant begins with, below the run where it is another variant's."""
    start, before = context.recipe.model_for(variant).start, context.recipe.forebear(variant)
    if before is not None:
        return context.folder(f"pretrain/{before}") / "model"
    return known.folder_of(start, context.base, "model.start") if start else None


def _code(settings: PretrainSettings) -> tuple[str, ...]:
    return (
        *("pretrain", "objectives", "schedules", "models", "sparsity", "precision"),
        *("tokens/tokenizer", "tokens/store", "tokens/encode", "tokens/shards"),
        *("tokens/packing", "tokens/bins", "tokens/exchange", "tokens/batch", "rng"),
        *(("tokens/mixture", "tokens/trigrams") if settings.continual else ()),
        *(("finetune/stability/averaging",) if settings.ema_decay else ()),
        *(DOCUMENTS if settings.categories else ()),
        *(("tasks/mesh",) if MESH in (settings.categories, settings.masking.lexicon) else ()),
    )


def lexicon_path(settings: PretrainSettings, base: Path) -> Path | None:
    """The list of terms that masking reads, if it reads one from a file.

    Raises:
        UserError: there is no such file, or a variable is not set.
    """
    given, key = settings.masking.lexicon, "pretrain.masking.lexicon"
    if given is None or given == MESH:
        return None
    path = resolve(given, base, key)
    if not path.is_file():
        raise DataError(
            f"there is no file {given}", where=key, fix='give a text file with one term a line, or "mesh"'
        )
    return path


def with_lexicon(settings: PretrainSettings, path: Path | None) -> PretrainSettings:
    """The settings with the path of the list of terms filled in."""
    if path is None:
        return settings
    masking = settings.masking.model_copy(update={"lexicon": str(path.absolute())})
    return settings.model_copy(update={"masking": masking})


def with_teacher(settings: PretrainSettings, base: Path, run: Path) -> PretrainSettings:
    """[pretrain] with its teacher's path as a folder, below the run where it is a variant.

    Raises:
        UserError: a known model is not here, or a variable is not set.
    """
    if settings.teacher is None:
        return settings
    path = settings.teacher.path
    if path.startswith("variants."):
        folder = stage_folder(run, f"pretrain/{path.removeprefix('variants.')}") / "model"
    else:
        folder = known.folder_of(path, base, "pretrain.teacher.path")
    located = settings.teacher.model_copy(update={"path": str(folder)})
    return settings.model_copy(update={"teacher": located})
