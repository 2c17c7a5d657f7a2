"""All the runs of one task from one start: every label budget with every seed, and the best model.

Each run is a unit folder, whole or absent, so a killed grid goes on where it was.  The models of the largest
budget wait in ``candidates/`` until the best on dev is known; it becomes ``model/``, the others go.
"""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from wellread import files
from wellread.errors import RecipeError
from wellread.finetune import stable
from wellread.finetune.data import PAIRED, TaskData, check_head, choose_head, prepare
from wellread.finetune.head import NOTES
from wellread.finetune.light import methods, stored
from wellread.finetune.loop import FinetuneResult, finetune
from wellread.meter import Meter
from wellread.models import build
from wellread.progress import Progress, say
from wellread.serve.cost import of_model
from wellread.settings import Budget, FinetuneSettings, LightSettings, ModelSettings
from wellread.tasks.read import read_task
from wellread.tasks.subset import subset
from wellread.tasks.task import SPLITS, Task
from wellread.tokens import tokenizer as tokenizers
from wellread.workers import share, side_by_side

StartName = Literal["pretrained", "random"]


@dataclass(frozen=True)
class Job:
    """One task from one start.

    Attributes:
        task: folder of the task.
        start: folder of the pre-trained checkpoint, or the architecture to start at random.
        tokenizer: folder of the tokenizer.
        settings: the recipe's [finetune] for this task and model.
        budgets: numbers of training examples; "all" for all.
        folder: where units/START-BUDGET-SEED/ and model/ are made (see docs/architecture.md).
        task_name, model_name: for the results.
        start_name: for the results; "random" takes ``settings.random_learning_rate`` where it is given.
    """

    task: Path
    start: Path | ModelSettings
    tokenizer: Path
    settings: FinetuneSettings
    budgets: Sequence[Budget]
    folder: Path
    task_name: str
    model_name: str
    start_name: StartName


@dataclass(frozen=True)
class Grid(Job):
    """A job with its settings picked and its runs laid out.

    Attributes:
        units: budget and seed of every run.
        inputs: a hash of everything that the runs depend on but their budget and seed.
    """

    units: tuple[tuple[Budget, int], ...]
    inputs: str

    @property
    def largest(self) -> Budget:
        """The budget whose best model is kept."""
        return self.units[-1][0]

    def unit(self, budget: Budget, seed: int) -> Path:
        """Folder of a run's result."""
        return self.folder / "units" / f"{self.start_name}-{budget}-{seed}"

    def candidate(self, seed: int) -> Path:
        """Folder of a run's model until the best one is known."""
        return self.folder / "candidates" / self.unit(self.largest, seed).name


def run(job: Job, *, threads: int = 1, quiet: bool = False) -> None:
    """Fine-tune for every budget and seed that has not been done, then keep the best model.

    Args:
        job: what is fine-tuned on what.
        threads: CPU threads; so many runs go side by side, each in a process; on a GPU one at a time.
        quiet: say nothing.

    Raises:
        UserError: the task, tokenizer or checkpoint cannot be read, or ``finetune.max_length`` or the layers
            to freeze and re-initialise are more than the model has.
    """
    grid, task = _laid_out(job, quiet=quiet)
    # The largest first: small ones fill the gaps at the end.
    left = [unit for unit in reversed(grid.units) if not _is_intact(grid.unit(*unit), inputs=grid.inputs)]
    if left:
        if grid.settings.recipe and not quiet:
            _say_what_is_picked(grid, task)
        _run_units(grid, left, threads, task.metric, quiet=quiet)
    _keep_best(grid, task.metric, quiet=quiet)
    _opened.cache_clear()


def _laid_out(job: Job, *, quiet: bool) -> tuple[Grid, Task]:
    """The job's runs, and its task; what cannot be done is refused here, before any work."""
    longest(job.start, job.settings)
    stable.check(job.settings, stable.size_of(job.start))
    task = read_task(job.task, job.task_name)
    start = job.start
    layout = start.layout if isinstance(start, ModelSettings) else build.load_config(start).model_type
    settings = choose_head(job.settings, task, layout)
    if job.start_name == "random":
        settings = _from_random(settings)
    check_head(settings, task, layout, job.budgets)
    chosen = distinct_budgets(job.budgets, len(task.splits["train"]), quiet=quiet)
    if settings.class_weights and task.kind == "regress" and not quiet:
        say(f"{job.task_name}: finetune.class_weights has no meaning for scores and is ignored")
    grid = Grid(
        **vars(job) | {"settings": settings, "budgets": tuple(job.budgets)},
        units=tuple((budget, seed) for budget in chosen for seed in settings.seeds),
        inputs=_inputs(task, job.start, job.tokenizer, settings),
    )
    return grid, task


def _from_random(settings: FinetuneSettings) -> FinetuneSettings:
    """The settings for a model that starts at random."""
    if settings.random_learning_rate is not None:
        settings = settings.model_copy(update={"learning_rate": settings.random_learning_rate})
    if settings.light.keeps_weights:
        # A frozen body without pre-training would be a straw man.
        settings = settings.model_copy(update={"light": LightSettings()})
    return settings


def _run_units(grid: Grid, left: list[tuple[Budget, int]], threads: int, metric: str, *, quiet: bool) -> None:
    import torch

    workers, each = share(1 if torch.cuda.is_available() else threads, len(grid.units))
    label, total = f"finetune {grid.task_name}/{grid.model_name}", len(grid.units)
    calls = [(grid, *unit) for unit in left]
    with Progress(label, total, "runs", done=total - len(left), quiet=quiet) as progress:
        for _ in side_by_side(_run_unit, calls, workers=workers, threads=each, watch=progress.partly):
            progress.advance(note=_so_far(grid, metric))
    if not quiet:
        _say_what_was_cut(grid)


def _so_far(grid: Grid, metric: str) -> str:
    """Mean and spread on dev of the runs of the largest budget that are done."""
    found = [
        path / "result.json" for path in (grid.unit(*unit) for unit in grid.units if unit[0] == grid.largest)
    ]
    values = [100 * files.read_json(path)["dev"][metric] for path in found if path.exists()]
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"dev {metric} {statistics.fmean(values):.1f}{spread}"


def _say_what_is_picked(grid: Grid, task: Task) -> None:
    if grid.settings.head in PAIRED:
        say(f'{grid.task_name}: pairs are compared token by token (finetune.head = "{grid.settings.head}")')
    size, whole = stable.size_of(grid.start), len(task.splits["train"])
    picks: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for budget in dict.fromkeys(budget for budget, _ in grid.units):
        examples = whole if budget == "all" else budget
        _, picked = stable.resolve(grid.settings, task.kind, examples, size)
        picks.setdefault(repr(picked), (picked, []))[1].append(str(examples))
    for picked, counts in picks.values():
        say(f"{grid.task_name}: {stable.describe(', '.join(counts), size, grid.settings, picked)}")


def distinct_budgets(budgets: Sequence[Budget], train: int, *, quiet: bool) -> list[Budget]:
    """The budgets in growing order; those of the whole training set or more are one, "all"."""
    small = sorted({budget for budget in budgets if budget != "all" and budget < train})
    large = sorted({budget for budget in budgets if budget != "all" and budget >= train})
    if large and not quiet:
        listed = ", ".join(str(budget) for budget in large)
        say(f"budget {listed}: there are {train} training examples; all of them are used")
    return [*small, "all"] if large or "all" in budgets else list(small)


def longest(start: Path | ModelSettings, settings: FinetuneSettings) -> int:
    """Longest sequence in tokens.

    Raises:
        RecipeError: ``finetune.max_length`` is more than the model was built for.
    """
    found = start.max_length if isinstance(start, ModelSettings) else build.longest(build.load_config(start))
    limit = found - methods.added_tokens(settings.light)
    if settings.max_length is not None and settings.max_length > limit:
        raise RecipeError(
            f"the model takes at most {limit} tokens (got {settings.max_length})",
            where="finetune.max_length",
            fix="lower it, leave it out, or "
            + (
                "raise model.max_length"
                if isinstance(start, ModelSettings)
                else "lengthen the checkpoint: `wellread extend`"
            ),
        )
    return settings.max_length or limit


@lru_cache(maxsize=1)
def _opened(grid: Grid) -> tuple[TaskData, Any]:
    """The task, with dev, test and the training examples that some unit wants encoded, and the tokenizer.

    The tokenizer keeps the length, with which its model is saved: inputs are cut there when it is used, too.
    """
    task, loaded = read_task(grid.task, grid.task_name), tokenizers.load(grid.tokenizer)
    loaded.model_max_length = longest(grid.start, grid.settings)
    wanted = {example.id for unit in grid.units for example in subset(task, *unit)}
    train = [example for example in task.splits["train"] if example.id in wanted]
    return prepare(task, train, loaded, loaded.model_max_length, grid.settings), loaded


def _say_what_was_cut(grid: Grid) -> None:
    facts = files.read_json(grid.unit(*grid.units[-1]) / "result.json")
    if facts["truncated"]:
        length = longest(grid.start, grid.settings)
        say(f"{grid.task_name}: {facts['truncated']} inputs longer than {length} tokens are cut")


def _run_unit(grid: Grid, budget: Budget, seed: int) -> None:
    """One run; its model is committed before its result, so a result of the largest budget has a model."""
    data, tokenizer = _opened(grid)
    train = subset(data.task, budget, seed)
    with Meter() as meter:
        result = finetune(data, train, grid.start, tokenizer, grid.settings, seed)
    costs: dict[str, Any] = {"seconds": round(meter.seconds, 3), "peak_memory_bytes": meter.peak_bytes}
    unit = grid.unit(budget, seed)
    if budget == grid.largest and not result.failed:
        with files.new_folder(grid.candidate(seed), unit=unit.name, inputs=grid.inputs) as partial:
            if data.head.save is not None:
                data.head.save(result.model, tokenizer, partial)
            else:
                stored.save(result.model, tokenizer, partial, grid.settings.light)
            if data.head.notes is not None:
                files.write_json(partial / NOTES, data.head.notes)
        costs |= of_model(grid.candidate(seed), data.task)
    with files.new_folder(unit, inputs=grid.inputs) as partial:
        for split in ("dev", "test"):
            _write_output(data.task, split, getattr(result, f"{split}_output"), partial)
        files.write_json(partial / "result.json", _facts(grid, budget, seed, result))
        files.write_json(partial / "costs.json", costs)


def _facts(grid: Grid, budget: Budget, seed: int, result: FinetuneResult) -> dict[str, Any]:
    copied = (
        *("failed", "failure", "labels", "picked", "truncated", "dev", "test"),
        *("steps", "best_step", "history", "parameters", "trainable_parameters"),
    )
    return {
        "task": grid.task_name,
        "model": grid.model_name,
        "start": grid.start_name,
        "budget": budget,
        "seed": seed,
        "method": grid.settings.light.method,
        # Gradients and Adam's two moments, four bytes each.
        "training_bytes": 12 * result.trainable_parameters,
        **{name: getattr(result, name) for name in copied},
    }


def _write_output(task: Task, split: str, output: Any, folder: Path) -> None:
    """Predictions in the order of the split."""
    if task.kind != "tag":
        with open(folder / f"{split}_scores.npy", "wb") as stream:
            np.save(stream, output, allow_pickle=False)
        return
    with open(folder / f"{split}_tags.jsonl", "w", encoding="utf-8") as lines:
        for example, tags in zip(task.splits[split], output, strict=True):
            lines.write(json.dumps({"id": example.id, "tags": tags}, ensure_ascii=False) + "\n")


def _is_intact(folder: Path, **facts: Any) -> bool:
    """Whether a folder was committed with these facts and has not changed since."""
    manifest = files.read_manifest(folder)
    if manifest is None or any(manifest.get(name) != value for name, value in facts.items()):
        return False
    found = files.problems(folder)
    if found:
        say(f"{folder.name} is damaged and will be made anew: {found[0]}")
    return not found


def _keep_best(grid: Grid, metric: str, *, quiet: bool) -> None:
    """Make the best model of the largest budget ``model/``; between equals the first seed wins."""
    model = grid.folder / "model"
    results = {
        seed: files.read_json(grid.unit(grid.largest, seed) / "result.json") for seed in grid.settings.seeds
    }
    whole = [seed for seed, result in results.items() if not result["failed"]]
    if not whole:
        shutil.rmtree(model, ignore_errors=True)
        if not quiet:
            say(f"{grid.task_name}: all runs of the largest budget failed; there is no model to keep")
        return
    best = max(whole, key=lambda seed: results[seed]["dev"][metric])
    facts = {"unit": grid.unit(grid.largest, best).name, "inputs": grid.inputs}
    if not _is_intact(model, **facts):
        candidate = grid.candidate(best)
        if not _is_intact(candidate, **facts):
            _run_unit(grid, grid.largest, best)
        shutil.rmtree(model, ignore_errors=True)
        candidate.rename(model)
    shutil.rmtree(grid.folder / "candidates", ignore_errors=True)


def _inputs(task: Task, start: Path | ModelSettings, tokenizer: Path, settings: FinetuneSettings) -> str:
    """A hash of all that the runs depend on but the code, which the stage's fingerprint covers."""
    examples = [[split, [repr(example) for example in task.splits[split]]] for split in SPLITS]
    begin: Any = start.model_dump(mode="json") if isinstance(start, ModelSettings) else _hashes(start)
    used = settings.facts("seeds", "starts", "random_learning_rate")
    facts = [task.kind, task.labels, task.metric, examples, begin, _hashes(tokenizer), used]
    return files.sha256_bytes(files.canonical_json(facts))


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.name: files.sha256_file(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name not in (files.MANIFEST, "costs.json")
    }
