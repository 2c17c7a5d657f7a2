"""Peak memory of training, each configuration in a process of its own.

``python -m wellread.bench.memory JSON`` takes a few steps and prints what the process held at most.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from wellread.bench.data import Data, load
from wellread.bench.measure import Record, record
from wellread.bench.options import Options
from wellread.bench.steps import DENSE, Variant, described, packed_step, shape_name
from wellread.errors import UserError

VARIANTS: tuple[Variant, ...] = (Variant("block16", 0.75),)
STEPS = 3
PASSES = {"process": "everything resident", "training": "without what the libraries and the data take"}
RECOMPUTE = {False: "", True: "; activations recomputed"}


def bench(options: Options, data: Data, threads: int, advance: Any) -> list[Record]:
    """Every variant against the dense model, for each number of tokens in a step."""
    found = []
    for tokens in options.memory_tokens:
        for recompute in RECOMPUTE:
            dense: dict[str, float] = {}
            for variant in (DENSE, *VARIANTS):
                held = _measured(options, data, tokens, variant, recompute, threads)
                dense = dense or held
                found += _records(options, tokens, variant, recompute, held, dense, threads)
                advance()
    return found


def calls(options: Options) -> int:
    """How often ``advance`` will be called."""
    return len(options.memory_tokens) * len(RECOMPUTE) * (1 + len(VARIANTS))


def _records(
    options: Options,
    tokens: int,
    variant: Variant,
    recompute: bool,
    held: dict[str, float],
    dense: dict[str, float],
    threads: int,
) -> list[Record]:
    return [
        record(
            "memory",
            "peak memory",
            name,
            threads,
            **described(variant, held["zeros"]),
            shape=shape_name(options.memory_shape),
            against="packed dense step",
            ratio=held[name] / dense[name],
            repetitions=1,
            tokens=tokens,
            bytes=held[name],
            note=note + RECOMPUTE[recompute],
        )
        for name, note in PASSES.items()
    ]


def _measured(
    options: Options, data: Data, tokens: int, variant: Variant, recompute: bool, threads: int
) -> dict[str, float]:
    """{"process", "training": bytes, "zeros": share}, by a fresh process.

    Raises:
        UserError: the process failed or was killed.
    """
    wanted = {
        "tokens": str(data.tokens),
        "tokenizer": str(data.tokenizer_folder),
        "model": options.model(options.memory_shape).model_dump(),
        "batch_tokens": tokens,
        "variant": variant,
        "recompute": recompute,
        "threads": threads,
    }
    command = [sys.executable, "-m", __name__, json.dumps(wanted)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise UserError(
            f"the process that measures memory ended with code {done.returncode}",
            where="--memory-shape, --memory-tokens",
            fix="look at what it said; where it was killed, choose a smaller model or shorter steps",
        )
    return json.loads(done.stdout)


def _run(wanted: dict[str, Any]) -> dict[str, float]:
    """Take a few steps in this process."""
    import torch

    from wellread.settings import ModelSettings

    torch.set_num_threads(wanted["threads"])
    model = ModelSettings(**wanted["model"])
    with tempfile.TemporaryDirectory(prefix="wellread-bench-") as scratch:
        tokens, folder = Path(wanted["tokens"]), Path(wanted["tokenizer"])
        data = load(tokens, folder, model.max_length, wanted["batch_tokens"], Path(scratch))
        before = peak_bytes()
        call, zeros = packed_step(data, model, Variant(*wanted["variant"]), recompute=wanted["recompute"])
        for number in range(STEPS):
            call(number)
    return {"process": peak_bytes(), "training": peak_bytes() - before, "zeros": zeros}


def peak_bytes() -> int:
    """The most memory that this process ever had resident.

    ``getrusage`` would do, but on Linux a process inherits there the peak of the one that started it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    print(json.dumps(_run(json.loads(sys.argv[1]))))
