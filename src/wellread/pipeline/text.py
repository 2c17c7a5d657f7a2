"""The stages of text: corpus, tasks, selection, other texts, tokenizer, tokens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wellread import known_models as known
from wellread.errors import UserError
from wellread.pipeline.context import DOCUMENTS, TASKS, Context
from wellread.recipe import Recipe
from wellread.settings import TokenizerSettings
from wellread.stages import Stage
from wellread.workers import cores


def corpus_stage(context: Context) -> Stage:
    """Documents out of the recipe's sources."""
    from wellread.corpus.prepare import prepare, source_files

    settings = context.recipe.corpus
    used = settings.model_dump(mode="json", exclude={"validation", "on_overlap"})
    return Stage(
        name="corpus",
        build=lambda folder: _drop(prepare(settings, context.base, folder, quiet=context.quiet)),
        settings=used,
        files=tuple(source_files(settings, context.base)),
        code=("corpus", "tabbed"),
    )


def task_stage(context: Context, name: str) -> Stage:
    """A task's examples, derived from the corpus or read from labelled files."""
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
        code=TASKS,
    )


def selection_stage(context: Context) -> Stage:
    """Which documents are trained and validated on, none of them tested."""
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
        code=("corpus/leakage", "corpus/shingles", *DOCUMENTS, "rng"),
    )


def text_stage(context: Context, name: str) -> Stage:
    """A text of [texts]: prepared like the corpus, without what is tested, a share of it held out."""
    from wellread.corpus.leakage import select
    from wellread.corpus.prepare import prepare

    recipe = context.recipe
    settings = recipe.texts[name]

    def build(folder: Path) -> None:
        with _in_text(name):
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
        code=("corpus", "rng", "tabbed"),
    )


def text_files(recipe: Recipe, base: Path, name: str) -> tuple[Path, ...]:
    """The files of a text of [texts].

    Raises:
        UserError: one is missing; names the key.
    """
    from wellread.corpus.prepare import source_files

    with _in_text(name):
        return tuple(source_files(recipe.texts[name], base))


@contextlib.contextmanager
def _in_text(name: str) -> Iterator[None]:
    """Errors name the keys of [texts.NAME] where they name those of [corpus]."""
    try:
        yield
    except UserError as error:
        where, fix = (
            str(told or "").replace("corpus.", f"texts.{name}.") for told in (error.where, error.fix)
        )
        raise type(error)(error.what, where=where, fix=fix) from None


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


def tokenizer_stage(context: Context) -> Stage:
    """The tokenizer, and how many tokens it needs."""

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
        code=("tokens/tokenizer", "tokens/fertility", *DOCUMENTS, *extending),
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


def tokens_stage(context: Context) -> Stage:
    """The token store of the corpus and of each other text."""

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
        code=("tokens/store", "tokens/encode", "tokens/shards", *DOCUMENTS),
    )


def _drop(_: object) -> None:
    """Stages return nothing; what their functions hand back is in the folder too."""
