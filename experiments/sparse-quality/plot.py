"""Validation loss of every variant against tokens and against the dense model's time, and a table.

    python experiments/sparse-quality/plot.py RUN --times times.json --out docs/results/sparse-quality.png

Time is tokens divided by the speed of ``speed.py``, in tokens of the first variant, so that what else the
machine did during the run plays no part.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from wellread import files, recipe
from wellread.guard import guarded

FIRST_TOKENS = 1e6  # before them all curves fall off the page


def curve(run: Path, variant: str) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and validation losses in nats."""
    lines = (run / "stages/pretrain" / variant / "validation.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return np.array([each["tokens"] for each in records]), np.array([each["loss"] for each in records])


def speed(name: str, first: str, measured: dict[str, Any]) -> float:
    """Times as fast as the first variant; what is called like it (dense, dense-short) is as fast."""
    if name == first or name.startswith(f"{first}-"):
        return 1.0
    if name not in measured:
        raise SystemExit(f"{name} was not timed: run speed.py on this run")
    return float(measured[name]["ratio_of_totals"])


def tables(curves: dict[str, Any], speeds: dict[str, float], first: str) -> None:
    """What each variant ends at, and where the dense model's own curve was at that time."""
    print("| variant | tokens | loss | times as fast | time, in dense tokens | dense curve there |")
    print("|---|---|---|---|---|---|")
    for name, (tokens, losses) in curves.items():
        spent = tokens[-1] / speeds[name]
        there = np.interp(spent, *curves[first])
        print(
            f"| {name} | {tokens[-1] / 1e6:.1f}M | {losses[-1]:.3f} | {speeds[name]:.2f} "
            f"| {spent / 1e6:.1f}M | {there:.3f} |"
        )


def draw(run: Path, times: Path, out: Path) -> None:
    """Draw and print."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    told = recipe.load(run / "recipe.toml")
    measured = files.read_json(times)
    first = told.variant_names()[0]
    speeds = {name: speed(name, first, measured) for name in told.variant_names()}
    curves = {name: curve(run, name) for name in told.variant_names()}
    tables(curves, speeds, first)
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.5), sharey=True)
    for name, (tokens, losses) in curves.items():
        shown = tokens >= FIRST_TOKENS
        dashed = "--" if name.startswith(f"{first}-") else "-"
        axes[0].plot(tokens[shown] / 1e6, losses[shown], dashed, label=name)
        axes[1].plot(tokens[shown] / 1e6 / speeds[name], losses[shown], dashed, label=name)
    axes[0].set(xlabel="million tokens", ylabel="validation loss, nats")
    axes[1].set(xlabel=f"training time, in million tokens of {first}")
    axes[0].legend()
    for axis in axes:
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(out, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--times", type=Path, required=True, help="written by speed.py")
    parser.add_argument("--out", type=Path, required=True, help="PNG file")
    given = parser.parse_args()
    draw(given.run, given.times, given.out)


if __name__ == "__main__":
    guarded(main)
