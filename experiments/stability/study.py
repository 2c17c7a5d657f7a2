"""The stability study: each tool alone on the original BERT recipe, and the stable recipe, over many seeds.

    python experiments/stability/study.py MODEL_FOLDER

Every run is a unit of a grid under --out, whole or absent: the same command continues a study.  Finished ones
stand in --results, too, and the study of the same weights goes on from there on another day or machine.
"""

from __future__ import annotations

import argparse
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import summary

from wellread import recipe
from wellread.errors import UserError
from wellread.finetune import grid, stable
from wellread.finetune.similarity import NAME as SIMILARITY
from wellread.guard import guarded
from wellread.progress import say
from wellread.settings import FinetuneSettings, TaskSettings
from wellread.tasks.build import read_source
from wellread.tasks.read import write_task
from wellread.tasks.subset import subset
from wellread.workers import cores

HERE = Path(__file__).parent
STANDARD: dict[str, Any] = {"recipe": "standard"}
STABLE: dict[str, Any] = {"recipe": "stable", "head": "classifier"}


def arms(layers: int) -> dict[str, dict[str, Any]]:
    """Settings of [finetune] by name; each tool alone is ``standard`` with that tool."""
    return {
        "standard": STANDARD,
        "no-warmup": {**STANDARD, "warmup": 0.0},
        "correction": {**STANDARD, "bias_correction": True},
        "longer": {**STANDARD, "epochs": 20, "min_steps": 200},
        "dev-choice": {**STANDARD, "evaluations": 10, "patience": 10},
        "freeze": {**STANDARD, "freeze_layers": layers // 2},
        "layer-decay": {**STANDARD, "layer_decay": 0.95},
        "reinit": {**STANDARD, "reinit_layers": max(1, layers // 6)},
        "swa": {**STANDARD, "average": "swa"},
        "ema": {**STANDARD, "average": "ema"},
        "r-drop": {**STANDARD, "rdrop": 1.0},
        "base-rates": {**STANDARD, "base_rates": True},
        "stable": STABLE,
        "stable-ema": {**STABLE, "average": "ema"},
        "stable-r-drop": {**STABLE, "rdrop": 1.0},
        "stable-similarity": {**STABLE, "head": SIMILARITY},
    }


def run(
    model: Path,
    tasks: dict[str, TaskSettings],
    chosen: dict[str, dict[str, Any]],
    seeds: list[int],
    out: Path,
    results: Path,
) -> None:
    """Do what is left to do; the page is written anew after each arm.

    Args:
        model: checkpoint folder with its tokenizer.
        tasks: by name.
        chosen: arms by name, with their settings of [finetune].
        seeds: of each arm.
        out: folder of the grids.
        results: folder of the page and of the runs of earlier sittings.
    """
    size, weights = stable.size_of(model), summary.weights_of(model)
    rows = summary.earlier(results, weights)
    for name, settings in tasks.items():
        task = read_source(name, settings, HERE)
        task = replace(task, splits={**task.splits, "train": subset(task, settings.budgets[-1], 0)})
        write_task(task, out / "tasks" / name)
        for arm, values in chosen.items():
            if values.get("head") == SIMILARITY and task.kind != "regress":
                continue
            tuning = FinetuneSettings(**{**settings.finetune, **values})
            resolved, _ = stable.resolve(tuning, task.kind, len(task.splits["train"]), size)
            stated = resolved.model_dump(mode="json", exclude={"seeds"}, exclude_defaults=True)
            rows = [row for row in rows if (row.task, row.arm) != (name, arm) or row.settings == stated]
            done = {row.seed for row in rows if (row.task, row.arm) == (name, arm)}
            left = [seed for seed in seeds if seed not in done]
            if left:
                say(f"{name}, {arm}")
                folder = out / "runs" / name / arm
                job = grid.Job(
                    out / "tasks" / name,
                    model,
                    model,
                    tuning.model_copy(update={"seeds": tuple(left)}),
                    ("all",),
                    folder,
                    task_name=name,
                    model_name=arm,
                    start_name="pretrained",
                )
                grid.run(job, threads=cores())
                rows += summary.gather(task, arm, stated, folder, left)
            order = list(arms(size.layers))
            rows.sort(key=lambda row: (row.task, order.index(row.arm), row.seed))
            summary.write(rows, weights, size, results)


def main() -> None:
    """Run the study and write its page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path, help="checkpoint folder with its tokenizer")
    parser.add_argument("--seeds", type=int, default=10, help="runs of each arm on each task")
    parser.add_argument("--tasks", nargs="*", help="names in study.toml; default all")
    parser.add_argument("--arms", nargs="*", help="default all")
    parser.add_argument("--out", type=Path, default=Path("runs/stability"), help="folder of the runs")
    parser.add_argument("--results", type=Path, default=Path("docs/results"), help="folder of the page")
    parser.add_argument("--max-steps", type=int, help="cut every run, to try the study out")
    given = parser.parse_args()
    known = tomllib.loads((HERE / "study.toml").read_text("utf-8"))["tasks"]
    tasks = {name: TaskSettings(**known[name]) for name in pick(known, given.tasks)}
    all_arms = arms(stable.size_of(given.model).layers)
    more = {"max_steps": given.max_steps} if given.max_steps else {}
    chosen = {name: {**all_arms[name], **more} for name in pick(all_arms, given.arms)}
    for name, task in tasks.items():
        recipe.resolve(str(task.path), HERE, f"tasks.{name}.path")
    run(given.model, tasks, chosen, list(range(given.seeds)), given.out, given.results)
    print(given.results / "stability.md")


def pick(known: dict[str, Any], wanted: list[str] | None) -> list[str]:
    """The names wanted, or all.

    Raises:
        UserError: one is not known.
    """
    for name in wanted or []:
        if name not in known:
            raise UserError(f"no {name!r} in the study", fix=f"one of: {', '.join(known)}")
    return wanted or list(known)


if __name__ == "__main__":
    guarded(main)
