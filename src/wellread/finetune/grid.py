"""All the runs of one task from one start: every label budget with every seed, and the best model.

Each run is a unit folder, whole or absent, so a killed grid goes on where it was.  The models of the largest
budget wait in ``candidates/`` until the best on dev is known; it becomes ``model/``, the others go.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from wellread import files
from wellread.errors import RecipeError
from wellread.finetune.data import TaskData, prepare
from wellread.finetune.loop import FinetuneResult, finetune
from wellread.models import build
from wellread.progress import Progress, say
from wellread.settings import Budget, FinetuneSettings, ModelSettings
from wellread.tasks.read import read_task
from wellread.tasks.subset import subset
from wellread.tasks.task import SPLITS, Task
from wellread.tokens import tokenizer as tokenizers

StartName = Literal["pretrained", "random"]


@dataclass(frozen=True)
class Grid:
    """What all the runs of a grid share.

    Attributes:
        task: as read.
        start: checkpoint folder, or the architecture to start at random.
        tokenizer: loaded.
        settings: with the learning rate of this start.
        folder: where units/ and model/ are made.
        names: of task, model and start, for the results.
        largest: the budget whose best model is kept.
        inputs: a hash of everything that the runs depend on but their budget and seed.
    """

    task: Task
    start: Path | ModelSettings
    tokenizer: Any
    settings: FinetuneSettings
    folder: Path
    names: dict[str, str]
    largest: Budget
    inputs: str

    def unit(self, budget: Budget, seed: int) -> Path:
        """Folder of a run's result."""
        return self.folder / "units" / f"{self.names['start']}-{budget}-{seed}"

    def candidate(self, seed: int) -> Path:
        """Folder of a run's model until the best one is known."""
        return self.folder / "candidates" / self.unit(self.largest, seed).name


def run(
    task: Path,
    start: Path | ModelSettings,
    tokenizer: Path,
    settings: FinetuneSettings,
    budgets: Sequence[Budget],
    folder: Path,
    *,
    task_name: str,
    model_name: str,
    start_name: StartName,
    quiet: bool = False,
) -> None:
    """Fine-tune for every budget and seed that has not been done, then keep the best model.

    Args:
        task: folder of the task.
        start: folder of the pre-trained checkpoint, or the architecture to start at random.
        tokenizer: folder of the tokenizer.
        settings: the recipe's [finetune] for this task and model.
        budgets: numbers of training examples; "all" for all.
        folder: where units/START-BUDGET-SEED/ and model/ are made (see docs/architecture.md).
        task_name: name in the results.
        model_name: name in the results.
        start_name: name in the results; "random" takes ``settings.random_learning_rate`` where it is given.
        quiet: say nothing.

    Raises:
        UserError: the task, tokenizer or checkpoint cannot be read, or ``finetune.max_length`` is more than
            the model can take.
    """
    if start_name == "random" and settings.random_learning_rate is not None:
        settings = settings.model_copy(update={"learning_rate": settings.random_learning_rate})
    longest(start, settings)  # refuse what cannot be done before any work
    parsed = read_task(task, task_name)
    chosen = distinct_budgets(budgets, len(parsed.splits["train"]), quiet=quiet)
    grid = Grid(
        task=parsed,
        start=start,
        tokenizer=tokenizers.load(tokenizer),
        settings=settings,
        folder=folder,
        names={"task": task_name, "model": model_name, "start": start_name},
        largest=chosen[-1],
        inputs=_inputs(parsed, start, tokenizer, settings),
    )
    units = [(budget, seed) for budget in chosen for seed in settings.seeds]
    left = [unit for unit in units if not _is_done(grid, *unit)]
    if left:
        data = _prepare(grid, left, quiet=quiet)
        label = f"finetune {task_name}/{model_name}"
        with Progress(label, len(units), "runs", done=len(units) - len(left), quiet=quiet) as progress:
            for budget, seed in left:
                _run_unit(grid, data, budget, seed)
                progress.advance()
    _keep_best(grid, quiet=quiet)


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
    if isinstance(start, ModelSettings):
        limit = start.max_length
    else:
        limit = int(build.load_config(start).max_position_embeddings)
    if settings.max_length is not None and settings.max_length > limit:
        raise RecipeError(
            f"the model takes at most {limit} tokens (got {settings.max_length})",
            where="finetune.max_length",
            fix="lower it, or leave it out",
        )
    return settings.max_length or limit


def _prepare(grid: Grid, units: list[tuple[Budget, int]], *, quiet: bool) -> TaskData:
    """Encode dev, test and the training examples that some unit wants."""
    wanted = {example.id for unit in units for example in subset(grid.task, *unit)}
    train = [example for example in grid.task.splits["train"] if example.id in wanted]
    length = longest(grid.start, grid.settings)
    data = prepare(grid.task, train, grid.tokenizer, length)
    cut = {name: int(data.splits[name].encoded.truncated.sum()) for name in SPLITS}
    if any(cut.values()) and not quiet:
        counts = ", ".join(f"{cut[name]} of {len(data.splits[name].examples)} in {name}" for name in SPLITS)
        say(f"{grid.task.name}: inputs longer than {length} tokens are cut: {counts}")
    if grid.settings.class_weights and grid.task.kind == "regress" and not quiet:
        say(f"{grid.task.name}: finetune.class_weights has no meaning for scores and is ignored")
    return data


def _run_unit(grid: Grid, data: TaskData, budget: Budget, seed: int) -> None:
    """One run; its model is committed before its result, so a result of the largest budget has a model."""
    began = time.monotonic()
    train = subset(grid.task, budget, seed)
    result = finetune(data, train, grid.start, grid.tokenizer, grid.settings, seed)
    unit = grid.unit(budget, seed)
    if budget == grid.largest and not result.failed:
        with files.new_folder(grid.candidate(seed), unit=unit.name, inputs=grid.inputs) as partial:
            build.save(result.model, grid.tokenizer, partial)
    with files.new_folder(unit, inputs=grid.inputs) as partial:
        for split in ("dev", "test"):
            _write_output(grid.task, split, getattr(result, f"{split}_output"), partial)
        files.write_json(partial / "result.json", _facts(grid, budget, seed, result))
        files.write_json(partial / "costs.json", {"seconds": round(time.monotonic() - began, 3)})


def _facts(grid: Grid, budget: Budget, seed: int, result: FinetuneResult) -> dict[str, Any]:
    copied = ("failed", "failure", "labels", "truncated", "dev", "test", "steps", "best_step", "history")
    return {
        **grid.names,
        "budget": budget,
        "seed": seed,
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


def _is_done(grid: Grid, budget: Budget, seed: int) -> bool:
    return _is_intact(grid.unit(budget, seed), inputs=grid.inputs)


def _is_intact(folder: Path, **facts: Any) -> bool:
    """Whether a folder was committed with these facts and has not changed since."""
    manifest = files.read_manifest(folder)
    if manifest is None or any(manifest.get(name) != value for name, value in facts.items()):
        return False
    found = files.problems(folder)
    if found:
        say(f"{folder.name} is damaged and will be made anew: {found[0]}")
    return not found


def _keep_best(grid: Grid, *, quiet: bool) -> None:
    """Make the best model of the largest budget ``model/``; between equals the first seed wins."""
    metric, model = grid.task.metric, grid.folder / "model"
    results = {
        seed: files.read_json(grid.unit(grid.largest, seed) / "result.json") for seed in grid.settings.seeds
    }
    whole = [seed for seed, result in results.items() if not result["failed"]]
    if not whole:
        shutil.rmtree(model, ignore_errors=True)
        if not quiet:
            say(f"{grid.task.name}: all runs of the largest budget failed; there is no model to keep")
        return
    best = max(whole, key=lambda seed: results[seed]["dev"][metric])
    facts = {"unit": grid.unit(grid.largest, best).name, "inputs": grid.inputs}
    if not _is_intact(model, **facts):
        candidate = grid.candidate(best)
        if not _is_intact(candidate, **facts):
            data = _prepare(grid, [(grid.largest, best)], quiet=True)
            _run_unit(grid, data, grid.largest, best)
        shutil.rmtree(model, ignore_errors=True)
        candidate.rename(model)
    shutil.rmtree(grid.folder / "candidates", ignore_errors=True)


def _inputs(task: Task, start: Path | ModelSettings, tokenizer: Path, settings: FinetuneSettings) -> str:
    """A hash of all that the runs depend on but the code, which the stage's fingerprint covers."""
    examples = [[split, [repr(example) for example in task.splits[split]]] for split in SPLITS]
    begin: Any = start.model_dump(mode="json") if isinstance(start, ModelSettings) else _hashes(start)
    used = settings.model_dump(mode="json", exclude={"seeds", "starts", "random_learning_rate"})
    facts = [task.kind, task.labels, task.metric, examples, begin, _hashes(tokenizer), used]
    return files.sha256_bytes(files.canonical_json(facts))


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.name: files.sha256_file(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name not in (files.MANIFEST, "costs.json")
    }
