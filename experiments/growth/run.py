"""Grown starts against a random one, at equal FLOPs: recipes written, run, and put into one table."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from wellread import api
from wellread.guard import guarded

WIDE = "layers = 4, hidden = 256, heads = 4"
STARTS = {
    "function-preserving": 'grow = "function-preserving"',
    "identity": 'grow = "function-preserving", grow_depth = "identity"',
    "advanced": 'grow = "advanced"',
    "advanced-two-stage": 'grow = "advanced"',
}
RECIPE = """\
name = "growth-{seed}"
seed = {seed}

[corpus]
sources = ["pubmed-sample"]
{corpus}

[tokenizer]
vocab_size = 8192

[model]
layers = 2
hidden = 128
heads = 2
max_length = 256
init_std = 0.088

[pretrain]
tokens = {tokens}
batch_tokens = 2048
optimizer = "muon"
muon_learning_rate = {rate}
learning_rate = 1e-3
embedding_learning_rate = 4e-3
validate_every = {every}

[[variants]]
name = "fresh"
model = {{ {wide}, init_std = 0.0625 }}

[[variants]]
name = "small"
pretrain = {{ tokens = {small_tokens} }}
"""


def write(folder: Path, seed: int, given: argparse.Namespace) -> Path:
    """The recipe of one seed."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = 12_000 if given.smoke else given.tokens
    text = RECIPE.format(
        seed=seed,
        corpus="max_documents = 400" if given.smoke else "",
        tokens=tokens,
        small_tokens=tokens,
        rate=given.rate,
        every=max(1, tokens // 2048 // 20),
        wide=WIDE,
    )
    for name, how in STARTS.items():
        text += f'\n[[variants]]\nname = "{name}"\nmodel = {{ start = "variants.small", {WIDE}, {how} }}\n'
        if name.endswith("two-stage"):
            text += "pretrain = { submodels = 2, submodel_share = 0.2 }\n"
    path = folder / f"growth-{seed}.toml"
    path.write_text(text)
    return path


def curve(folder: Path) -> list[dict[str, Any]]:
    """The validations of one model."""
    return [json.loads(line) for line in (folder / "validation.jsonl").read_text().splitlines()]


def rows(run: Path) -> list[dict[str, Any]]:
    """One row for each start of a run."""
    stages = run / "stages" / "pretrain"
    random = curve(stages / "fresh")
    source = curve(stages / "small")[-1]["flops"]
    goal, total = random[-1]["loss"], random[-1]["flops"]
    found = []
    for name in ("fresh", *STARTS):
        points = curve(stages / name)
        reached = next((point["flops"] for point in points if point["loss"] <= goal), None)
        before = 0.0 if name == "fresh" else source
        found.append(
            {
                "start": name,
                "first": points[0]["loss"],
                "last": points[-1]["loss"],
                "without": None if reached is None else reached / total,
                "with": None if reached is None else (reached + before) / total,
            }
        )
    return found


def table(found: dict[int, list[dict[str, Any]]]) -> str:
    """All seeds in Markdown."""
    lines = [
        "| seed | start | first loss | last loss | FLOPs to random's last loss | with the source's |",
        "|---|---|---|---|---|---|",
    ]
    for seed, of_seed in found.items():
        for row in of_seed:
            shares = ["never" if row[key] is None else f"{row[key]:.2f}" for key in ("without", "with")]
            cells = [str(seed), row["start"], f"{row['first']:.3f}", f"{row['last']:.3f}", *shares]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run all seeds, as far as they are not done, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tokens", type=int, default=4_000_000)
    parser.add_argument("--rate", type=float, default=0.016, help="peak, of Muon")
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    found = {}
    for seed in [0] if given.smoke else given.seeds:
        run = given.out / f"seed-{seed}"
        api.run(write(given.out, seed, given), out=run, until="pretrain")
        found[seed] = rows(run)
    (given.out / "table.md").write_text(table(found))
    print(table(found))


if __name__ == "__main__":
    guarded(main)
