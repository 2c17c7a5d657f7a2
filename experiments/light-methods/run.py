"""Compare light-weight methods with full fine-tuning on clinical notes, under label budgets; resumable.

    python experiments/light-methods/run.py --model CHECKPOINT --data FOLDER --out WORK

Every method gets the same learning rates to choose from, on dev, with seeds that the comparison does not use.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from table import write

from wellread import files
from wellread.evaluate.metrics import score
from wellread.finetune import data, grid, loop
from wellread.finetune.light.methods import METHODS
from wellread.guard import guarded
from wellread.models import build
from wellread.settings import FinetuneSettings, ModelSettings
from wellread.tasks.known import read_known
from wellread.tasks.read import read_task, write_task
from wellread.tasks.subset import subset
from wellread.tokens import tokenizer as tokenizers

TUNING_SEEDS = (100, 101)
EVERY = ("full", *METHODS, "random", "tfidf")  # "random": every weight trained, without pre-training


def main() -> None:
    given = arguments()
    if given.cost:
        print(json.dumps(cost(given, given.cost)))
        return
    torch.set_num_threads(given.threads)
    task = given.out / "task"
    if not (task / "task.toml").exists():
        write_task(read_known("mtsamples", given.data), task)
    for method in given.methods:
        if method == "tfidf":
            tfidf(given)
            continue
        rate = best_rate(given, method)
        run(given, method, rate, given.out / "runs" / method, tuple(range(given.seeds)), given.budgets)
        measured = given.out / "costs" / f"{method}.json"
        if not measured.exists():
            measured.parent.mkdir(exist_ok=True)
            command = [sys.executable, *sys.argv, "--cost", method]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            files.write_json(measured, json.loads(done.stdout.splitlines()[-1]))
    write(given.out, given.results, facts_of(given))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="checkpoint with its tokenizer")
    parser.add_argument("--data", type=Path, required=True, help="folder of mtsamples_test_subset.csv")
    parser.add_argument("--out", type=Path, required=True, help="where the runs are kept")
    parser.add_argument("--results", type=Path, default=Path("docs/results"), help="for table and plot")
    parser.add_argument("--methods", nargs="+", default=EVERY, choices=EVERY)
    parser.add_argument("--budgets", nargs="+", type=budget, default=(40, 100, "all"))
    parser.add_argument("--rates", nargs="+", type=float, default=(1e-4, 3e-4, 1e-3, 3e-3, 1e-2))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=150, help="optimiser steps of a run")
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cost", choices=EVERY, help=argparse.SUPPRESS)
    return parser.parse_args()


def budget(text: str) -> int | str:
    return text if text == "all" else int(text)


def settings_of(given: argparse.Namespace, method: str, rate: float, **changes: Any) -> FinetuneSettings:
    shared = {
        "batch": 16,
        "min_steps": given.steps,
        "max_steps": given.steps,
        "max_length": given.max_length,
        "evaluations": 6,
        "patience": 6,
        "learning_rate": rate,
        "light": {"method": method if method in METHODS else "full"},
    }
    return FinetuneSettings.model_validate(shared | changes)


def start_of(given: argparse.Namespace, method: str) -> Path | ModelSettings:
    """The checkpoint, or for "random" its architecture."""
    if method != "random":
        return given.model
    config = build.load_config(given.model)
    facts = {
        "layout": config.model_type,
        "layers": config.num_hidden_layers,
        "hidden": config.hidden_size,
        "heads": config.num_attention_heads,
        "ffn": getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None),
        "max_length": config.max_position_embeddings,
    }
    return ModelSettings(**facts)


def run(
    given: argparse.Namespace, method: str, rate: float, folder: Path, seeds: tuple, budgets: Any
) -> list[dict[str, Any]]:
    """Results of all runs; those that are done are not done again."""
    grid.run(
        grid.Job(
            given.out / "task",
            start_of(given, method),
            given.model,
            settings_of(given, method, rate, seeds=seeds),
            budgets,
            folder,
            task_name="mtsamples",
            model_name=method,
            start_name="random" if method == "random" else "pretrained",
        ),
        threads=given.threads,
    )
    return [files.read_json(path) for path in sorted((folder / "units").glob("*/result.json"))]


def best_rate(given: argparse.Namespace, method: str) -> float:
    """The rate with the best mean on dev, all examples, over the tuning seeds; a failed run counts 0."""
    chosen = given.out / "rates" / f"{method}.json"
    tried = {}
    for rate in given.rates:
        results = run(given, method, rate, given.out / "tuning" / method / f"{rate:g}", TUNING_SEEDS, ["all"])
        tried[rate] = float(np.mean([0 if one["failed"] else one["dev"]["macro_f1"] for one in results]))
    best = max(tried, key=lambda rate: tried[rate])
    chosen.parent.mkdir(exist_ok=True)
    files.write_json(chosen, {"chosen": best, "dev": {f"{rate:g}": value for rate, value in tried.items()}})
    return best


def tfidf(given: argparse.Namespace) -> None:
    """TF-IDF and logistic regression on the same examples, its strength of regularisation chosen on dev."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    task = read_task(given.out / "task", "mtsamples")
    texts = {split: [example.text for example in task.splits[split]] for split in ("dev", "test")}
    for size in given.budgets:
        for seed in range(given.seeds):
            folder = given.out / "runs" / "tfidf" / "units" / f"rival-{size}-{seed}"
            if folder.exists():
                continue
            began, train = time.monotonic(), subset(task, size, seed)
            words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
            x = words.fit_transform([example.text for example in train])
            best: dict[str, Any] = {"dev": {"macro_f1": -1.0}}
            for strength in (1, 10, 100, 1000):
                model = LogisticRegression(C=strength, max_iter=2000)
                model.fit(x, [task.labels.index(str(example.label)) for example in train])
                found = {}
                for split in ("dev", "test"):
                    output = np.zeros((len(texts[split]), len(task.labels)), dtype=np.float32)
                    output[:, model.classes_] = model.predict_proba(words.transform(texts[split]))
                    found[split] = score(task, split, output)
                if found["dev"]["macro_f1"] > best["dev"]["macro_f1"]:
                    best = {**found, "trainable_parameters": int(model.coef_.size)}
            facts = {"budget": size, "seed": seed, "labels": len(train), "failed": False, **best}
            with files.new_folder(folder) as partial:
                files.write_json(partial / "result.json", facts)
                files.write_json(partial / "costs.json", {"seconds": round(time.monotonic() - began, 3)})


def cost(given: argparse.Namespace, method: str) -> dict[str, float]:
    """Seconds of a step and peak memory above what was there before, in a process of its own, one thread.

    On a CPU processor seconds, which do not depend on what else the machine does.
    """
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    torch.set_num_threads(1)
    task, tokenizer = read_task(given.out / "task", "mtsamples"), tokenizers.load(given.model)
    few = {split: examples[: 218 if split == "train" else 8] for split, examples in task.splits.items()}
    task = replace(task, splits=few)
    start = start_of(given, method)
    settings = settings_of(given, method, 1e-4, evaluations=1)
    prepared = data.prepare(task, few["train"], tokenizer, grid.longest(start, settings))
    before, seconds = psutil.Process().memory_info().rss, {}
    for steps in (3, 5, 20):  # the first warms up
        began = clock()
        short = settings.model_copy(update={"max_steps": steps, "min_steps": steps})
        loop.finetune(prepared, few["train"], start, tokenizer, short, 0)
        seconds[steps] = clock() - began
    peak = psutil.Process().memory_info()
    peak_bytes = getattr(peak, "peak_wset", 0) or _peak_bytes()
    return {"step_seconds": (seconds[20] - seconds[5]) / 15, "memory_bytes": peak_bytes - before}


def _peak_bytes() -> int:
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def facts_of(given: argparse.Namespace) -> dict[str, Any]:
    config = build.load_config(given.model)
    return {
        "layout": config.model_type,
        "layers": config.num_hidden_layers,
        "hidden": config.hidden_size,
        "seeds": given.seeds,
        "steps": given.steps,
        "max_length": given.max_length,
        "rates": list(given.rates),
        "weights_sha256": files.sha256_file(given.model / "model.safetensors"),
    }


if __name__ == "__main__":
    guarded(main)
