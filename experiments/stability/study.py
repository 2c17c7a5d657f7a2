"""The stability study: each tool alone on the original BERT recipe, and the stable recipe, over many seeds.

    python experiments/stability/study.py MODEL_FOLDER

Every run is a unit of a grid under --out, whole or absent: the same command continues a study.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import summary

from wellread import recipe
from wellread.errors import UserError
from wellread.finetune import grid, stable
from wellread.finetune.similarity import NAME as SIMILARITY
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
        "stable": STABLE,
        "stable-ema": {**STABLE, "average": "ema"},
        "stable-r-drop": {**STABLE, "rdrop": 1.0},
        "stable-similarity": {**STABLE, "head": SIMILARITY},
    }


def run(
    model: Path,
    tasks: dict[str, TaskSettings],
    chosen: dict[str, dict[str, Any]],
    seeds: int,
    out: Path,
    more: dict[str, Any],
) -> list[summary.Row]:
    """Do what is left to do, and gather every run.

    Args:
        model: checkpoint folder with its tokenizer.
        tasks: by name.
        chosen: arms by name.
        seeds: 0, 1, ... below this number.
        out: folder of the grids.
        more: settings of [finetune] for all arms.
    """
    rows = []
    for name, settings in tasks.items():
        task = read_source(name, settings, HERE)
        task = replace(task, splits={**task.splits, "train": subset(task, settings.budgets[-1], 0)})
        write_task(task, out / "tasks" / name)
        for arm, values in chosen.items():
            if values.get("head") == SIMILARITY and task.kind != "regress":
                continue
            tuning = FinetuneSettings(**{"seeds": tuple(range(seeds)), **settings.finetune, **values, **more})
            folder = out / "runs" / name / arm
            say(f"{name}, {arm}")
            grid.run(
                grid.Job(
                    out / "tasks" / name,
                    model,
                    model,
                    tuning,
                    ("all",),
                    folder,
                    task_name=name,
                    model_name=arm,
                    start_name="pretrained",
                ),
                threads=cores(),
            )
            rows += summary.gather(task, arm, folder, tuning.seeds)
    return rows


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
    try:
        size = stable.size_of(given.model)
        known = tomllib.loads((HERE / "study.toml").read_text("utf-8"))["tasks"]
        tasks = {name: TaskSettings(**known[name]) for name in pick(known, given.tasks)}
        all_arms = arms(size.layers)
        chosen = {name: all_arms[name] for name in pick(all_arms, given.arms)}
        for name, task in tasks.items():
            recipe.resolve(str(task.path), HERE, f"tasks.{name}.path")
        more = {"max_steps": given.max_steps} if given.max_steps else {}
        rows = run(given.model, tasks, chosen, given.seeds, given.out, more)
    except UserError as error:
        say(f"Error: {error}")
        sys.exit(2)
    print(summary.write(rows, given.model, size, given.results))


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
    main()
