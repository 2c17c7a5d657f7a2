"""How even the work of a step is over processes, on the real lengths of a token store.

    python benchmarks/exchange.py runs/quickstart/stages/tokens/train

For each setting, over 200 steps: work (accounted FLOPs) of the heaviest process over the mean, mean and worst
step, when the batch is cut in its own order, dealt in columns, dealt in snake order, and exchanged.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from wellread.pretrain.shares import costs
from wellread.settings import ModelSettings
from wellread.tokens.exchange import _snake, exchange, imbalance
from wellread.tokens.packing import plan
from wellread.tokens.store import Store

VOCAB, LEVEL, MASK_RATE = 16384, 0.75, 0.3
STEPS = 200


def columns(work: np.ndarray, ranks: int) -> list[np.ndarray]:
    order = np.argsort(-work, kind="stable")
    return [order[rank::ranks] for rank in range(ranks)]


def main() -> None:
    store = Store.open(Path(sys.argv[1]))
    ways = {
        "cut": lambda work, ranks: np.array_split(np.arange(len(work)), ranks),
        "columns": columns,
        "snake": lambda work, ranks: [np.array(share, int) for share in _snake(work, ranks)],
        "exchange": exchange,
    }
    print("| max_length | processes | batch_tokens | samples |", " | ".join(ways), "| tokens | ms |")
    for longest in (256, 512, 1024):
        table = costs(
            ModelSettings(layers=6, hidden=384, heads=6, max_length=longest), VOCAB, LEVEL, MASK_RATE
        )
        for ranks in (2, 4, 8):
            for each in (2048, 4096, 8192):
                with tempfile.TemporaryDirectory() as folder:
                    packing = plan(store, longest, ranks * each, 2, 0, Path(folder))
                    count = min(STEPS, packing.steps_per_epoch)
                    lengths = [packing.sizes(packing.samples(step)) for step in range(count)]
                cells = []
                for way in ways.values():
                    began = time.perf_counter()
                    shares = [way(table[sizes], ranks) for sizes in lengths]
                    seconds = time.perf_counter() - began
                    ratios = [imbalance(table[s], share) for s, share in zip(lengths, shares, strict=True)]
                    cells.append(f"{np.mean(ratios):.3f} ({max(ratios):.3f})")
                tokens = max(imbalance(s, share) for s, share in zip(lengths, shares, strict=True))
                samples = np.mean([len(sizes) for sizes in lengths])
                print(
                    f"| {longest} | {ranks} | {ranks * each:,} | {samples:.0f} |", " | ".join(cells), end=""
                )
                print(f" | {tokens:.3f} | {1e3 * seconds / count:.2f} |", flush=True)


if __name__ == "__main__":
    main()
