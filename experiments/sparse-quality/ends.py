"""Where every variant ends, against tokens and against time; runs of several sittings in one file.

    python experiments/sparse-quality/ends.py RUN RUN ... --record docs/results/sparse-quality-25m.json \
        --out docs/results/sparse-quality-25m-ends.png

Adds the runs' variants to the record (validation losses, tokens, FLOPs), then draws and prints all that it
holds. Its "speeds" say how many times as fast as the dense step each variant's is, by machine (``speed.py``).
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from wellread import files, recipe
from wellread.guard import guarded

DENSE, SHORT = "dense", "dense-short"
Variants = dict[str, dict[str, Any]]


def add(run: Path, variants: Variants) -> None:
    """Put the finished variants of a run among the others."""
    for name in recipe.load(run / "recipe.toml").variant_names():
        folder = run / "stages/pretrain" / name
        if not (folder / "pretrain.json").exists():
            continue
        facts = files.read_json(folder / "pretrain.json")
        lines = [json.loads(line) for line in (folder / "validation.jsonl").read_text().splitlines()]
        variants[name] = {
            "curve": [[line["tokens"], round(line["loss"], 4)] for line in lines],
            "flops": facts["flops"]["accounted"],
        }


def dense_at(tokens: float, variants: Variants) -> float:
    """Loss of a dense run that ends at so many tokens: by their logarithm between the two that there are."""
    (few, high), (many, low) = (variants[name]["curve"][-1] for name in (SHORT, DENSE))
    return low + (high - low) * math.log(many / tokens) / math.log(many / few)


def table(variants: Variants, speeds: dict[str, dict[str, float]]) -> str:
    """A line a variant: its end, and how far dense is ahead (+) or behind (-) at equal tokens and times."""
    heads = [
        "variant",
        "tokens",
        "loss",
        "FLOPs",
        "equal tokens",
        *(f"equal time, {name}" for name in speeds),
    ]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name, facts in variants.items():
        tokens, loss = facts["curve"][-1]
        ahead = [loss - dense_at(tokens, variants)]
        ahead += [loss - dense_at(tokens / of.get(name, 1.0), variants) for of in speeds.values()]
        cells = [f"{one:+.3f}" for one in ahead] if name not in (DENSE, SHORT) else ["-"] * len(ahead)
        lines.append(
            f"| {name} | {tokens / 1e6:.1f}M | {loss:.3f} | {facts['flops']:.3g} | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


def draw(variants: Variants, speeds: dict[str, dict[str, float]], out: Path) -> None:
    """Ends against tokens and against time on each machine; the dashed line joins the dense ones."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = {"million tokens": {}} | {
        f"time on {name}, in million tokens of dense": of for name, of in speeds.items()
    }
    figure, axes = pyplot.subplots(1, len(panels), figsize=(4.6 * len(panels), 4.4), sharey=True)
    for axis, (label, of) in zip(axes, panels.items(), strict=True):
        ends = {name: facts["curve"][-1] for name, facts in variants.items()}
        for number, (name, (tokens, loss)) in enumerate(ends.items()):
            axis.plot(
                tokens / 1e6 / of.get(name, 1.0), loss, "osD^vP*"[number % 7], color=f"C{number}", label=name
            )
        few, many = (ends[name][0] for name in (SHORT, DENSE))
        line = [few * (many / few) ** (step / 20) for step in range(21)]
        axis.plot(
            [x / 1e6 for x in line], [dense_at(x, variants) for x in line], "--", color="grey", zorder=0
        )
        axis.set(xlabel=label)
        axis.grid(alpha=0.3)
    axes[0].set(ylabel="validation loss at the end, nats")
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(out, dpi=110, metadata={"Software": None})


def main() -> None:
    """Add, print and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("--record", type=Path, required=True, help="JSON to add to")
    parser.add_argument("--out", type=Path, required=True, help="PNG file")
    given = parser.parse_args()
    record = files.read_json(given.record)
    for run in given.runs:
        add(run, record["variants"])
    files.write_json(given.record, record)
    print(table(record["variants"], record["speeds"]))
    draw(record["variants"], record["speeds"], given.out)


if __name__ == "__main__":
    guarded(main)
