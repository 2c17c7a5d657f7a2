"""What this machine can do at best: FLOP/s of large matrix products, bytes/s of copying."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from wellread import __version__
from wellread.api import processor
from wellread.bench import measure
from wellread.bench.measure import Record, record
from wellread.sparsity.kernels import build
from wellread.workers import cores

SIZES = (1024, 2048)  # of square matrix products; larger ones are no faster and take longer
COPIED_FLOATS = 1 << 26  # 268 MB, beyond all caches
REPEATS = 5


@dataclass(frozen=True)
class Machine:
    """The best that was seen: fp32 FLOP/s, and bytes/s read and written together."""

    flops_per_second: float = 0.0
    bytes_per_second: float = 0.0

    def seconds(self, flops: float, bytes_moved: float) -> float:
        """The roofline: no call with so many FLOPs and bytes can be faster (Williams et al., 2009)."""
        return max(flops / self.flops_per_second, bytes_moved / self.bytes_per_second)


def look(before: Machine | None = None) -> Machine:
    """Measure with the threads that torch has now; what was better ``before`` stays."""
    before = before or Machine()
    best_flops, best_bytes = before.flops_per_second, before.bytes_per_second
    for size in SIZES:
        left, right = torch.randn(2, size, size)
        product = torch.empty(size, size)
        for _ in range(REPEATS):
            began = measure.clock()
            torch.mm(left, right, out=product)
            best_flops = max(best_flops, 2 * size**3 / (measure.clock() - began))
    source, target = torch.ones(COPIED_FLOATS), torch.zeros(COPIED_FLOATS)
    for _ in range(REPEATS):
        began = measure.clock()
        target.copy_(source)
        best_bytes = max(best_bytes, 8 * COPIED_FLOATS / (measure.clock() - began))
    return Machine(best_flops, best_bytes)


def records(machines: dict[int, Machine]) -> list[Record]:
    """One record for each number of threads and kind of limit."""
    kernels = build.instructions() if build.load() is not None else "none"
    mkl = "MKL" if torch.backends.mkl.is_available() else "no MKL"
    note = (
        f"{processor()}, {cores()} core(s); torch {torch.__version__} with {mkl}; kernels {kernels}; "
        f"wellread {__version__}"
    )
    found = []
    for threads, machine in machines.items():
        speed, width = machine.flops_per_second, machine.bytes_per_second
        found.append(record("machine", "matrix product", "fp32", threads, flops_per_second=speed, note=note))
        found.append(record("machine", "copy", "fp32", threads, bytes_per_second=width, note=note))
    return found


def with_shares(found: list[Record], machines: dict[int, Machine]) -> list[Record]:
    """The records with their shares of the machine's peak and, where bytes are counted, of its roofline."""
    completed = []
    for one in found:
        shares = {}
        if one["flops"] and one["seconds"]:
            machine = machines[one["threads"]]
            shares["share_of_peak"] = one["flops"] / one["seconds"] / machine.flops_per_second
            if one["bytes"]:
                shares["share_of_roofline"] = machine.seconds(one["flops"], one["bytes"]) / one["seconds"]
        completed.append(one | shares)
    return completed
