"""What a benchmark will do: which tasks are there, on which model, with which settings."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wellread import given
from wellread import known_models as known
from wellread.benchmark import suite as suites
from wellread.benchmark.suite import Suite
from wellread.errors import UserError
from wellread.evaluate.rivals import NAMES, ON_ENCODER, ON_VECTORS
from wellread.recipe import merge
from wellread.settings import FinetuneSettings
from wellread.tasks.known import describe, find_folder
from wellread.workers import cores

LARGE = 512  # models of this width and more want the rates of large models
LARGE_SETTINGS = {"learning_rate": 3e-5, "epochs": 20, "patience": 5}


@dataclass(frozen=True)
class Options:
    """What was asked for, as on the command line."""

    model: Path  # or the name of a cheap rival
    data: Path | None = None
    tasks: str | None = None
    seeds: int = 5
    out: Path | None = None
    name: str | None = None
    changes: tuple[str, ...] = ()
    threads: int | None = None
    vectors: Path | None = None
    first_seed: int = 0


@dataclass(frozen=True)
class Part:
    """A task, or one fold of it.

    Attributes:
        name: of its stages.
        task: the known task.
        folder: of its files.
        fold: which one.
        seeds: of its runs.
    """

    name: str
    task: str
    folder: Path
    fold: int
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Job:
    """A benchmark on one model.

    Attributes:
        suite: the benchmark.
        model: checkpoint folder; of a rival what it stands on (nothing, word vectors, or an encoder).
        name: the model's, in tables and folders.
        parts: the tasks that are there.
        missing: why others are not, by task.
        settings: of every fine-tuning.
        out: run folder.
        threads: CPU threads.
        rival: name of the cheap rival that is run instead of fine-tuning; "" for none.
    """

    suite: Suite
    model: Path | None
    name: str
    parts: tuple[Part, ...]
    missing: dict[str, str]
    settings: FinetuneSettings
    out: Path
    threads: int
    rival: str = ""


def prepare(suite_name: str, options: Options) -> Job:
    """Look for model and tasks before anything runs.

    Raises:
        UserError: no such task, no data, a bad setting, or a model that cannot be fine-tuned.
    """
    suite = suites.load(suite_name)
    rival = str(options.model) if str(options.model) in NAMES and not options.model.exists() else ""
    if rival and options.changes:
        what, fix = f"{rival} has no settings of fine-tuning", "leave it out"
        raise UserError(what, where=f"--set {options.changes[0]}", fix=fix)
    model = _stands_on(rival, options) if rival else given.checkpoint(options.model)
    name = given.model_name(Path(rival) if model is None or rival else model, options.name)
    data = _data(options.data)
    seeds = tuple(range(options.first_seed, options.first_seed + options.seeds))
    parts, missing = _parts(data, _chosen(suite, options.tasks), seeds)
    if not parts:
        raise UserError(
            f"none of the tasks of {suite.name} is here",
            where=str(data),
            fix="give the folder that holds the tasks' folders with --data; docs/methods/blurb.md names them",
        )
    out = options.out or Path("runs") / f"{suite.name}-{name}"
    settings = settings_for(None if rival else model, options.changes, seeds)
    return Job(suite, model, name, parts, missing, settings, out, options.threads or cores(), rival)


def _stands_on(rival: str, options: Options) -> Path | None:
    if rival in ON_ENCODER:
        return known.folder_of(known.MINILM, Path(), "--model")
    if rival not in ON_VECTORS:
        return None
    if options.vectors is None or not (options.vectors / "vectors.npy").is_file():
        raise UserError(
            "static vectors are trained on your own text",
            where="--vectors",
            fix='give stages/vectors of a run whose recipe has "static" among evaluate.rivals',
        )
    return options.vectors.resolve()


def settings_for(model: Path | None, changes: tuple[str, ...], seeds: tuple[int, ...]) -> FinetuneSettings:
    """The settings of every fine-tuning: the usual ones for the model's width, and what was asked for.

    A named recipe among them picks by the model's size itself.

    Raises:
        RecipeError: an unknown key or an impossible value.
    """
    from wellread.models.build import load_config

    asked = given.changes(changes)
    usual: dict[str, Any] = {}
    if model is not None and "recipe" not in asked and load_config(model).hidden_size >= LARGE:
        usual = dict(LARGE_SETTINGS)
    fixed = {"seeds": seeds, "starts": ("pretrained",)}
    return merge(FinetuneSettings(), usual | asked | fixed, "--set")


def _data(folder: Path | None) -> Path:
    named = folder or (Path(os.environ["WELLREAD_DATA"]) if os.environ.get("WELLREAD_DATA") else None)
    if named is None:
        raise UserError("no data folder", where="--data", fix="give it, or set WELLREAD_DATA")
    if not named.is_dir():
        raise UserError("no such folder", where=str(named), fix="give the folder of the tasks' folders")
    return named.resolve()


def _chosen(suite: Suite, tasks: str | None) -> tuple[str, ...]:
    if tasks is None:
        return suite.tasks
    wanted = [task.strip() for task in tasks.split(",") if task.strip()]
    for task in wanted:
        if task not in suite.tasks:
            raise UserError(
                f"{suite.name} has no task {task!r}",
                where="--tasks",
                fix=f"some of: {', '.join(suite.tasks)}",
            )
    return tuple(task for task in suite.tasks if task in wanted)


def _parts(
    data: Path, chosen: tuple[str, ...], seeds: tuple[int, ...]
) -> tuple[tuple[Part, ...], dict[str, str]]:
    """The tasks that are there, a part for each fold, and why the others are not."""
    parts: list[Part] = []
    missing: dict[str, str] = {}
    for task in chosen:
        folder = find_folder(task, data)
        if folder is None:
            names = (task, *describe(task).get("folders", ()))
            missing[task] = f"no folder {' or '.join(names[:2])} with its files"
            continue
        folds = describe(task).get("folds", 1)
        for fold in range(folds):
            name = task if folds == 1 else f"{task}-fold{fold}"
            if own := tuple(seed for seed in seeds if seed % folds == fold):
                parts.append(Part(name, task, folder, fold, own))
    return tuple(parts), missing
