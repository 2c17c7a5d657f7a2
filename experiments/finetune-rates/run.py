"""Which peak learning rate fine-tuning wants, by dev scores alone.

    python experiments/finetune-rates/run.py MODEL --data FOLDER --out WORK \\
        --tasks NAME[:LABELS] ... --rates RATE ... --seeds SEED ...

One line of WORK/runs.jsonl for each run; runs that stand there are not made again.  At the end, or without
--tasks, it prints the table of what is there.  Test sets are not scored.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from wellread import files
from wellread.finetune import grid
from wellread.finetune.data import choose_head, prepare
from wellread.finetune.loop import finetune
from wellread.guard import guarded
from wellread.models import build
from wellread.progress import say
from wellread.settings import FinetuneSettings, TaskSettings
from wellread.tasks.build import build as build_task
from wellread.tasks.read import read_task
from wellread.tasks.subset import subset
from wellread.tasks.task import Task
from wellread.tokens import tokenizer as tokenizers

FOLDERS = {
    "ncbi-disease": "ner_ncbi_disease",
    "bc5cdr-chem": "ner_bc5cdr_chem",
    "bc5cdr-disease": "ner_bc5cdr_disease",
    "bc2gm": "ner_bc2gm",
    "jnlpba": "ner_jnlpba",
    "biosses": "blurb_biosses",
    "bioasq": "blurb_bioasq",
    "chemprot": "scibert_tasks/chemprot",
    "ddi": "blurb_ddi",
    "gad": "blurb_gad",
    "hoc": "blurb_hoc",
    "pubmedqa": "pubmedqa",
}
MAX_LENGTH = 128  # tokens
KEPT = "runs.jsonl"


def main() -> None:
    """Make the runs that are missing, and print the table."""
    given = arguments(__doc__, "--rates")
    for task in given.tasks:
        runs(given.model, given.data, given.out, task, list(product(given.seeds, given.rates)))
    print(table(read(given.out)))


def arguments(described: str, what: str | None = None) -> argparse.Namespace:
    """The command line of one of these studies; option ``what`` lists the numbers that it tries."""
    parser = argparse.ArgumentParser(description=described.split("\n")[0])
    parser.add_argument("model", type=Path, help="checkpoint folder")
    parser.add_argument("--data", type=Path, required=True, help="folder of the tasks' folders")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--tasks", nargs="+", default=[], help=f"NAME or NAME:LABELS, of {', '.join(FOLDERS)}"
    )
    if what:
        parser.add_argument(what, type=float, nargs="*", default=[])
    parser.add_argument("--seeds", type=int, nargs="*", default=[])
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    return given


def runs(model: Path, data: Path, out: Path, asked: str, wanted: list[tuple[int, float]]) -> None:
    """The runs of a task that are not there yet, each appended as it is done."""
    name, _, labels = asked.partition(":")
    budget: Any = int(labels) if labels else "all"
    done = {(line["model"], line["task"], line["seed"], line["rate"]) for line in read(out)}
    left = [pair for pair in wanted if (model.name, asked, *pair) not in done]
    if not left:
        return
    task = task_of(name, data, out)
    tokenizer, layout = tokenizers.load(model), build.load_config(model).model_type
    stated = FinetuneSettings(recipe="stable", max_length=None if name == "biosses" else MAX_LENGTH)
    base = choose_head(stated, task, layout)
    for seed, rate in left:
        settings = base.model_copy(update={"learning_rate": rate})
        train = subset(task, budget, seed)
        encoded = prepare(task, train, tokenizer, grid.longest(model, settings), settings)
        result = finetune(encoded, train, model, tokenizer, settings, seed)
        line = {
            "model": model.name,
            "task": asked,
            "seed": seed,
            "rate": rate,
            "metric": task.metric,
            "dev": result.dev[task.metric],
            "best_step": result.best_step,
            "steps": result.steps,
        }
        say(f"{asked}, rate {rate:g}, seed {seed}: dev {task.metric} {100 * line['dev']:.1f}")
        with (out / KEPT).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(line) + "\n")


def task_of(name: str, data: Path, out: Path) -> Task:
    """A known task, built once under ``out``; all of its test set but one example is left out."""
    folder = out / "tasks" / name
    if not folder.exists():
        settings = TaskSettings(known=name, path=str(data / FOLDERS[name]))
        with files.new_folder(folder) as partial:
            build_task(name, settings, None, data, partial, 0)
    task = read_task(folder, name)
    # What is never looked at need not be predicted: one example stands for the test set.
    return replace(task, splits={**task.splits, "test": task.splits["test"][:1]})


def read(out: Path, kept: str = KEPT) -> list[dict[str, Any]]:
    """The runs that are there."""
    path = out / kept
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown: a line for each model and task, a column for each rate, mean and the seeds' scores on dev."""
    rates = sorted({line["rate"] for line in lines})
    rows = [
        f"| model | task | score | {' | '.join(f'{rate:g}' for rate in rates)} |",
        "|---" * (3 + len(rates)) + "|",
    ]
    for model, task, metric in dict.fromkeys((line["model"], line["task"], line["metric"]) for line in lines):
        cells = []
        for rate in rates:
            found = sorted(
                (line["seed"], 100 * line["dev"])
                for line in lines
                if (line["model"], line["task"], line["rate"]) == (model, task, rate)
            )
            scores = [score for _, score in found]
            each = ", ".join(f"{score:.1f}" for score in scores)
            cells.append(f"{statistics.fmean(scores):.1f} ({each})" if scores else "")
        rows.append(f"| {model} | {task} | {metric} | {' | '.join(cells)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    guarded(main)
