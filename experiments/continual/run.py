"""How deep the stability gap is, with and without each strategy, at equal tokens.

    python experiments/continual/run.py --general general.txt --field field.jsonl --trusted trusted.txt

A small model is pre-trained on the general text, then goes on in the field as five variants of one recipe.
The table is printed and written to continual.json in the run folder.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from wellread import api
from wellread.guard import guarded

STRATEGIES = {
    "plain": {},
    "subset": {"subset": 0.25},
    "best": {"subset": 0.25, "reference": "trusted"},
    "replay": {"replay": 0.2},
    "all": {"subset": 0.25, "reference": "trusted", "replay": 0.2},
}


def toml(value: object) -> str:
    """A value as TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(one)}" for key, one in value.items()) + "}"
    return json.dumps(value)


def shape(arguments: argparse.Namespace) -> list[str]:
    """[model] of both recipes."""
    size = {"layers": arguments.layers, "hidden": arguments.hidden, "heads": arguments.hidden // 64 or 1}
    lines = [f"{key} = {toml(value)}" for key, value in size.items()]
    return ["[model]", f"layout = {toml(arguments.layout)}", "max_length = 128", *lines]


def rates(arguments: argparse.Namespace) -> list[str]:
    """What [pretrain] of both recipes has in common: Muon, and AdamW for the rest."""
    settings = {
        "batch_tokens": arguments.batch,
        "optimizer": "muon",
        "muon_learning_rate": arguments.rate,
        "learning_rate": 1e-3,
        "embedding_learning_rate": 4e-3,
    }
    return [f"{key} = {toml(value)}" for key, value in settings.items()]


def start(arguments: argparse.Namespace) -> Path:
    """The run that pre-trains the general model."""
    recipe = arguments.out / "continual-start.toml"
    lines = [
        'name = "continual-start"',
        "[corpus]",
        f"sources = {toml(arguments.general)}",
        "[tokenizer]",
        f"vocab_size = {arguments.vocab}",
        *shape(arguments),
        "[pretrain]",
        f"tokens = {arguments.start_tokens}",
        *rates(arguments),
    ]
    recipe.write_text("\n".join(lines) + "\n", "utf-8")
    api.run(str(recipe), out=arguments.out / "continual-start")
    return arguments.out / "continual-start" / "stages"


def field(arguments: argparse.Namespace, before: Path) -> Path:
    """The run that goes on in the field, once for each strategy and seed."""
    recipe = arguments.out / f"continual-{arguments.seed}.toml"
    lines = [
        f'name = "continual-{arguments.seed}"',
        f"seed = {arguments.seed}",
        "[corpus]",
        f"sources = {toml(arguments.field)}",
        "[texts.general]",
        f"sources = {toml(arguments.general)}",
        "validation = 0.02",
        "[texts.trusted]",
        f"sources = {toml(arguments.trusted)}",
        "[tokenizer]",
        f"path = {toml(str((before / 'tokenizer').resolve()))}",
        *shape(arguments),
        f"start = {toml(str((before / 'pretrain' / 'main' / 'model').resolve()))}",
        "[pretrain]",
        f"tokens = {arguments.tokens}",
        *rates(arguments),
        f"validate_every = {max(1, arguments.tokens // arguments.batch // 25)}",
    ]
    for name, strategy in STRATEGIES.items():
        continual = {"general": "general", **strategy}
        lines += ["[[variants]]", f'name = "{name}"', f"pretrain = {{continual = {toml(continual)}}}"]
    recipe.write_text("\n".join(lines) + "\n", "utf-8")
    run = arguments.out / f"continual-{arguments.seed}"
    api.run(str(recipe), out=run)
    return run


def main() -> None:
    """Run all, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--general", nargs="+", required=True)
    parser.add_argument("--field", nargs="+", required=True)
    parser.add_argument("--trusted", nargs="+", required=True)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--layout", default="bert")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--vocab", type=int, default=8192)
    parser.add_argument("--start-tokens", type=int, default=4_000_000)
    parser.add_argument("--tokens", type=int, default=2_000_000)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--rate", type=float, default=0.008, help="peak, of Muon")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for key in ("general", "field", "trusted"):
        setattr(arguments, key, [str(Path(one).absolute()) for one in getattr(arguments, key)])
    run = field(arguments, start(arguments))
    found = {
        name: json.loads((run / "stages" / "pretrain" / name / "pretrain.json").read_text())["continual"]
        for name in STRATEGIES
    }
    (run / "continual.json").write_text(json.dumps(found, indent=1) + "\n")
    print(f"{'strategy':10}{'field: end':>12}{'gap':>8}{'general: end':>14}{'gap':>8}{'rise':>8}")
    for name, curves in found.items():
        own, other = curves["field"], curves["general"]
        print(
            f"{name:10}{own['end']:12.3f}{own['depth']:8.3f}"
            f"{other['end']:14.3f}{other['depth']:8.3f}{other['rise']:8.3f}"
        )


if __name__ == "__main__":
    guarded(main)
