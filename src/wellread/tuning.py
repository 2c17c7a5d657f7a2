"""Fine-tune a model on a user's own labelled file: ``wellread finetune --model M --data D``.

The stages are those of a recipe, in a run folder of their own:

    stages/tasks/NAME/   finetune/NAME/MODEL/   rivals/NAME/   evaluate/

Besides all labels, a quarter and half of them are tried, so that the end can say whether more would help.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wellread import files, given, stages
from wellread.errors import DataError
from wellread.pipeline.context import FINETUNING, READING, TASKS
from wellread.progress import say
from wellread.recipe import merge
from wellread.settings import Budget, FinetuneSettings, TaskSettings
from wellread.stages import Stage, stage_folder
from wellread.tasks.task import Task
from wellread.workers import cores

BOOTSTRAP = 1000
FEWEST = 16  # labels of the smallest budget that is worth a run
SHOWN = 10  # findings of the check of the data that are told one by one
RIVALS = ("majority", "tfidf")


@dataclass(frozen=True)
class Job:
    """What will be done.

    Attributes:
        model: checkpoint folder.
        name: the model's, in tables.
        data: labelled file, or folder of train, dev and test files.
        task: name of the task.
        settings: of fine-tuning.
        out: run folder.
        threads: CPU threads.
    """

    model: Path
    name: str
    data: Path
    task: str
    settings: FinetuneSettings
    out: Path
    threads: int


def prepare(
    model: Path,
    data: Path,
    *,
    task: str | None = None,
    seeds: int = 5,
    named: str = "stable",
    changes: tuple[str, ...] = (),
    out: Path | None = None,
    threads: int | None = None,
) -> Job:
    """Look at model and data before anything runs.

    Args:
        model: checkpoint folder of any maker, or a run folder.
        data: labelled file, or folder.
        task: name of the task; default the file's, or the folder's (of a train file, too).
        seeds: runs of each number of labels.
        named: settings of fine-tuning, "stable" or "standard".
        changes: "KEY=VALUE" of [finetune], which win.
        out: run folder; default ``runs/TASK-MODEL``.
        threads: CPU threads; default all cores.

    Raises:
        UserError: no such model, a bad setting, or data with errors, of which the first ten are told.
    """
    folder = given.checkpoint(model)
    if not data.exists():
        raise DataError(
            "no such file or folder", where=str(data), fix="give a .jsonl, .csv, .tsv or .conll file"
        )
    named_by = data.resolve().parent if data.is_file() and data.stem == "train" else data.resolve()
    name = given.slug(task or (named_by.stem if named_by.is_file() else named_by.name)) or "task"
    fixed = {"seeds": tuple(range(seeds)), "starts": ("pretrained",)}
    settings = merge(FinetuneSettings(), {"recipe": named} | given.changes(changes) | fixed, "--set")
    _check(data)
    called = given.model_name(folder)
    place = out or Path("runs") / f"{name}-{called}"
    return Job(folder, called, data.resolve(), name, settings, place, threads or cores())


def run(job: Job, *, quiet: bool = False) -> dict[str, Any]:
    """Do what has not been done.

    Returns:
        What :func:`results` gives.

    Raises:
        UserError: no room, or another process works in the run folder.  What is finished stays.
    """
    from wellread import api

    api.use_threads(job.threads)
    with stages.locked(job.out):
        files.write_json(job.out / "run.json", _provenance(job))
        stages.execute([_task(job)], job.out, quiet=True)
        if not quiet:
            _say_what_it_is(job)
        stages.execute([_finetune(job, quiet), _rivals(job)], job.out, quiet=True)
        stages.execute([_evaluate(job)], job.out, quiet=True)
        api.publish(job.out)
    return results(job)


def results(job: Job) -> dict[str, Any]:
    """Scores on test by model and number of labels, and what more labels would do.

    Returns:
        {"task", "kind", "metric", "counts", "model" (folder of the best), "rows": [{"model", "labels",
        "seeds", "failed", "mean", "std", "interval"}], "advice"}.
    """
    told = files.read_json(stage_folder(job.out, "evaluate") / "summary.json")["tasks"][job.task]
    kept = ("model", "labels", "failed", "mean", "std", "interval")
    rows = [{key: group[key] for key in kept} | {"seeds": len(group["seeds"])} for group in told["groups"]]
    task = _read(job)
    return {
        "task": job.task,
        **{key: told[key] for key in ("kind", "metric", "counts")},
        "model": str(stage_folder(job.out, f"finetune/{job.task}/{job.name}") / "model"),
        "rows": rows,
        "advice": advice(_by_labels(job, task.metric)),
    }


def to_text(found: dict[str, Any]) -> str:
    """The results for people."""
    counts = ", ".join(f"{count} {split}" for split, count in found["counts"].items())
    lines = [f"{found['task']}: {found['kind']}, {counts}; {found['metric']} on test, percent", ""]
    table = [("model", "labels", "runs", "mean ± std", "95% interval")]
    for row in sorted(found["rows"], key=lambda row: (row["labels"], row["mean"])):
        low, high = (f"{100 * bound:.1f}" for bound in row["interval"])
        mean = f"{100 * row['mean']:.1f} ± {100 * row['std']:.1f}"
        runs = f"{row['seeds']}" + (f" ({row['failed']} failed)" if row["failed"] else "")
        table.append((row["model"], str(row["labels"]), runs, mean, f"{low} to {high}"))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines += [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
    return "\n".join([*lines, "", found["advice"]])


def advice(by_labels: dict[int, list[float]]) -> str:
    """One sentence on whether more labels would help, from dev scores (0 to 1) by number of labels.

    The step from half of the labels to all of them is held against the noise of its two means.
    """
    counts = sorted(by_labels)
    if len(counts) < 2 or min(len(by_labels[count]) for count in counts[-2:]) < 2:
        return "Too few labels or seeds to say whether more labels would help."
    half, whole = (by_labels[count] for count in counts[-2:])
    gain = 100 * (statistics.fmean(whole) - statistics.fmean(half))
    noise = 100 * sum(statistics.variance(scores) / len(scores) for scores in (half, whole)) ** 0.5
    step = (
        f"from {counts[-2]} to {counts[-1]} labels the score on dev rose by {gain:.1f} points (± {noise:.1f})"
    )
    step = step.replace("rose by -", "fell by ")
    if gain > max(1.0, 2 * noise):
        return f"More labels would help: {step}."
    if gain > 2 * noise or noise > 1.0:
        return f"It cannot be told whether more labels would help: {step}."
    return f"More labels of this kind would help little: {step}."


def _check(data: Path) -> None:
    from wellread.tasks.check import check

    found = check(data)
    errors = [finding for finding in found if finding.severity == "error"]
    if len(errors) == 1:
        raise DataError(errors[0].what, where=errors[0].where, fix=errors[0].fix)
    for finding in (errors or found)[:SHOWN]:
        say(f"{finding.severity}: {finding.where}: {finding.what}")
    if len(errors or found) > SHOWN:
        say(f"{len(errors or found) - SHOWN} more: `wellread data check {data}` shows all")
    if errors:
        raise DataError(f"{len(errors)} errors in the labelled data", where=str(data), fix=errors[0].fix)


def _budgets(train: int) -> tuple[Budget, ...]:
    return (*(part for part in (train // 4, train // 2) if part >= FEWEST), "all")


def _train(job: Job) -> int:
    return len(_read(job).splits["train"])


def _read(job: Job) -> Task:
    from wellread.tasks.read import read_task

    return read_task(stage_folder(job.out, f"tasks/{job.task}"), job.task)


def _say_what_it_is(job: Job) -> None:
    task = _read(job)
    sizes = ", ".join(f"{len(examples)} {split}" for split, examples in task.splits.items())
    labels = f", labels {', '.join(task.labels)}" if task.kind != "regress" else ""
    say(f"{job.task}: {task.kind}, {sizes}{labels}; score: {task.metric}")


def _by_labels(job: Job, metric: str) -> dict[int, list[float]]:
    """Dev scores of the runs, by number of labels."""
    found: dict[int, list[float]] = {}
    units = stage_folder(job.out, f"finetune/{job.task}/{job.name}") / "units"
    for path in sorted(units.glob("*/result.json")):
        unit = files.read_json(path)
        found.setdefault(unit["labels"], []).append(unit["dev"][metric])
    return found


def _settings(job: Job) -> TaskSettings:
    return TaskSettings(path=str(job.data))


def _task(job: Job) -> Stage:
    from wellread.tasks.build import build, source_files

    return Stage(
        name=f"tasks/{job.task}",
        build=lambda folder: build(job.task, _settings(job), None, job.data.parent, folder, 0),
        settings={"name": job.task},
        files=tuple(source_files(_settings(job), job.data.parent, "--data")),
        code=TASKS,
    )


def _finetune(job: Job, quiet: bool) -> Stage:
    def build(folder: Path) -> None:
        from wellread.finetune import grid

        wanted = grid.Job(
            task=stage_folder(job.out, f"tasks/{job.task}"),
            start=job.model,
            tokenizer=job.model,
            settings=job.settings,
            budgets=_budgets(_train(job)),
            folder=folder,
            task_name=job.task,
            model_name=job.name,
            start_name="pretrained",
        )
        grid.run(wanted, threads=job.threads, quiet=quiet)

    return Stage(
        name=f"finetune/{job.task}/{job.name}",
        build=build,
        settings=job.settings.facts("starts"),
        inputs=(f"tasks/{job.task}",),
        files=tuple(sorted(path for path in job.model.iterdir() if path.is_file())),
        code=FINETUNING,
    )


def _rivals(job: Job) -> Stage:
    def build(folder: Path) -> None:
        from wellread.evaluate.rivals.run import run_rivals
        from wellread.tasks.read import read_task

        task = read_task(stage_folder(job.out, f"tasks/{job.task}"), job.task)
        run_rivals(task, RIVALS, _budgets(len(task.splits["train"])), job.settings.seeds, folder, quiet=True)

    return Stage(
        name=f"rivals/{job.task}",
        build=build,
        settings={"rivals": list(RIVALS), "seeds": list(job.settings.seeds)},
        inputs=(f"tasks/{job.task}",),
        code=("evaluate/rivals", *READING),
    )


def _evaluate(job: Job) -> Stage:
    units = (f"finetune/{job.task}/{job.name}", f"rivals/{job.task}")

    def build(folder: Path) -> None:
        from wellread.evaluate.summary import summarise

        places = [
            unit for name in units for unit in sorted((stage_folder(job.out, name) / "units").iterdir())
        ]
        tasks = {job.task: stage_folder(job.out, f"tasks/{job.task}")}
        summarise(tasks, places, {}, BOOTSTRAP, folder, 0)

    return Stage(
        name="evaluate",
        build=build,
        settings={"bootstrap": BOOTSTRAP},
        inputs=(f"tasks/{job.task}", *units),
        code=("evaluate", *READING),
    )


def _provenance(job: Job) -> dict[str, Any]:
    from wellread import api

    named = {path.name: files.sha256_file(path) for path in sorted(job.model.iterdir()) if path.is_file()}
    return {
        "task": job.task,
        "model": {"name": job.name, "sha256": named},
        "finetune": job.settings.model_dump(mode="json"),
        **api.surroundings(),
    }
