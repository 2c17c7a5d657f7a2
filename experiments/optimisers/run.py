"""Compare optimisers, schedules and weight averaging, each tuned on the same budget; resumable.

    python experiments/optimisers/run.py --recipe experiments/optimisers/recipe.toml --out WORK

Every arm tries the same number of peak rates with one seed, which the comparison does not use; the best on
the validation text is then run with other seeds.  Tokens, batches and model are the same throughout.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import wellread
from wellread import files, recipe
from wellread.guard import guarded
from wellread.pretrain.trial import trial

TUNING_SEED = 100
ADAMW = tuple({"learning_rate": rate} for rate in (5e-4, 1e-3, 2e-3, 4e-3))
MUON = tuple({"optimizer": "muon", "muon_learning_rate": rate} for rate in (0.005, 0.01, 0.02, 0.04))
CHANGES: dict[str, dict[str, Any]] = {
    "wsd": {},
    "wsd-sqrt": {"schedule": "wsd-sqrt"},
    "cosine": {"schedule": "cosine"},
    "triangular": {"schedule": "triangular"},
    "wsd-ema": {"ema_decay": 0.98},
    "constant-ema": {"decay": 0.01, "ema_decay": 0.98},
}
ARMS = {f"{name}-{change}": (name, change) for name in ("adamw", "muon") for change in CHANGES}


@dataclass(frozen=True)
class Study:
    """What all runs share: the recipe, its token store, where runs are kept, how many tokens they read."""

    recipe: Any
    prepared: Path
    out: Path
    tokens: int


def main() -> None:
    given = arguments()
    torch.set_num_threads(given.threads)
    wellread.run(str(given.recipe), out=given.out / "prepared", until="tokens")
    study = Study(recipe.load(given.recipe), given.out / "prepared" / "stages", given.out, given.tokens)
    rows = []
    for arm in given.arms:
        settings = tuned(study, arm, given.rates)
        if settings is None:
            continue
        runs = [trained(study, arm, settings, seed) for seed in range(given.seeds)]
        rows.append(row(arm, settings, [found for found in runs if found]))
        files.write_json(given.out / "results.json", rows)
    text = table(rows)
    files.write_bytes(given.out / "results.md", text.encode())
    print(text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=Path(__file__).with_name("recipe.toml"))
    parser.add_argument("--out", type=Path, required=True, help="where the runs are kept")
    parser.add_argument("--arms", nargs="+", default=tuple(ARMS), choices=tuple(ARMS))
    parser.add_argument("--tokens", type=int, default=4_000_000, help="of each run")
    parser.add_argument("--rates", type=int, default=len(ADAMW), help="how many rates are tried")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def tuned(study: Study, arm: str, rates: int) -> dict[str, Any] | None:
    """The settings of the arm with the lowest validation loss; None if all runs diverged."""
    name, change = ARMS[arm]
    found = []
    for rate in (ADAMW if name == "adamw" else MUON)[:rates]:
        settings = rate | CHANGES[change]
        result = trained(study, arm, settings, TUNING_SEED)
        if result:
            found.append((result["loss"], settings))
    return min(found, key=lambda pair: pair[0])[1] if found else None


def trained(study: Study, arm: str, settings: dict[str, Any], seed: int) -> dict[str, Any] | None:
    """Loss and seconds of a run, which is made unless it is there; None where it diverged."""
    key = files.sha256_bytes(files.canonical_json([settings, study.tokens, seed]))[:12]
    budget = {"tokens": study.tokens, "epochs": None}
    wanted = recipe.merge(study.recipe.pretrain_for("main"), budget | settings, arm)
    folder = study.out / "runs" / f"{arm}-{key}"
    found = trial(study.recipe.model_for("main"), wanted, study.prepared, folder, seed)
    return {"loss": found.loss, "seconds": found.seconds} if found else None


def row(arm: str, settings: dict[str, Any], runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and spread of an arm's runs."""
    losses = [run["loss"] for run in runs]
    return {
        "arm": arm,
        "settings": settings,
        "runs": len(runs),
        "loss": statistics.fmean(losses) if losses else None,
        "std": statistics.stdev(losses) if len(losses) > 1 else None,
        "seconds": statistics.median(run["seconds"] for run in runs) if runs else None,
    }


def table(rows: Iterable[dict[str, Any]]) -> str:
    """A Markdown table, the lowest loss first; arms without a run last."""
    lines = [
        "| arm | settings | runs | validation loss | std | median seconds |",
        "|---|---|---|---|---|---|",
    ]
    for one in sorted(rows, key=lambda each: (each["loss"] is None, each["loss"])):
        told = ", ".join(f"{key} = {value}" for key, value in one["settings"].items())
        numbers = [f"{one[key]:.4f}" if one[key] is not None else "" for key in ("loss", "std")]
        seconds = f"{one['seconds']:.0f}" if one["seconds"] is not None else ""
        lines.append(f"| {one['arm']} | {told} | {one['runs']} | {' | '.join(numbers)} | {seconds} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    guarded(main)
