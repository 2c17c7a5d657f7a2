"""What the best valid tags gain over the best tag of each word, on the same logits of dev.

    python experiments/finetune-rates/decoding.py MODEL --data FOLDER --out WORK \\
        --tasks NAME[:LABELS] ... --seeds SEED ...

Each run is the stable recipe to its end; its logits of the whole of dev are read in both ways. Runs that
stand in WORK/decoding.jsonl are not made again; test sets are not scored. At the end, or without --tasks, it
prints the table of what is there.
"""

from __future__ import annotations

import argparse
import json
import statistics
from itertools import product
from typing import Any

import numpy as np
from run import MAX_LENGTH, arguments, read, task_of

from wellread.evaluate.metrics import score
from wellread.finetune import grid, loop, objective
from wellread.finetune.data import choose_head, prepare
from wellread.finetune.objective import Split
from wellread.guard import guarded
from wellread.models import build, packed
from wellread.progress import say
from wellread.settings import FinetuneSettings
from wellread.tasks.examples import iob2_tags
from wellread.tasks.subset import subset
from wellread.tokens import tokenizer as tokenizers

KEPT = "decoding.jsonl"
NAMES = ("entity_f1", "entity_precision", "entity_recall")


def main() -> None:
    """Make the runs that are missing, and print the table."""
    given = arguments(__doc__)
    for task, seed in product(given.tasks, given.seeds):
        run(given, task, seed)
    print(table(read(given.out, KEPT)))


def run(given: argparse.Namespace, asked: str, seed: int) -> None:
    """One model and its two readings, appended unless they are there."""
    if any(
        (line["model"], line["task"], line["seed"]) == (given.model.name, asked, seed)
        for line in read(given.out, KEPT)
    ):
        return
    name, _, labels = asked.partition(":")
    task = task_of(name, given.data, given.out)
    tokenizer, layout = tokenizers.load(given.model), build.load_config(given.model).model_type
    settings = choose_head(FinetuneSettings(recipe="stable", max_length=MAX_LENGTH), task, layout)
    train = subset(task, int(labels) if labels else "all", seed)
    data = prepare(task, train, tokenizer, grid.longest(given.model, settings), settings)
    result = loop.finetune(data, train, given.model, tokenizer, settings, seed)
    dev = data.splits["dev"]
    packed.enable(result.model)
    logits = data.head.logits(result.model, dev.encoded)
    rows = each_alone(task.labels, logits, dev)
    line = {
        "model": given.model.name,
        "task": asked,
        "seed": seed,
        "steps": result.steps,
        "examples": len(dev.examples),
        "sentences that were not valid": sum(list(iob2_tags(row)) != row for row in rows),
        "alone": readings(task, [list(iob2_tags(row)) for row in rows]),
        "best valid": readings(task, objective.output("tag", task.labels, logits, dev)),
    }
    say(f"{asked}, seed {seed}: {line['alone'][NAMES[0]]:.4f}, {line['best valid'][NAMES[0]]:.4f}")
    with (given.out / KEPT).open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(line) + "\n")


def each_alone(labels: tuple[str, ...], logits: np.ndarray, split: Split) -> list[list[str]]:
    """The best tag of every word, whatever stands before it; "O" for words without a piece."""
    rows = [["O"] * len(example.tokens) for example in split.examples]
    owners, best = objective.word_inputs(split.encoded), logits.argmax(axis=1)
    for owner, word, label in zip(owners, split.encoded.word_numbers, best, strict=True):
        rows[owner][word] = labels[label]
    return rows


def readings(task: Any, output: list[list[str]]) -> dict[str, float]:
    """The scores of dev by name."""
    found = score(task, "dev", output)
    return {name: found[name] for name in NAMES}


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown: a line for each model and task, means over the seeds."""
    rows = [
        "| model | task | seeds | not valid | each word alone: F1 | P | R | best valid: F1 | P | R | gains |",
        "|---" * 11 + "|",
    ]
    for model, task in dict.fromkeys((line["model"], line["task"]) for line in lines):
        found = sorted(
            (line for line in lines if (line["model"], line["task"]) == (model, task)),
            key=lambda line: line["seed"],
        )
        share = statistics.fmean(line["sentences that were not valid"] / line["examples"] for line in found)
        cells = [
            f"{100 * statistics.fmean(line[way][name] for line in found):.1f}"
            for way in ("alone", "best valid")
            for name in NAMES
        ]
        gains = ", ".join(
            f"{100 * (one['best valid'][NAMES[0]] - one['alone'][NAMES[0]]):+.1f}" for one in found
        )
        rows.append(
            f"| {model} | {task} | {len(found)} | {100 * share:.1f}% | {' | '.join(cells)} | {gains} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    guarded(main)
