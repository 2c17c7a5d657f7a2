"""Quantised decoders at many temperatures, against the float32 model.

python experiments/quantise-temperature/run.py DECODER_FOLDER TEXTS.txt --out FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wellread import files, rng
from wellread.compress.quantise.quantise import quantise_weights
from wellread.compress.quantise.settings import QuantiseSettings
from wellread.errors import DataError
from wellread.guard import guarded
from wellread.models import build
from wellread.progress import say
from wellread.tokens import tokenizer as tokenizers

FORMATS: dict[str, dict[str, Any]] = {
    "int8": {"method": "int8"},
    "nf4": {"method": "nf4"},
    "nf4-double": {"method": "nf4", "double": True},
    "fp4": {"method": "fp4"},
    "fp4-double": {"method": "fp4", "double": True},
}
TEMPERATURES = tuple(round(0.1 * step, 1) for step in range(1, 11))
CONTEXT = 16  # tokens of a text that a continuation begins with


def windows(folder: Path, texts: Path, length: int, count: int) -> Tensor:
    """(N, length) token ids: the beginnings of the first texts that are long enough."""
    tokenizer = tokenizers.load(folder)
    rows: list[list[int]] = []
    for line in texts.read_text("utf-8").splitlines():
        ids = tokenizer(line, add_special_tokens=False)["input_ids"][:length]
        if len(ids) == length:
            rows.append(ids)
        if len(rows) == count:
            break
    if not rows:
        raise DataError(f"no text of {length} tokens", where=str(texts), fix="give longer texts")
    return torch.tensor(rows)


@torch.inference_mode()
def divergences(exact: Tensor, model: Any, ids: Tensor, temperatures: tuple[float, ...]) -> list[float]:
    """Mean KL(p || q) at each temperature; ``exact`` are the (N, L, V) logits of the float32 model."""
    logits = model(input_ids=ids).logits
    found = []
    for temperature in temperatures:
        p = torch.log_softmax(exact / temperature, dim=-1)
        q = torch.log_softmax(logits / temperature, dim=-1)
        found.append(float((p.exp() * (p - q)).sum(-1).mean()))
    return found


@torch.inference_mode()
def continuations(
    model: Any, contexts: Tensor, temperatures: tuple[float, ...], new: int, seed: int
) -> np.ndarray:
    """(temperatures, N, new) sampled token ids, with the same random numbers at every temperature."""
    count = len(contexts)
    draws = rng.uniform(seed, "temperature", np.arange(count)[:, None], np.arange(new))
    draws = torch.from_numpy(draws).float().repeat(len(temperatures), 1)
    divisors = torch.tensor(temperatures).repeat_interleave(count)[:, None]
    ids, cache, found = contexts.repeat(len(temperatures), 1), None, []
    for step in range(new):
        output = model(input_ids=ids, past_key_values=cache, use_cache=True)
        cumulative = torch.softmax(output.logits[:, -1] / divisors, dim=-1).cumsum(-1)
        below = (cumulative < draws[:, step, None] * cumulative[:, -1:]).sum(-1, keepdim=True)
        ids, cache = below, output.past_key_values
        found.append(below)
    return torch.cat(found, dim=1).view(len(temperatures), count, new).numpy()


def variety(rows: np.ndarray) -> dict[str, float]:
    """Distinct pairs of tokens over all pairs, and the share of 4-grams that occurred before in their row."""
    pairs = [pair for row in rows.tolist() for pair in zip(row, row[1:], strict=False)]
    repeated = total = 0
    for row in rows.tolist():
        grams = list(zip(row, row[1:], row[2:], row[3:], strict=False))
        repeated, total = repeated + len(grams) - len(set(grams)), total + len(grams)
    return {"distinct_2": len(set(pairs)) / len(pairs), "repeats": repeated / total}


def study(folder: Path, ids: Tensor, new: int, seed: int) -> list[dict[str, Any]]:
    """A row for each format and temperature."""
    plain: Any = build.load(folder, "clm").eval()
    with torch.inference_mode():
        exact = plain(input_ids=ids).logits
    rows = []
    for name, changes in {"float32": None, **FORMATS}.items():
        say(name)
        model: Any = plain
        if changes is not None:
            settings = QuantiseSettings(embedding_bits=32, **changes)
            model = quantise_weights(build.load(folder, "clm"), settings).model
        distances = divergences(exact, model, ids, TEMPERATURES)
        texts = continuations(model, ids[:, :CONTEXT], TEMPERATURES, new, seed)
        for temperature, distance, found in zip(TEMPERATURES, distances, texts, strict=True):
            rows.append(
                {"format": name, "temperature": temperature, "divergence": distance, **variety(found)}
            )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = ["| format | T | divergence (nats) | distinct-2 | repeats |", "|---|---|---|---|---|"]
    lines += [
        f"| {row['format']} | {row['temperature']} | {row['divergence']:.4f} | {row['distinct_2']:.3f} "
        f"| {row['repeats']:.3f} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the study and write its table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path, help="folder of a pre-trained decoder")
    parser.add_argument("texts", type=Path, help="one text a line")
    parser.add_argument("--out", type=Path, default=Path("runs/quantise-temperature"))
    parser.add_argument("--window", type=int, default=64, help="tokens of each text that are read")
    parser.add_argument("--count", type=int, default=64, help="texts")
    parser.add_argument("--new", type=int, default=64, help="tokens of a continuation")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    ids = windows(given.model, given.texts, given.window, given.count)
    rows = study(given.model, ids, given.new, given.seed)
    given.out.mkdir(parents=True, exist_ok=True)
    files.write_json(given.out / "table.json", rows)
    (given.out / "table.md").write_text(table(rows), "utf-8")
    print(table(rows))


if __name__ == "__main__":
    guarded(main)
