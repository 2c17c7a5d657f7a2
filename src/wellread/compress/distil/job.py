"""Distil a teacher into a student, several seeds, in a folder that an interrupted attempt goes on in.

The folder holds ``transfer.json`` (what the transfer set is), ``soft/`` (the teacher's logits, in parcels),
``units/SEED/`` (result.json, model/), ``model/`` (the best on dev, a stock checkpoint) and ``result.json``
(teacher and students side by side).
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wellread import files, given
from wellread.compress import units
from wellread.compress.distil import student, transfer
from wellread.compress.distil import teacher as teachers
from wellread.compress.distil.settings import DistilSettings
from wellread.compress.distil.student import Lesson
from wellread.errors import ArtefactError, UserError
from wellread.evaluate.metrics import score
from wellread.finetune.grid import longest
from wellread.models import build
from wellread.progress import Progress, say
from wellread.settings import FinetuneSettings
from wellread.stages import code_hash
from wellread.tasks.read import read_task
from wellread.tasks.task import Task
from wellread.tokens import tokenizer as tokenizers
from wellread.workers import share, side_by_side

# What students are made with, and what their teachers are opened with.
CODE = (*units.CODE, "compress/distil")


@dataclass(frozen=True)
class Job:
    """What will be done.

    Attributes:
        teacher, student: model folders.
        task: folder of the task.
        text: sources of unlabelled text.
        out: folder to make.
        settings: of distillation.
        training: of the student, with its seeds.
        threads: of the CPU.
    """

    teacher: Path
    student: Path
    task: Path
    text: tuple[str, ...]
    out: Path
    settings: DistilSettings
    training: FinetuneSettings
    threads: int


def prepare(
    teacher: Path,
    start: Path,
    task: str,
    text: Sequence[str],
    out: Path,
    *,
    settings: DistilSettings,
    training: FinetuneSettings,
    threads: int,
) -> Job:
    """Look at everything before anything runs.

    Args:
        teacher: a fine-tuned model's folder, a committee's, or a run folder that has the task.
        start: the student's pre-trained checkpoint, or a run folder.
        task: a task's folder, or the name of a task of the teacher's run.
        text: run folders, known corpora, files, folders or patterns.
        out: folder to make, or to go on in.
        settings: of distillation.
        training: of the student.
        threads: of the CPU.

    Raises:
        UserError: a model or the task is not there or does not fit, or a setting has no use.
    """
    student.check(training)
    folder, place = _teacher(teacher, task)
    read = read_task(place)
    teachers.open_teacher(folder, read)
    begin = given.checkpoint(start)
    longest(begin, training)
    if out.exists() and not (out / "job.json").exists() and any(out.iterdir()):
        raise UserError("the folder holds something else", where=str(out), fix="choose another --out")
    if not text and not settings.own:
        raise UserError("there is no text to learn from", where="--text", fix="give --text or --own")
    return Job(folder, begin, place, tuple(text), out, settings, training, threads)


def run(job: Job, *, quiet: bool = False) -> dict[str, Any]:
    """Do what has not been done.

    Returns:
        What result.json holds: {"task", "kind", "metric", "teacher": {"parameters", "bytes", "dev", "test"},
        "student": {"parameters", "bytes"}, "transfer", "settings", "runs": [{"seed", "failed", "dev", "test",
        "picked", ...}], "best", "mean", "std", "model"}.

    Raises:
        UserError: nothing to learn from, or every run failed.
    """
    job.out.mkdir(parents=True, exist_ok=True)
    task = read_task(job.task)
    facts = _facts(job, task)
    if _differs(job.out / "job.json", facts):
        shutil.rmtree(job.out / "units", ignore_errors=True)
        shutil.rmtree(job.out / "model", ignore_errors=True)
    files.write_json(job.out / "job.json", facts)
    found = transfer.gather(task, job.text, job.settings, quiet=quiet)
    _say_what_it_is(found, quiet)
    rows = teachers.kept_labels(job.teacher, found.examples, task, job.out / "soft", quiet=quiet)
    tokenizer = tokenizers.load(job.student)
    tokenizer.model_max_length = length = longest(job.student, job.training)
    lesson = student.prepare(task, found.examples, rows, tokenizer, length, job.training)
    told = _transfer_facts(found)
    files.write_json(job.out / "transfer.json", told)
    inputs = files.sha256_bytes(files.canonical_json([facts, _digest(rows), told]))
    _students(job, lesson, tokenizer, inputs, quiet)
    return _finish(job, task, told)


def to_text(found: dict[str, Any]) -> str:
    """The results for people."""
    metric, teacher, pupil = found["metric"], found["teacher"], found["student"]
    rows = [["", "parameters", "MB", f"{metric} dev", f"{metric} test"]]
    for name, size, scores in (
        ("teacher", teacher, {split: teacher[split][metric] for split in ("dev", "test")}),
        ("student, best on dev", pupil, found["best"]),
        (f"student, mean of {len(found['runs'])}{_failed(found['runs'])}", pupil, found["mean"]),
    ):
        numbers = (f"{100 * scores[split]:.1f}" for split in ("dev", "test"))
        rows.append([name, f"{size['parameters']:,}", f"{size['bytes'] / 1e6:.1f}", *numbers])
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    return "\n".join(
        "  ".join(
            [name.ljust(first), *(cell.rjust(width) for cell, width in zip(cells, others, strict=True))]
        )
        for name, *cells in rows
    )


def _failed(runs: list[dict[str, Any]]) -> str:
    count = sum(one["failed"] for one in runs)
    return f" ({count} failed)" if count else ""


def _teacher(teacher: Path, task: str) -> tuple[Path, Path]:
    """Folders of the teacher and its task."""
    from wellread import api, stages

    is_run = not (teacher / "config.json").exists() and (teacher / stages.STAGES).is_dir()
    if not is_run:
        if not Path(task).exists():
            raise UserError(
                "no such task folder", where=f"--task {task}", fix="give a folder with train, dev and test"
            )
        return teacher, Path(task)
    if Path(task).exists():
        raise UserError(
            "a run folder as teacher goes with the name of one of its tasks",
            where=f"--task {task}",
            fix="give the name, or the folder of one fine-tuned model as teacher",
        )
    opened = api.open_run(teacher)
    return opened.model(task), stages.stage_folder(teacher, f"tasks/{task}")


def _students(job: Job, lesson: Lesson, tokenizer: Any, inputs: str, quiet: bool) -> None:
    import torch

    seeds = job.training.seeds
    left = [seed for seed in seeds if not _is_done(_unit(job, seed), inputs)]
    workers, each = share(1 if torch.cuda.is_available() else job.threads, len(seeds))
    calls = [(job, lesson, tokenizer, seed, inputs) for seed in left]
    done = len(seeds) - len(left)
    with Progress("distil", len(seeds), "students", done=done, quiet=quiet) as progress:
        for _ in side_by_side(_run_unit, calls, workers=workers, threads=each, watch=progress.partly):
            progress.advance(note=_so_far(job, lesson.gold.task.metric))


def _run_unit(job: Job, lesson: Lesson, tokenizer: Any, seed: int, inputs: str) -> None:
    result = student.distil(lesson, job.student, tokenizer, job.settings, job.training, seed)
    names = ("failed", "failure", "dev", "test", "steps", "best_step", "picked", "history", "parameters")
    with files.new_folder(_unit(job, seed), inputs=inputs) as partial:
        if result.model is not None:
            build.save(result.model, tokenizer, partial / "model")
        files.write_json(
            partial / "result.json", {"seed": seed, **{name: getattr(result, name) for name in names}}
        )


def _finish(job: Job, task: Task, told: dict[str, Any]) -> dict[str, Any]:
    """The best student becomes model/; teacher and students are put side by side."""
    results = [files.read_json(_unit(job, seed) / "result.json") for seed in job.training.seeds]
    whole = [one for one in results if not one["failed"]]
    if not whole:
        raise UserError(
            f"every student failed: {results[0]['failure']}",
            where="learning_rate",
            fix="give a lower one with --set learning_rate=...",
        )
    best = max(whole, key=lambda one: one["dev"][task.metric])
    source, model = _unit(job, best["seed"]) / "model", job.out / "model"
    with files.new_folder(model) as partial:
        shutil.copytree(source, partial, dirs_exist_ok=True)
    # A student that failed scores 0, and counts.
    scores = {split: [one[split][task.metric] for one in results] for split in ("dev", "test")}
    std = {split: statistics.stdev(values) if len(values) > 1 else None for split, values in scores.items()}
    kept = ("seed", "failed", "dev", "test", "steps", "best_step", "picked")
    found = {
        "task": task.name,
        "kind": task.kind,
        "metric": task.metric,
        "teacher": _of_teacher(job, task),
        "student": {"parameters": best["parameters"], "bytes": _bytes(model)},
        "transfer": told,
        "settings": job.settings.model_dump(mode="json"),
        "runs": [{key: one[key] for key in kept} for one in results],
        "best": {"seed": best["seed"], **{split: best[split][task.metric] for split in ("dev", "test")}},
        "mean": {split: statistics.fmean(values) for split, values in scores.items()},
        "std": std,
        "model": str(model),
    }
    files.write_json(job.out / "result.json", found)
    return found


def _of_teacher(job: Job, task: Task) -> dict[str, Any]:
    model = teachers.open_teacher(job.teacher, task).model
    scores = {}
    for split in ("dev", "test"):
        examples = task.splits[split]
        rows = teachers.kept_labels(job.teacher, examples, task, job.out / "soft", quiet=True)
        scores[split] = score(task, split, teachers.answers(task.kind, task.labels, rows, examples))
    parameters = sum(weight.numel() for weight in model.parameters())
    return {"folder": str(job.teacher), "parameters": parameters, "bytes": _bytes(job.teacher), **scores}


def _facts(job: Job, task: Task) -> dict[str, Any]:
    """What the students depend on, but the text itself, whose choice is told by the teacher's parcels."""
    return {
        "teacher": teachers.model_identity(job.teacher),
        "student": teachers.model_identity(job.student),
        "task": files.sha256_bytes(repr(task).encode()),
        "text": list(job.text),
        "settings": job.settings.model_dump(mode="json"),
        "training": job.training.facts("seeds", "starts"),
        "code": [code_hash(name) for name in CODE],
    }


def _transfer_facts(found: transfer.Transfer) -> dict[str, Any]:
    new = sum(example.id.startswith(transfer.NEW) for example in found.examples)
    return {
        "unit": found.unit,
        "unlabelled": new,
        "own": len(found.examples) - new,
        **{"read": 0, **dict(sorted(found.counts.items()))},
    }


def _say_what_it_is(found: transfer.Transfer, quiet: bool) -> None:
    if quiet:
        return
    told = _transfer_facts(found)
    out = ", ".join(f"{count} {why}" for why, count in sorted(found.counts.items()) if why != "read")
    unit = f"{found.unit}s" if found.unit else "texts"
    say(
        f"transfer set: {told['unlabelled']} unlabelled {unit} and {told['own']} of the task's own"
        + (f"; left out: {out}" if out else "")
    )


def _so_far(job: Job, metric: str) -> str:
    paths = [_unit(job, seed) / "result.json" for seed in job.training.seeds]
    values = [100 * files.read_json(path)["dev"][metric] for path in paths if path.exists()]
    return f"dev {metric} {statistics.fmean(values):.1f}" if values else ""


def _unit(job: Job, seed: int) -> Path:
    return job.out / "units" / str(seed)


def _is_done(unit: Path, inputs: str) -> bool:
    manifest = files.read_manifest(unit)
    return manifest is not None and manifest.get("inputs") == inputs and not files.problems(unit)


def _differs(path: Path, facts: dict[str, Any]) -> bool:
    try:
        return files.read_json(path) != facts
    except ArtefactError:
        return False


def _digest(rows: np.ndarray) -> str:
    return files.sha256_bytes(np.ascontiguousarray(rows).tobytes())


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
