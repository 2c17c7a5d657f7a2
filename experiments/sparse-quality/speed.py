"""Seconds of a step of every variant, against the dense step, in alternation in one process.

    python experiments/sparse-quality/speed.py RUN --out times.json

RUN must have its tokens.  The first variant of its recipe is the baseline.  The ratio is of sums, no median:
every hundredth step of RigL moves blocks and takes longer.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from wellread import files, recipe
from wellread.bench import data
from wellread.bench.measure import Call, alternate, compared
from wellread.bench.steps import next_step
from wellread.guard import guarded
from wellread.pretrain.trainer import make_trainer
from wellread.recipe import Recipe
from wellread.stages import stage_folder

WARMUP = 5


def step(told: Recipe, variant: str, prepared: data.Data) -> Call:
    """The next step of a variant, as a run takes it."""
    settings = told.pretrain_for(variant)
    steps = settings.tokens // settings.batch_tokens
    trainer = make_trainer(told.model_for(variant), settings, prepared.tokenizer, steps, told.seed)
    return next_step(trainer, prepared)


def measure(run: Path, rounds: int, out: Path) -> None:
    """Time, print and write."""
    told = recipe.load(run / "recipe.toml")
    torch.set_num_threads(told.threads or 1)
    names = told.variant_names()
    with tempfile.TemporaryDirectory() as scratch:
        prepared = data.load(
            stage_folder(run, "tokens") / "train",
            stage_folder(run, "tokenizer"),
            told.model.max_length,
            told.pretrain.batch_tokens,
            Path(scratch),
        )
        calls = {name: step(told, name, prepared) for name in names}
        first = calls.pop(names[0])
        pairs = alternate(first, calls, rounds=rounds, warmup=WARMUP)
    found = {name: compared(of_one, "step") for name, of_one in pairs.items()}
    files.write_json(out, found)
    print("| variant | times as fast | quartiles | tokens/s | FLOPs a token |")
    print("|---|---|---|---|---|")
    for name, each in found.items():
        low, high = each["spread"]
        flops = each["flops"] / each["tokens"]
        print(
            f"| {name} | {each['ratio_of_totals']:.2f} | {low:.2f}-{high:.2f} "
            f"| {each['tokens_per_second']:,.0f} | {flops:.3g} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--rounds", type=int, default=100, help="steps of each that are counted")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    given = parser.parse_args()
    measure(given.run, given.rounds, given.out)


if __name__ == "__main__":
    guarded(main)
