"""When a run should be stopped, and which moment of it taken, by dev scores alone.

    python experiments/finetune-rates/stopping.py MODEL --data FOLDER --out WORK \\
        --tasks NAME[:LABELS] ... --epochs EPOCHS ... --seeds SEED ...

Every run goes to its end, looked at ten times: on the sample of dev that fine-tuning watches, and on the
rest of dev. What other rules would have stopped and taken is read off afterwards: they choose by the sample
and are judged by the rest. Runs that stand in WORK/stopping.jsonl are not made again; test sets are not
scored. At the end, or without --tasks, it prints the table of what is there.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from run import MAX_LENGTH, arguments, read, task_of

from wellread.evaluate.metrics import score
from wellread.finetune import grid, loop, objective, stable
from wellread.finetune.data import TaskData, choose_head, encode_split, prepare, sample
from wellread.guard import guarded
from wellread.models import build
from wellread.progress import say
from wellread.settings import FinetuneSettings
from wellread.tasks.subset import subset
from wellread.tasks.task import Example
from wellread.tokens import tokenizer as tokenizers

LOOKS = 10
REST = 1_000  # examples of dev, beside those that are watched, that judge
KEPT = "stopping.jsonl"
# Looks in a row without a better one after which a run is stopped, and whether its best or its last is taken.
RULES = {
    "best, patience 3": (3, True),
    "best, patience 5": (5, True),
    "best of ten": (LOOKS, True),
    "the last": (LOOKS, False),
}


def main() -> None:
    """Make the runs that are missing, and print the table."""
    given = arguments(__doc__, "--epochs")
    for task, seed in product(given.tasks, given.seeds):
        runs(given, task, seed)
    print(table(read(given.out, KEPT)))


def runs(given: argparse.Namespace, asked: str, seed: int) -> None:
    """The runs of a task and a seed that are not there yet, each appended as it is done."""
    name, _, labels = asked.partition(":")
    done = {(line["model"], line["task"], line["seed"], line["epochs"]) for line in read(given.out, KEPT)}
    left = [epochs for epochs in given.epochs if (given.model.name, asked, seed, epochs) not in done]
    if not left:
        return
    task = task_of(name, given.data, given.out)
    tokenizer, layout = tokenizers.load(given.model), build.load_config(given.model).model_type
    base = choose_head(FinetuneSettings(recipe="stable", max_length=MAX_LENGTH), task, layout)
    train = subset(task, int(labels) if labels else "all", seed)
    data = prepare(task, train, tokenizer, grid.longest(given.model, base), base)
    watched = {example.id for example in data.watched.examples}
    rest = [example for example in task.splits["dev"] if example.id not in watched]
    rest = sample(task, rest, REST, "stopping-rest")
    for epochs in left:
        changes = {"epochs": epochs, "evaluations": LOOKS, "patience": LOOKS}
        settings = FinetuneSettings.model_validate({**base.model_dump(exclude_unset=True), **changes})
        line = {
            "model": given.model.name,
            "task": asked,
            "seed": seed,
            "epochs": epochs,
            "metric": task.metric,
            "sample": len(watched),
            "rest": len(rest),
            **watch(data, train, rest, given.model, tokenizer, settings, seed),
        }
        say(f"{asked}, {epochs:g} epochs, seed {seed}: {[round(100 * x, 1) for x in line['rest_scores']]}")
        with (given.out / KEPT).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(line) + "\n")


def watch(
    data: TaskData,
    train: list[Example],
    rest: list[Example],
    start: Path,
    tokenizer: Any,
    settings: FinetuneSettings,
    seed: int,
) -> dict[str, Any]:
    """A run to its end: at each look the score on the sample, its loss, and the score on the rest of dev."""
    task = data.task
    settings, _ = stable.resolve(settings, task.kind, len(train), stable.size_of(start))
    steps = loop.steps_of(settings, len(data.sequences(train)))
    marks = {round(steps * (number + 1) / LOOKS) for number in range(LOOKS)}
    held = encode_split(task, rest, tokenizer, grid.longest(start, settings), data.head)
    judge = replace(task, splits={**task.splits, "dev": rest})
    scores: list[float] = []

    def look(model: Any, step: int) -> None:
        if step in marks:
            logits = data.head.logits(model.eval(), held.encoded)
            model.train()
            output = objective.output(task.kind, task.labels, logits, held)
            scores.append(score(judge, "dev", output)[task.metric])

    result = loop.finetune(data, train, start, tokenizer, settings, seed, after=look)
    return {
        "steps": result.steps,
        "failed": result.failed,
        "watched": [moment["dev"] for moment in result.history],
        "watched_loss": [moment["dev_loss"] for moment in result.history],
        "rest_scores": scores,
    }


def taken(line: dict[str, Any], patience: int, best: bool) -> tuple[int, int]:
    """The look whose weights a rule takes, and the look at which it stops."""
    ranks = [(value, -loss) for value, loss in zip(line["watched"], line["watched_loss"], strict=True)]
    found = 0
    for number in range(len(ranks)):
        if ranks[number] > ranks[found]:
            found = number
        if number - found >= patience:
            return found, number
    return (found if best else len(ranks) - 1), len(ranks) - 1


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown: a line for each model, task and number of epochs, a column for each rule."""
    rows = [
        f"| model | task | score | epochs | steps | {' | '.join(RULES)} |",
        "|---" * (5 + len(RULES)) + "|",
    ]
    groups = dict.fromkeys((line["model"], line["task"], line["metric"], line["epochs"]) for line in lines)
    for model, task, metric, epochs in groups:
        found = [
            line for line in lines if (line["model"], line["task"], line["epochs"]) == (model, task, epochs)
        ]
        found.sort(key=lambda line: line["seed"])
        cells = []
        for patience, best in RULES.values():
            moments = [taken(line, patience, best) for line in found]
            scores = [100 * line["rest_scores"][at] for line, (at, _) in zip(found, moments, strict=True)]
            share = statistics.fmean((stop + 1) / LOOKS for _, stop in moments)
            each = ", ".join(f"{value:.1f}" for value in scores)
            cells.append(f"{statistics.fmean(scores):.1f} ({each}); {100 * share:.0f}% of the run")
        steps = round(statistics.fmean(line["steps"] for line in found))
        rows.append(f"| {model} | {task} | {metric} | {epochs:g} | {steps:,} | {' | '.join(cells)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    guarded(main)
