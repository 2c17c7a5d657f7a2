"""Truncation against long inputs on a task whose evidence lies beyond token 512; resumable.

One start, made long once, is fine-tuned with inputs cut at each length: what differs is only how much of a
text is read.  TF-IDF with a linear model reads the same cut texts, to tell where the evidence is.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import make

from wellread import files, given
from wellread.evaluate.rivals.run import run_rivals
from wellread.finetune import grid
from wellread.guard import guarded
from wellread.models.build import load_config, longest
from wellread.models.long.extend import Extension, extend
from wellread.progress import say
from wellread.settings import FinetuneSettings
from wellread.tasks.read import read_task, write_task
from wellread.tasks.task import Task
from wellread.tokens import tokenizer as tokenizers
from wellread.workers import cores


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the full-text articles")
    parser.add_argument("--task", choices=list(make.TASKS), default="placebo")
    parser.add_argument("--model", type=Path, default=Path("wellread-pubmed-mini"))
    parser.add_argument("--out", type=Path, default=Path("runs/long-documents"))
    parser.add_argument("--lengths", nargs="+", type=int, default=[512, 2048, 4096])
    parser.add_argument("--attention", choices=["window", "full", "bigbird"], help="as of `wellread extend`")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--most", type=int, help="examples of each split, for a trial")
    parser.add_argument("--threads", type=int, default=cores(), help="runs side by side")
    parser.add_argument("--set", default="{}", help='more of [finetune] as JSON, e.g. {"epochs": 3}')
    return parser.parse_args()


def prepare(options: argparse.Namespace) -> tuple[Path, Path]:
    """The long start and the task's folder, made where they are not there."""
    short, start = given.checkpoint(options.model), options.out / "start"
    if not (start / "config.json").is_file():
        wanted = Extension(max(options.lengths), options.attention)
        if longest(load_config(short)) >= wanted.length:
            start = short
        else:
            extend(short, start, wanted)
    task = options.out / "tasks" / options.task
    if not (task / "task.toml").is_file():
        source = options.out / "files" / options.task
        counts = make.make(options.data, options.task, tokenizers.load(short), source, options.most)
        files.write_json(source / "counts.json", counts)
        say(json.dumps(counts))
        write_task(read_task(source, options.task), task)
    return start, task


def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All runs; what is done is not done again.  One record a length."""
    start, task = prepare(options)
    metric, records = read_task(task, options.task).metric, []
    for length in options.lengths:
        # No dropout of attention: on CPU it would build every square of scores.
        values = {"recipe": "stable", "dropout": 0.0, **json.loads(options.set)}
        settings = FinetuneSettings(**values, max_length=length, seeds=tuple(range(options.seeds)))
        folder = options.out / "runs" / options.task / str(length)
        names = {"task_name": options.task, "model_name": f"{length} tokens", "start_name": "pretrained"}
        grid.run(grid.Job(task, start, start, settings, ("all",), folder, **names), threads=options.threads)
        units = [folder / "units" / f"pretrained-all-{seed}" for seed in range(options.seeds)]
        found = [files.read_json(unit / "result.json") for unit in units]
        seconds = [files.read_json(unit / "costs.json")["seconds"] for unit in units]
        linear = options.out / "tfidf" / options.task / str(length)
        run_rivals(cut(read_task(task, options.task), start, length), ("tfidf",), ("all",), (0,), linear)
        records.append(
            {
                "tfidf": files.read_json(linear / "units" / "tfidf-all-0" / "result.json")["test"][metric],
                "length": length,
                "metric": metric,
                "test": [result["test"][metric] for result in found],
                "dev": [result["dev"][metric] for result in found],
                "accuracy": [result["test"]["accuracy"] for result in found],
                "cut": found[0]["truncated"],
                "seconds": statistics.fmean(seconds),
            }
        )
        files.write_json(options.out / f"{options.task}.json", {"task": options.task, "rows": records})
    return records


def cut(task: Task, start: Path, length: int) -> Task:
    """The task with every text cut where a model of that length stops reading."""
    tokenizer = tokenizers.load(start)

    def short(text: str) -> str:
        ends = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False, verbose=False)
        offsets = ends["offset_mapping"][: length - tokenizer.num_special_tokens_to_add()]
        return text[: offsets[-1][1]] if offsets else text

    splits = {
        name: [replace(example, text=short(example.text)) for example in examples]
        for name, examples in task.splits.items()
    }
    return replace(task, splits=splits)


def main() -> None:
    rows = run(arguments())
    print(
        "| longest input | texts cut | test (mean ± std) | accuracy | seconds a run | TF-IDF |\n"
        "|---|---|---|---|---|---|"
    )
    for row in rows:
        spread = f" ± {100 * statistics.stdev(row['test']):.1f}" if len(row["test"]) > 1 else ""
        score = f"{row['metric']} {100 * statistics.fmean(row['test']):.1f}{spread}"
        accuracy = 100 * statistics.fmean(row["accuracy"])
        print(
            f"| {row['length']} | {row['cut']} | {score} | {accuracy:.1f} | {row['seconds']:.0f} "
            f"| {100 * row['tfidf']:.1f} |"
        )


if __name__ == "__main__":
    guarded(main)
