"""The product of signs against the library's float32 product, on the shapes of a 384 wide encoder.

    python benchmarks/binary.py [--repeats 15] [--threads 1] [--tokens 32 128 4096]

Both take float32 activations and give float32 outputs: the kernel's time includes turning them into bits, and
scale and bias.  Calls alternate; the ratio is of the medians.  One line a shape and instruction set.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

import torch
from torch.nn.functional import linear

from wellread.compress.binarise import signs
from wellread.compress.binarise.product import product
from wellread.sparsity.kernels import build

SHAPES = ((384, 384), (384, 1152), (384, 1536), (1536, 384))


def seconds(run, calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - began) / calls


def measure(tokens: int, inputs: int, outputs: int, repeats: int) -> tuple[float, float]:
    """Median seconds of the float32 product and of the product of signs."""
    x, weight = torch.randn(tokens, inputs), torch.randn(outputs, inputs)
    packed, scale, bias = signs.pack(weight > 0), torch.rand(outputs), torch.randn(outputs)
    rest = (packed, signs.words(packed), scale, bias, torch.zeros(inputs))
    calls = max(1, round(2e9 / (2 * tokens * inputs * outputs)))
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats + 2):
        times[0].append(seconds(lambda: linear(x, weight, bias), calls))
        times[1].append(seconds(lambda: product(x, *rest), calls))
    return statistics.median(times[0][2:]), statistics.median(times[1][2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, nargs="+", default=[32, 128, 4096])
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    library = build.load_binary()
    if library is None:
        raise SystemExit("no C++ compiler, so no kernel to measure")
    best = library.wellread_binary_best()
    print("| instructions | tokens | inputs | outputs | float32 us | signs us | ratio |")
    print("|---|---|---|---|---|---|---|")
    for name, level in build.LEVELS.items():
        if level > best:
            continue
        os.environ["WELLREAD_KERNELS"] = name
        for tokens in given.tokens:
            for inputs, outputs in SHAPES:
                real, binary = measure(tokens, inputs, outputs, given.repeats)
                cells = f"{1e6 * real:.0f} | {1e6 * binary:.0f} | {real / binary:.2f}"
                print(f"| {name} | {tokens} | {inputs} | {outputs} | {cells} |", flush=True)


if __name__ == "__main__":
    torch.manual_seed(0)
    with torch.inference_mode():
        main()
