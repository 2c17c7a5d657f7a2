"""What few sizes of products, one pass for gate and dropout, and bfloat16 attention save a fine-tuning step.

    python benchmarks/finetune_step.py [MODEL] [--steps 60] [--batch 32] [--words 27]

Forward and backward of a classifier on batches of made-up texts of about so many words, one thread, the
contenders in turn on the same batch in one process.  The ratio is the median over the batches of the plain
time by its own.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch

from wellread import given as models
from wellread.models import dropout, fused, heads, packed
from wellread.precision import autocast, fast_bfloat16, widened
from wellread.sparsity.kernels import build as kernels
from wellread.tokens import tokenizer as tokenizers
from wellread.tokens.batch import PackedBatch, pack

GATE = fused.gated_gelu


def apart(halves: torch.Tensor, rate: float = 0.0) -> torch.Tensor:
    """Gate and dropout one after the other, in float32."""
    return dropout.dropout(GATE(widened(halves)), rate)


def as_they_come(rows: int, _device: object) -> int:
    """Products of any number of rows."""
    return rows


@contextmanager
def contender(*, rows: bool, gate: bool, attention: bool = False):
    """Steps with or without each of them."""
    changes = [] if rows else [mock.patch.object(packed, "common_rows", as_they_come)]
    changes += [] if gate else [mock.patch.object(fused, "gated_gelu", apart)]
    changes += [] if attention else [mock.patch.object(kernels, "fast_bfloat16", lambda: False)]
    for change in changes:
        change.start()
    try:
        yield
    finally:
        for change in changes:
            change.stop()


CONTENDERS: dict[str, Callable] = {
    "plain": lambda: contender(rows=False, gate=False),
    "few sizes": lambda: contender(rows=True, gate=False),
    "gate with dropout": lambda: contender(rows=False, gate=True),
    "both": lambda: contender(rows=True, gate=True),
    "both, and attention": lambda: contender(rows=True, gate=True, attention=True),
}


def step(model: torch.nn.Module, batch: PackedBatch) -> float:
    """Seconds of a pass there and back."""
    began = time.perf_counter()
    with autocast("bf16", "cpu"):
        loss = heads.sequence_logits(model, batch).float().square().mean()
    loss.backward()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="wellread-pubmed-mini")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--words", type=int, default=27)
    given = parser.parse_args()
    if not fast_bfloat16("cpu"):
        raise SystemExit("this processor has no fast bfloat16, and fine-tunes in float32")
    torch.set_num_threads(1)
    folder = models.checkpoint(Path(given.model))
    model = heads.task_model(folder, tokenizers.load(folder), "classify", ("no", "yes"), dropout=0.1, seed=0)
    packed.enable(model.train())
    random = torch.Generator().manual_seed(0)
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for number in range(given.steps + 5):
        lengths = torch.poisson(torch.full((given.batch,), given.words * 1.3), generator=random).int() + 2
        texts = [torch.randint(5, 8000, (int(n),), generator=random).tolist() for n in lengths]
        batch = pack(texts)
        for name, contending in CONTENDERS.items():
            model.zero_grad()
            with contending():
                spent = step(model, batch)
            if number >= 5:
                seconds[name].append(spent)
    print("| contender | ms a step | times as fast as plain, median (quartiles) |\n|---|---|---|")
    for name, spent in seconds.items():
        ratios = [plain / own for plain, own in zip(seconds["plain"], spent, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"| {name} | {1000 * statistics.median(spent):.0f} | {middle:.2f} ({low:.2f} to {high:.2f}) |")


if __name__ == "__main__":
    main()
