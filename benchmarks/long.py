"""Time of a training step against the length of its texts, and a straight line through it.

    python benchmarks/long.py --plot long.png

A step is forward and backward over one text.  Ways are measured in turn, and the fastest of the rounds is
told, which other work on the machine disturbs least.  The last three columns: slope of a straight line, its
share of the variance, and the exponent p of time ~ length^p, which is 1 where time is linear.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertModel, BigBirdConfig, BigBirdModel, LongformerConfig, LongformerModel

from wellread.models import packed
from wellread.tokens.batch import pack


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--lengths", nargs="+", type=int, default=[1024, 2048, 3072, 4096, 6144, 8192])
    parser.add_argument("--ways", nargs="+", default=["window", "bigbird", "full"])
    parser.add_argument("--shape", default="3x192", help="layers x width, heads of 64")
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--block", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--out", type=Path, help="JSON file to write as well")
    return parser.parse_args()


def model(way: str, options: argparse.Namespace) -> torch.nn.Module:
    layers, width = map(int, options.shape.split("x"))
    longest = max(options.lengths)
    shape = {
        "vocab_size": 1000,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, width // 64),
        "intermediate_size": 4 * width,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "pad_token_id": 0,
    }
    if way == "window":
        config = LongformerConfig(
            **shape, max_position_embeddings=longest + 1, attention_window=options.window
        )
        return LongformerModel(config, add_pooling_layer=False)
    if way == "bigbird":
        config = BigBirdConfig(
            **shape, max_position_embeddings=longest, block_size=options.block, hidden_act="gelu"
        )
        return BigBirdModel(config, add_pooling_layer=False)
    bert = BertModel(BertConfig(**shape, max_position_embeddings=longest), add_pooling_layer=False)
    return packed.enable(bert)


def step(network: torch.nn.Module, length: int, device: str) -> float:
    """Seconds of a forward and a backward pass over one text."""
    batch = pack([torch.randint(5, 1000, (length,)).tolist()]).to(device)
    began = time.perf_counter()
    with torch.autocast("cuda", torch.bfloat16, enabled=device == "cuda"):
        packed.hidden_states(network, batch).float().square().mean().backward()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def fit(lengths: list[int], seconds: list[float]) -> dict[str, float]:
    """The straight line, its share of the variance, and time a token at the longest over the shortest."""
    n, y = np.array(lengths, float), np.array(seconds)
    slope, start = np.polyfit(n, y, 1)
    left = ((y - start - slope * n) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    growth = np.polyfit(np.log(n), np.log(y), 1)[0]
    return {
        "microseconds_a_token": 1e6 * float(slope),
        "r2": 1 - float(left),
        "exponent": float(growth),
        "longest_over_shortest_a_token": float(y[-1] / n[-1] / (y[0] / n[0])),
    }


def main() -> None:
    options = arguments()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    networks = {way: model(way, options).to(device) for way in options.ways}
    times: dict[str, dict[int, list[float]]] = {
        way: {length: [] for length in options.lengths} for way in networks
    }
    for number in range(options.rounds + 1):
        for length in options.lengths:
            for way, network in networks.items():
                seconds = step(network, length, device)
                if number:  # the first round warms up
                    times[way][length].append(seconds)
    fastest = {way: [min(times[way][length]) for length in options.lengths] for way in networks}
    fits = {way: fit(options.lengths, values) for way, values in fastest.items()}
    print("| attention |", " | ".join(map(str, options.lengths)), "| us a token | R2 of a line | exponent |")
    print("|" + "---|" * (len(options.lengths) + 4))
    for way, values in fastest.items():
        found = fits[way]
        cells = " | ".join(f"{value:.3f}" for value in values)
        told = f"{found['microseconds_a_token']:.1f} | {found['r2']:.4f} | {found['exponent']:.2f}"
        print(f"| {way} | {cells} | {told} |")
    if options.out:
        options.out.write_text(
            json.dumps({"lengths": options.lengths, "seconds": fastest, "fits": fits}, indent=1)
        )
    if options.plot:
        draw(options, fastest)


def draw(options: argparse.Namespace, fastest: dict[str, list[float]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    for way, values in fastest.items():
        axes.plot(options.lengths, values, marker="o", label=way)
    axes.set(xlabel="length of the text in tokens", ylabel="seconds, forward and backward", ylim=(0, None))
    axes.legend()
    figure.tight_layout()
    figure.savefig(options.plot, dpi=150)


if __name__ == "__main__":
    main()
