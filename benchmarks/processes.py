"""Tokens per second of pre-training in one process and in two, one thread each, taken in turns.

    python benchmarks/processes.py [--json] [--layers 4] [--hidden 256] [--steps 8] [--rounds 3]

The text is made up, with lengths like those of abstracts.  Counted are the seconds in training steps, the
first two of each run left out; starting the processes, validation and saving are not.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch

from wellread.pretrain import processes
from wellread.settings import ModelSettings, PretrainSettings, SparsitySettings, TokenizerSettings
from wellread.tokens import store, tokenizer

WARM_UP = 2
LENGTH = 512


def make_text(folder: Path, tokens: int, vocab: int) -> None:
    """A tokenizer, and stores for training and validation, of made-up words."""
    generator = np.random.default_rng(0)
    words = ["".join(generator.choice(list("abcdefghijklmnop"), 6)) for _ in range(2 * vocab)]
    lengths = generator.lognormal(5.4, 0.5, tokens // 150).clip(8, 400).astype(int)
    texts = [" ".join(generator.choice(words, length)) for length in lengths]
    settings = TokenizerSettings(vocab_size=vocab, min_frequency=1)
    tokenizer.train(texts, settings, folder / "tokenizer", max_length=LENGTH, quiet=True, causal=False)
    for split, rows in (("train", texts[4:]), ("valid", texts[:4])):
        pairs = [(str(number), text) for number, text in enumerate(rows)]
        store.build(pairs, folder / "tokenizer", folder / "tokens" / split, processes=1, quiet=True)


def speed(job: processes.Job, count: int) -> float:
    """Tokens per second of one run, once warm."""
    job.folder.mkdir()
    processes.run(job, count)
    tokens, seconds = (
        [json.loads(line)[key] for line in (job.folder / name).read_text().splitlines()]
        for name, key in (("log.jsonl", "tokens"), ("timing.jsonl", "seconds"))
    )
    return (tokens[-1] - tokens[WARM_UP - 1]) / (seconds[-1] - seconds[WARM_UP - 1])


def measure(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    make_text(folder, options.steps * options.batch_tokens, options.vocab)
    speeds: dict[int, list[float]] = {1: [], options.processes: []}
    for number in range(options.rounds):
        for count in speeds:
            job = processes.Job(
                ModelSettings(
                    layers=options.layers,
                    hidden=options.hidden,
                    heads=options.hidden // 64,
                    max_length=LENGTH,
                ),
                PretrainSettings(
                    tokens=options.steps * options.batch_tokens,
                    batch_tokens=options.batch_tokens,
                    checkpoint_seconds=1e9,
                    validate_every=10**6,
                    sparsity=SparsitySettings(level=options.level, pattern=options.pattern),
                ),
                tokens=folder / "tokens",
                tokenizer=folder / "tokenizer",
                folder=folder / f"{number}-{count}",
                seed=0,
                quiet=True,
                threads=1,
            )
            speeds[count].append(speed(job, count))
    many = speeds[options.processes]
    ratios = [more / one for one, more in zip(speeds[1], many, strict=True)]
    return {
        "name": "pretrain processes",
        "processes": options.processes,
        "threads": 1,
        "shape": [options.layers, options.hidden, options.vocab, options.batch_tokens],
        "sparsity": options.level,
        "pattern": options.pattern if options.level else "dense",
        "tokens_per_second": {str(count): round(statistics.median(found)) for count, found in speeds.items()},
        "ratio": round(statistics.median(ratios), 3),
        "spread": [round(min(ratios), 3), round(max(ratios), 3)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--vocab", type=int, default=8192)
    parser.add_argument("--batch-tokens", type=int, default=8192)
    parser.add_argument("--level", type=float, default=0.0, help="share of zeros")
    parser.add_argument("--pattern", default="unstructured")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        record = measure(options, Path(folder))
    if options.json:
        print(json.dumps([record], indent=1))
    else:
        low, high = record["spread"]  # type: ignore[misc]
        each = ", ".join(f"{n} x 1: {s}" for n, s in record["tokens_per_second"].items())  # type: ignore[attr-defined]
        print(f"{each} tokens/s, {record['ratio']} times [{low}, {high}]")


if __name__ == "__main__":
    main()
