"""The task of a recipe, from wherever it comes, as a canonical task folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from wellread.errors import RecipeError
from wellread.evaluate.metrics import metrics_of
from wellread.recipe import resolve
from wellread.settings import TaskSettings
from wellread.tasks.task import Task


def build(
    name: str, settings: TaskSettings, documents: Path | None, base: Path, folder: Path, seed: int
) -> None:
    """Derive or read the task that ``settings`` describe, and write it into ``folder``.

    Args:
        name: of the task in the recipe.
        settings: its table.
        documents: the corpus (documents.jsonl.zst); needed for derived tasks.
        base: where relative paths start.
        folder: an existing folder to write into.
        seed: of the document split of derived tasks.

    Raises:
        DataError: the files or the corpus do not give the task.
        RecipeError: ``known`` or ``metric`` names what is not there.
    """
    from wellread.tasks.derive import derive_from
    from wellread.tasks.read import write_task

    if settings.derive is not None:
        from wellread.corpus.documents import read

        if documents is None:
            raise RecipeError("a derived task needs a corpus", where=f"tasks.{name}.derive")
        limits = {"max_train": settings.max_train, "max_eval": settings.max_eval}
        task = derive_from(settings.derive, read(documents), seed=seed, name=name, **limits)
    else:
        task = read_source(name, settings, base)
    write_task(_with_metric(task, settings.metric, name), folder)


def read_source(name: str, settings: TaskSettings, base: Path) -> Task:
    """The task as its labelled files give it; errors as in :func:`build`."""
    from wellread.tasks.known import read_known
    from wellread.tasks.read import read_task

    folder = resolve(str(settings.path), base, f"tasks.{name}.path")
    if settings.known:
        return read_known(settings.known, folder, name, settings.fold)
    return read_task(folder, name)


def source_files(settings: TaskSettings, base: Path, where: str) -> list[Path]:
    """The files that a task is read from (none for a derived task).

    Args:
        settings: the task's table.
        base: where relative paths start.
        where: the table's name, for errors.

    Raises:
        DataError: the folder or a file that must be there is missing.
        RecipeError: ``known`` names no known task.
    """
    from wellread.tasks.known import known_files
    from wellread.tasks.rows import split_files

    if settings.path is None:
        return []
    folder = resolve(settings.path, base, f"{where}.path")
    if settings.known is not None:
        return sorted(known_files(settings.known, folder, f"{where}.known").values())
    found = list(split_files(folder).values())
    settings_file = folder / "task.toml"
    return sorted(found + ([settings_file] if settings_file.exists() else []))


def _with_metric(task: Task, metric: str | None, name: str) -> Task:
    if metric is None:
        return task
    allowed = metrics_of(task.kind, len(task.labels))
    if metric not in allowed:
        raise RecipeError(
            f"{metric!r} is no metric of a {task.kind} task",
            where=f"tasks.{name}.metric",
            fix=f"one of: {', '.join(allowed)}",
        )
    return replace(task, metric=metric)
