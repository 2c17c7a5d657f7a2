"""Single layers: sparse linear against dense linear, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wellread.bench import measure
from wellread.bench.measure import Call, Record, Timing, alternate, as_baseline, compared, record
from wellread.bench.options import Options
from wellread.sparsity.linear import SparseLinear
from wellread.sparsity.patterns import Pattern, mask

PATTERNS: tuple[Pattern, ...] = ("block4", "block8", "block16", "block32", "unstructured")
LEVELS = (0.75, 0.875)
PASSES = ("forward", "backward", "both")
WARMUP = 2


@dataclass(frozen=True)
class Work:
    """FLOPs of the forward pass, and bytes that must move at least, by pass.

    Every input is read once and every output written once: forward x, W -> y; backward x, W, dy -> dx, dW.
    Bias, indices and what an implementation reads twice come on top.
    """

    flops: float
    forward_bytes: float
    backward_bytes: float

    @classmethod
    def of(cls, inputs: int, outputs: int, tokens: int, weights: int) -> Work:
        """Work of a layer with so many living weights."""
        return cls(
            2.0 * tokens * weights,
            4.0 * (tokens * (inputs + outputs) + weights),
            4.0 * (tokens * (2 * inputs + outputs) + 2 * weights),
        )


def bench(options: Options, threads: int, advance: Callable[[], None]) -> list[Record]:
    """Every shape, pattern and level against the dense layer of its shape."""
    found = []
    for inputs, outputs in options.linears:
        found += _one_shape(inputs, outputs, options, threads, advance)
    return found


def calls(options: Options) -> int:
    """How often ``advance`` will be called."""
    return len(options.linears) * len(PATTERNS) * len(LEVELS) * (WARMUP + options.rounds["layers"])


def _one_shape(
    inputs: int, outputs: int, options: Options, threads: int, advance: Callable[[], None]
) -> list[Record]:
    tokens = options.linear_tokens
    x = torch.randn(tokens, inputs, requires_grad=True)
    gradient = torch.randn(tokens, outputs)
    dense = nn.Linear(inputs, outputs)
    lives = {
        (pattern, level): mask((outputs, inputs), level, pattern, 0, "bench")
        for pattern in PATTERNS
        for level in LEVELS
    }
    candidates = {}
    for (pattern, level), live in lives.items():
        layer = SparseLinear.from_linear(nn.Linear(inputs, outputs), live, pattern)
        candidates[pattern, level] = _call(
            layer, x, gradient, Work.of(inputs, outputs, tokens, int(live.sum()))
        )
    pairs = alternate(
        _call(dense, x, gradient, Work.of(inputs, outputs, tokens, inputs * outputs)),
        candidates,
        rounds=options.rounds["layers"],
        warmup=WARMUP,
        advance=advance,
    )
    common = {"shape": f"{inputs}->{outputs}", "against": "dense linear"}
    found = []
    for name in PASSES:
        still = {"pattern": "dense", "sparsity": 0.0, "zeros": 0.0}
        figures = common | still | as_baseline(pairs, name)
        found.append(record("layers", "linear", name, threads, **figures))
        for (pattern, level), of_one in pairs.items():
            zeros = 1.0 - float(lives[pattern, level].float().mean())
            kind = {"pattern": pattern, "sparsity": level, "zeros": zeros}
            figures = common | kind | compared(of_one, name)
            found.append(record("layers", "linear", name, threads, **figures))
    return found


def _call(layer: nn.Module, x: Tensor, gradient: Tensor, work: Work) -> Call:
    """Forward, then backward to x, weight and bias; gradients are made anew, none is added to."""

    def call(_: int) -> dict[str, Timing]:
        layer.zero_grad(set_to_none=True)
        x.grad = None
        began = measure.clock()
        y = layer(x)
        middle = measure.clock()
        y.backward(gradient)
        end = measure.clock()
        forward, backward = work.forward_bytes, work.backward_bytes
        tokens, flops = len(x), work.flops
        return {
            "forward": Timing(middle - began, tokens, flops, forward),
            "backward": Timing(end - middle, tokens, 2 * flops, backward),
            "both": Timing(end - began, tokens, 3 * flops, forward + backward),
        }

    return call
