"""Run a benchmark on a model: every task and seed as stages of a run folder.

    stages/tasks/TASK/   finetune/TASK/MODEL/   evaluate/

A task with folds (PubMedQA) stands there once for each fold that is asked for, as ``TASK-foldN``: seed s
takes fold s, so ten seeds are the whole ten-fold protocol.
"""

from __future__ import annotations

import contextlib
import shutil
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from wellread import files, stages
from wellread.benchmark import table
from wellread.benchmark.job import Job, Part
from wellread.benchmark.live import watching
from wellread.benchmark.table import TaskState
from wellread.errors import ArtefactError, UserError
from wellread.pipeline.context import FINETUNING, READING, TASKS
from wellread.progress import say
from wellread.settings import TaskSettings
from wellread.stages import Stage, stage_folder
from wellread.tasks.known import metric_of

BOOTSTRAP = 1000
KIND = "kind.json"  # fingerprint of a stage but for its seeds


def run(job: Job, *, quiet: bool = False) -> list[TaskState]:
    """Do what has not been done, and hand back every task's scores.

    Raises:
        UserError: bad data, no room, or another process works in the run folder.  What is finished stays.
    """
    from wellread import api

    api.use_threads(job.threads)
    with stages.locked(job.out):
        _keep_apart(job)
        files.write_json(job.out / "run.json", _provenance(job))
        if not quiet:
            say(f"reading the files of {len(job.parts)} tasks")
        stages.execute([_task(part) for part in job.parts], job.out, quiet=True)
        # Small tasks first: the table fills sooner.
        ordered = sorted(job.parts, key=lambda part: _told(job, part)["counts"]["train"])
        work = _rival if job.rival else _finetune
        finetunes = [work(job, part, quiet=quiet) for part in ordered]
        prints = stages.fingerprints(finetunes, job.out)
        with watching(job.suite, job.name, lambda: states(job, prints), quiet=quiet):
            stages.execute(finetunes, job.out, quiet=True)
        stages.execute([_evaluate(job)], job.out, quiet=True)
        found = _judged(job, states(job, prints))
        files.write_json(job.out / "benchmark.json", results(job, found))
        api.publish(job.out)
    return found


def _keep_apart(job: Job) -> None:
    """Refuse a folder with the runs of another model, which would be made anew over them."""
    path = job.out / "run.json"
    known = files.read_json(path).get("model") if path.exists() else None
    if known and known["sha256"] != _hashes(job):
        raise UserError(
            "the folder holds the benchmark of another model, or of this one as it was",
            where=str(job.out),
            fix="choose another folder with --out, or delete this one",
        )


def results(job: Job, found: list[TaskState]) -> dict[str, Any]:
    """The table as plain values."""
    return table.results(job.suite, job.name, found)


def states(job: Job, prints: dict[str, str]) -> list[TaskState]:
    """Every task as far as it is, read from the run folder.

    Args:
        job: the benchmark.
        prints: fingerprints of its fine-tuning stages; runs under others are of other settings.
    """
    found = {task: TaskState(task, metric_of(task), missing=why) for task, why in job.missing.items()}
    for part in job.parts:
        told = _told(job, part)
        state = found.get(part.task) or TaskState(part.task, told["metric"])
        folder = stages.working_folder(job.out, _stage(job, part), prints[_stage(job, part)])
        units = {unit["seed"]: unit for unit in _units(folder) if unit["seed"] in part.seeds}
        costs = {seed: unit["costs"] for seed, unit in units.items() if "costs" in unit}
        found[part.task] = replace(
            state,
            seeds=tuple(sorted({*state.seeds, *part.seeds})),
            values=state.values | {seed: unit["test"][told["metric"]] for seed, unit in units.items()},
            costs=state.costs | costs,
            failed=state.failed + sum(unit["failed"] for unit in units.values()),
            partial=told["facts"].get("partial", ""),
        )
    return [found[task] for task in job.suite.tasks if task in found]


def _judged(job: Job, found: list[TaskState]) -> list[TaskState]:
    """The states with the failed runs as evaluation counts them: not above the majority class on dev."""
    summary = files.read_json(stage_folder(job.out, "evaluate") / "summary.json")["tasks"]
    failed: Counter[str] = Counter()
    for part in job.parts:
        failed[part.task] += sum(group["failed"] for group in summary[part.name]["groups"])
    return [replace(state, failed=failed[state.task]) for state in found]


def _task(part: Part) -> Stage:
    from wellread.tasks.build import build, source_files

    settings = TaskSettings(known=part.task, path=str(part.folder), fold=part.fold)
    return Stage(
        name=f"tasks/{part.name}",
        build=lambda folder: build(part.name, settings, None, part.folder, folder, 0),
        settings={"known": part.task, "fold": part.fold},
        files=tuple(source_files(settings, part.folder, part.name)),
        code=TASKS,
    )


def _stage(job: Job, part: Part) -> str:
    return f"finetune/{part.name}/{job.name}"


def _rival(job: Job, part: Part, *, quiet: bool) -> Stage:
    """A cheap rival in the place of fine-tuning."""

    def build(folder: Path) -> None:
        from wellread.evaluate.rivals.run import Means, run_rivals
        from wellread.tasks.read import read_task

        task = read_task(stage_folder(job.out, f"tasks/{part.name}"), part.name)
        means = Means(job.model, job.model)
        run_rivals(task, (job.rival,), ("all",), part.seeds, folder, means, quiet=quiet)

    return Stage(
        name=_stage(job, part),
        build=build,
        settings={"rival": job.rival, "seeds": list(part.seeds)},
        inputs=(f"tasks/{part.name}",),
        files=_files(job),
        code=("evaluate/rivals", *FINETUNING),
    )


def _files(job: Job) -> tuple[Path, ...]:
    """What the model is told by."""
    return tuple(sorted(path for path in job.model.iterdir() if path.is_file())) if job.model else ()


def _finetune(job: Job, part: Part, *, quiet: bool) -> Stage:
    settings = job.settings.model_copy(update={"seeds": part.seeds})
    used = settings.model_dump(mode="json", exclude={"starts", "random_learning_rate", "seeds"})
    name = _stage(job, part)
    assert job.model is not None

    def build(folder: Path, model: Path = job.model) -> None:
        from wellread.finetune import grid

        kind = stages.fingerprints([any_seeds], job.out)[name]
        _take_over(stage_folder(job.out, name), folder, kind)
        wanted = grid.Job(
            task=stage_folder(job.out, f"tasks/{part.name}"),
            start=model,
            tokenizer=model,
            settings=settings,
            budgets=("all",),
            folder=folder,
            task_name=part.name,
            model_name=job.name,
            start_name="pretrained",
        )
        grid.run(wanted, threads=job.threads, quiet=quiet)

    any_seeds = Stage(
        name=name,
        build=build,
        settings=used,
        inputs=(f"tasks/{part.name}",),
        files=_files(job),
        code=FINETUNING,
    )
    return replace(any_seeds, settings={**used, "seeds": list(part.seeds)})


def _take_over(earlier: Path, folder: Path, kind: str) -> None:
    """Keep the runs that an earlier call left for other seeds, if all else is the same."""
    files.write_json(folder / KIND, kind)
    if (earlier / KIND).exists() and files.read_json(earlier / KIND) == kind:
        for name in ("units", "model"):
            if (earlier / name).is_dir() and not (folder / name).exists():
                shutil.copytree(earlier / name, folder / name)


def _evaluate(job: Job) -> Stage:
    """Scores of all runs; folds of a task are one task again in metrics.json."""
    units = [_stage(job, part) for part in job.parts]
    seeds = {part.name: list(part.seeds) for part in job.parts}

    def build(folder: Path) -> None:
        from wellread.evaluate.summary import summarise

        places = [
            unit
            for part, name in zip(job.parts, units, strict=True)
            for unit in sorted((stage_folder(job.out, name) / "units").glob("*[0-9]"))
            if int(unit.name.rpartition("-")[2]) in part.seeds  # the folder may hold those of other calls
        ]
        tasks = {part.name: stage_folder(job.out, f"tasks/{part.name}") for part in job.parts}
        summarise(tasks, places, {}, BOOTSTRAP, folder, 0)
        known = {part.name: part.task for part in job.parts}
        records = files.read_json(folder / "metrics.json")
        renamed = [{**record, "task": known[record["task"]]} for record in records]
        files.write_json(folder / "metrics.json", renamed)

    return Stage(
        name="evaluate",
        build=build,
        settings={"bootstrap": BOOTSTRAP, "seeds": seeds},
        inputs=(*(f"tasks/{part.name}" for part in job.parts), *units),
        code=("evaluate", "benchmark", *READING),
    )


def _told(job: Job, part: Part) -> dict[str, Any]:
    path = stage_folder(job.out, f"tasks/{part.name}") / "task.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _units(folder: Path | None) -> Iterator[dict[str, Any]]:
    """Results of the runs that are committed in a stage's folder, with what they cost."""
    for path in sorted(folder.glob("units/*[0-9]/result.json")) if folder else []:
        with contextlib.suppress(ArtefactError):  # the folder is just being renamed: the next look finds it
            unit, costs = files.read_json(path), path.with_name("costs.json")
            yield unit | {"costs": files.read_json(costs)} if costs.exists() else unit


def _hashes(job: Job) -> dict[str, str]:
    rival = {"rival": job.rival} if job.rival else {}
    return rival | {path.name: files.sha256_file(path) for path in _files(job)}


def _provenance(job: Job) -> dict[str, Any]:
    from wellread import api

    return {
        "benchmark": job.suite.name,
        "model": {
            "name": job.name,
            "sha256": _hashes(job),
        },
        "finetune": job.settings.model_dump(mode="json"),
        **api.surroundings(),
    }
