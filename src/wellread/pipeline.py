"""The stages of a recipe, in order: what each reads, what it depends on, which function does it.

corpus -> tasks/* -> selection -> texts/* -> tokenizer -> tokens -> pretrain/*
       -> finetune/*/*, vectors, rivals/* -> evaluate -> report
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from wellread import known_models as known
from wellread.errors import DataError, UserError
from wellread.evaluate.rivals import ON_ENCODER, ON_VECTORS
from wellread.recipe import Recipe, resolve
from wellread.settings import MESH, ModelSettings, PretrainSettings, TokenizerSettings
from wellread.stages import Stage, stage_folder

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
# Code that reads a task, draws its label budgets and scores it.
READING = ("tasks/read", "tasks/rows", "tasks/examples", "tasks/subset", "evaluate/metrics", "rng")
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


def stages(context: Context, until: str | None = None) -> list[Stage]:
    """All stages of the recipe, up to and including those of kind ``until``.

    Raises:
        UserError: an input file of the corpus or of a task is missing.
    """
    found: list[Stage] = [_corpus(context)]
    tasks = [_task(context, name) for name in context.recipe.tasks]
    texts = [_other_text(context, name) for name in context.recipe.texts]
    found += [*tasks, _selection(context), *texts, _tokenizer(context), _tokens(context)]
    names = sorted(context.recipe.variant_names(), key=lambda name: len(context.recipe.forebears(name)))
    found += [_pretrain(context, variant) for variant in names]
    found += (tuned := list(_finetunes(context)))
    if tasks and set(context.recipe.evaluate.rivals) & set(ON_VECTORS):
        found.append(_vectors(context))
    found += (rivals := [_rivals(context, name) for name in context.recipe.tasks])
    if tasks:
        found.append(_evaluate(context, [stage.name for stage in (*tuned, *rivals)]))
    found.append(_report(context, [stage.name for stage in found]))
    last = KINDS.index(until) if until else len(KINDS) - 1
    return [stage for stage in found if KINDS.index(stage.name.split("/")[0]) <= last]


def _corpus(context: Context) -> Stage:
    from wellread.corpus.prepare import prepare, source_files

    settings = context.recipe.corpus
    used = settings.model_dump(mode="json", exclude={"validation", "on_overlap"})
    return Stage(
        name="corpus",
        build=lambda folder: _drop(prepare(settings, context.base, folder, quiet=context.quiet)),
        settings=used,
        files=tuple(source_files(settings, context.base)),
        code=("corpus",),
    )


def _task(context: Context, name: str) -> Stage:
    from wellread.tasks.build import build, source_files

    settings, recipe_seed = context.recipe.tasks[name], context.recipe.seed
    used = settings.model_dump(mode="json", exclude={"budgets", "finetune"})
    derived = settings.derive is not None
    documents = context.folder("corpus") / "documents.jsonl.zst" if derived else None
    return Stage(
        name=f"tasks/{name}",
        build=lambda folder: build(name, settings, documents, context.base, folder, recipe_seed),
        settings={"name": name, "seed": recipe_seed, **used},
        inputs=("corpus",) if derived else (),
        files=tuple(source_files(settings, context.base, f"tasks.{name}")),
        code=("tasks", "corpus/documents", "rng"),
    )


def _selection(context: Context) -> Stage:
    from wellread.corpus.leakage import select

    recipe = context.recipe
    settings: dict[str, Any] = {
        "validation": recipe.corpus.validation,
        "on_overlap": recipe.corpus.on_overlap,
        "allow_overlap": context.allow_overlap,
        "seed": recipe.seed,
    }
    return Stage(
        name="selection",
        build=lambda folder: _drop(
            select(
                context.folder("corpus") / "documents.jsonl.zst",
                {name: context.folder(f"tasks/{name}") for name in recipe.tasks},
                folder,
                **settings,
            )
        ),
        settings=settings,
        inputs=("corpus", *(f"tasks/{name}" for name in recipe.tasks)),
        code=("corpus/leakage", "corpus/documents", "rng"),
    )


def _other_text(context: Context, name: str) -> Stage:
    """A text of [texts]: prepared like the corpus, without what is tested, a share of it held out."""
    from wellread.corpus.leakage import select
    from wellread.corpus.prepare import prepare

    recipe = context.recipe
    settings = recipe.texts[name]

    def build(folder: Path) -> None:
        prepare(settings, context.base, folder, quiet=context.quiet)
        select(
            folder / "documents.jsonl.zst",
            {task: context.folder(f"tasks/{task}") for task in recipe.tasks},
            folder,
            validation=settings.validation,
            on_overlap=settings.on_overlap,
            allow_overlap=context.allow_overlap,
            seed=recipe.seed,
        )

    return Stage(
        name=f"texts/{name}",
        build=build,
        settings={
            "text": settings.model_dump(mode="json"),
            "allow_overlap": context.allow_overlap,
            "seed": recipe.seed,
        },
        inputs=tuple(f"tasks/{task}" for task in recipe.tasks),
        files=text_files(recipe, context.base, name),
        code=("corpus", "rng"),
    )


def text_files(recipe: Recipe, base: Path, name: str) -> tuple[Path, ...]:
    """The files of a text of [texts].

    Raises:
        UserError: one is missing; names the key.
    """
    from wellread.corpus.prepare import source_files

    try:
        return tuple(source_files(recipe.texts[name], base))
    except UserError as error:
        where = str(error.where).replace("corpus.", f"texts.{name}.", 1)
        raise type(error)(error.what, where=where, fix=error.fix) from None


def selected_texts(
    context: Context, split: str, corpus: str = "corpus", selection: str = "selection"
) -> Iterator[tuple[str, str]]:
    """(id, text) of the documents chosen for ``split`` ("train" or "valid"), in corpus order.

    Args:
        context: the run.
        split: which.
        corpus: stage that holds the documents.
        selection: stage that chose them.
    """
    from wellread.corpus import documents

    ids = (context.folder(selection) / f"{split}_ids.txt").read_text("utf-8").splitlines()
    wanted = set(ids)
    for document in documents.read(context.folder(corpus) / "documents.jsonl.zst"):
        if document.id in wanted:
            yield document.id, document.text


def _tokenizer(context: Context) -> Stage:
    def build(folder: Path) -> None:
        from wellread.tokens import fertility, tokenizer

        recipe = context.recipe
        main = recipe.model_for(recipe.variant_names()[0])
        texts = (text for _, text in selected_texts(context, "train"))
        longest = max(recipe.model_for(name).max_length for name in recipe.variant_names())
        settings = tokenizer_settings(recipe, context.base)
        tokenizer.train(texts, settings, folder, causal=main.causal, max_length=longest, quiet=context.quiet)
        fertility.report(folder, (text for _, text in selected_texts(context, "valid")), folder)

    recipe = context.recipe
    models = [recipe.model_for(name) for name in recipe.variant_names()]
    source = tokenizer_settings(recipe, context.base).path
    given = [Path(source) / "tokenizer.json"] if source else []
    extending = ("models/vocabulary",) if recipe.tokenizer.add_words else ()
    return Stage(
        name="tokenizer",
        build=build,
        settings={
            "tokenizer": recipe.tokenizer.model_dump(mode="json"),
            "causal": models[0].causal,
            "max_length": max(model.max_length for model in models),
        },
        inputs=("corpus", "selection"),
        files=tuple(path for path in given if path.is_file()),
        code=("tokens/tokenizer", "tokens/fertility", *extending),
    )


def tokenizer_settings(recipe: Recipe, base: Path) -> TokenizerSettings:
    """[tokenizer] with its path as a folder.

    Raises:
        UserError: a known model is not here, or a variable is not set.
    """
    settings = recipe.tokenizer
    if settings.path is None:
        return settings
    folder = known.folder_of(settings.path, base, "tokenizer.path")
    return settings.model_copy(update={"path": str(folder)})


def _tokens(context: Context) -> Stage:
    def build(folder: Path) -> None:
        from wellread.tokens import store

        places = [("corpus", "selection", folder)]
        places += [(text, text, folder / text) for text in others]
        for corpus, selection, place in places:
            for split in ("train", "valid"):
                total = sum(1 for _ in (context.folder(selection) / f"{split}_ids.txt").open())
                store.build(
                    selected_texts(context, split, corpus, selection),
                    context.folder("tokenizer"),
                    place / split,
                    processes=context.recipe.threads or cores(),
                    total=total,
                    quiet=context.quiet,
                )

    others = tuple(f"texts/{name}" for name in context.recipe.texts)
    return Stage(
        name="tokens",
        build=build,
        settings={},
        inputs=("corpus", "selection", "tokenizer", *others),
        code=("tokens/store", "tokens/encode", "tokens/shards"),
    )


def _pretrain(context: Context, variant: str) -> Stage:
    recipe = context.recipe
    model, settings = recipe.model_for(variant), recipe.pretrain_for(variant)
    before = recipe.forebear(variant)
    if before is not None:
        start: Path | None = context.folder(f"pretrain/{before}") / "model"
    else:
        start = known.folder_of(model.start, context.base, "model.start") if model.start else None
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
            seed=recipe.seed,
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
            "seed": recipe.seed,
        },
        inputs=(
            *("tokenizer", "tokens"),
            *(("corpus",) if settings.categories else ()),
            *sorted({f"pretrain/{name}" for name in (before, teaching) if name}),
        ),
        files=(
            *(_checkpoint_files(start) if start and not before else ()),
            *(_checkpoint_files(teacher) if teacher else ()),
            *([terms] if terms else []),
        ),
        code=(
            *("pretrain", "objectives", "schedules", "models", "sparsity"),
            *("tokens/store", "tokens/encode", "tokens/shards"),
            *("tokens/packing", "tokens/bins", "tokens/exchange", "tokens/batch", "rng"),
            *(("tokens/mixture", "tokens/trigrams") if settings.continual else ()),
            *(("finetune/stability/averaging",) if settings.ema_decay else ()),
            *(("corpus/documents",) if settings.categories else ()),
        ),
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


def _finetunes(context: Context) -> Iterator[Stage]:
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
            yield _finetune(context, task, Begin(RANDOM, main, recipe.model_for(main), ("tokenizer",)))
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

        grid.run(
            context.folder(f"tasks/{task}"),
            model,
            context.folder("tokenizer") if begin.inputs or not isinstance(model, Path) else model,
            settings,
            recipe.tasks[task].budgets,
            folder,
            task_name=task,
            model_name=begin.name,
            start_name=begin.start,
            threads=recipe.threads or cores(),
            quiet=context.quiet,
        )

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
        files=_checkpoint_files(model) if isinstance(model, Path) and not begin.inputs else (),
        code=("finetune", "models", "objectives/masking", "schedules", "tokens/batch", *READING),
    )


def _checkpoint_files(folder: Path) -> tuple[Path, ...]:
    """What a checkpoint made elsewhere is told by."""
    return tuple(sorted(path for path in folder.glob("*") if path.suffix in (".safetensors", ".json")))


def _vectors(context: Context) -> Stage:
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
        code=("evaluate/rivals/vectors",),
    )


def _rivals(context: Context, task: str) -> Stage:
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
        files=_checkpoint_files(encoder) if encoder else (),
        code=(
            *("evaluate/rivals", *READING),
            *(("finetune/encode", "models", "schedules", "tokens/batch") if encoder else ()),
            *(
                ("finetune", "models", "schedules", "tokens/batch", "tokens/tokenizer")
                if "cct" in names
                else ()
            ),
        ),
    )


def _evaluate(context: Context, units: list[str]) -> Stage:
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
        code=("evaluate",),
    )


def _report(context: Context, before: list[str]) -> Stage:
    def build(folder: Path) -> None:
        from wellread.report import card, page

        page.write(context.run, folder)
        card.write(context.run, folder)

    return Stage(
        name="report",
        build=build,
        settings=context.recipe.model_dump(mode="json"),
        inputs=tuple(before),
        code=("report",),
    )


def cores() -> int:
    """CPU cores that this process may use."""
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _drop(_: object) -> None:
    """Stages return nothing; what their functions hand back is in the folder too."""
