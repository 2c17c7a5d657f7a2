"""Compare frozen embeddings by what was learnt besides masking, with few labels; resumable.

    python experiments/embeddings/run.py --out WORK

All arms but "none" cost the same accounted FLOPs: one that reads more besides reads fewer tokens.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch

import wellread
from wellread import files, recipe
from wellread.evaluate.metrics import score
from wellread.evaluate.rivals import encoder
from wellread.given import checkpoint
from wellread.guard import guarded
from wellread.models import build
from wellread.pretrain import auxiliary
from wellread.pretrain.trial import trial
from wellread.progress import say
from wellread.tasks.read import read_task
from wellread.tasks.subset import subset
from wellread.tokens import tokenizer as tokenizers

ARMS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "mlm": {},
    "contrastive": {"besides": {"contrastive": 1.0}},
    "categories": {"besides": {"categories": 1.0}, "categories": "journal"},
    "replaced-tokens": {"besides": {"replaced-tokens": 50.0}},
    "ngrams": {"masking": {"units": {"ngram": 1.0}, "explicit": True}},
}


def main() -> None:
    given = arguments()
    torch.set_num_threads(given.threads)
    wellread.run(str(given.recipe), out=given.out / "prepared", until="tokens")
    read, stages = recipe.load(given.recipe), given.out / "prepared" / "stages"
    scores: dict[tuple[str, str, int], list[float]] = {}
    for arm in given.arms:
        for seed in range(given.seeds):
            run = given.out / "runs" / f"{arm}-{given.tokens}-{seed}"
            model = model_of(read, stages, run, arm, given.tokens, seed)
            draws = list(range(seed * given.draws, (seed + 1) * given.draws))
            for task, budget, value in probed(read, stages, model, run / "probes.json", given.labels, draws):
                scores.setdefault((arm, task, budget), []).append(value)
        rows = [{"arm": a, "task": t, "labels": n, "scores": found} for (a, t, n), found in scores.items()]
        files.write_json(given.out / "results.json", rows)
    text = table(rows)
    files.write_bytes(given.out / "results.md", text.encode())
    print(text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=Path(__file__).with_name("recipe.toml"))
    parser.add_argument("--out", type=Path, required=True, help="where the runs are kept")
    parser.add_argument("--arms", nargs="+", default=tuple(ARMS), choices=tuple(ARMS))
    parser.add_argument("--tokens", type=int, default=8_000_000, help='read by "mlm"')
    parser.add_argument("--labels", type=int, nargs="+", default=(20, 50, 200), help="of each task")
    parser.add_argument("--seeds", type=int, default=3, help="models of each arm")
    parser.add_argument("--draws", type=int, default=10, help="of the labels, for each model")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def model_of(read: Any, stages: Path, folder: Path, arm: str, tokens: int, seed: int) -> Path:
    """The folder of an arm's model, which is trained unless it is there."""
    model, changes = read.model_for("main"), ARMS[arm]
    if model.start:
        model = model.model_copy(update={"start": str(checkpoint(Path(model.start)))})
    loaded = tokenizers.load(stages / "tokenizer")
    folder.mkdir(parents=True, exist_ok=True)
    if changes is None:
        if model.start:
            return Path(model.start)
        if not (folder / "model").exists():
            build.save(build.build(model, loaded, "mlm", seed), loaded, folder / "model")
        return folder / "model"
    settings = recipe.merge(read.pretrain_for("main"), {"epochs": None, "tokens": tokens, **changes}, arm)
    extra = sum(one.passes for one in auxiliary.make(model, settings, loaded, None, seed))
    settings = settings.model_copy(update={"tokens": round(tokens / (1 + extra))})
    say(f"{arm}, seed {seed}: {settings.tokens:,} tokens")
    if trial(model, settings, stages, folder, seed) is None:
        raise SystemExit(f"{arm}, seed {seed} diverged")
    return folder / "model"


def probed(
    read: Any, stages: Path, model: Path, kept: Path, labels: list[int], draws: list[int]
) -> list[tuple[str, int, float]]:
    """(task, labels, test score) of a logistic regression on the frozen means for each draw of the labels."""
    wanted = [[name, count, draw] for name in read.tasks for count in labels for draw in draws]
    known = files.read_json(kept) if kept.exists() else []
    if [row[:3] for row in known] != wanted:
        frozen, known = encoder.Encoder(model), []
        for name, count, draw in wanted:
            task = read_task(stages / "tasks" / name, name)
            probe = encoder.fit(task, subset(task, count, draw), frozen)
            found = score(task, "test", probe.predict(task.splits["test"]))
            known.append([name, count, draw, found[task.metric]])
        files.write_json(kept, known)
    return [(name, count, value) for name, count, _, value in known]


def table(rows: list[dict[str, Any]]) -> str:
    """Points: the first arm's mean, and of the others the mean and standard error of what they gain over it.

    The draws of the labels are the same for all arms, so the gains are differences of pairs.
    """
    columns = sorted({(row["task"], row["labels"]) for row in rows})
    lines = ["| learnt | " + " | ".join(f"{task}, {labels}" for task, labels in columns) + " |"]
    lines.append("|---|" + "---|" * len(columns))
    found = {(row["arm"], row["task"], row["labels"]): row["scores"] for row in rows}
    first = rows[0]["arm"]
    for arm in dict.fromkeys(row["arm"] for row in rows):
        cells = []
        for at in columns:
            base, own = found[first, *at], found[arm, *at]
            gains = [100 * (one - other) for one, other in zip(own, base, strict=True)]
            error = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
            gained = f"{statistics.mean(gains):+.1f} ± {error:.1f}"
            cells.append(f"{100 * statistics.mean(base):.1f}" if arm == first else gained)
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    guarded(main)
