"""The measurements in order."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from wellread.bench import layers, machine
from wellread.bench.machine import Machine
from wellread.bench.measure import Record
from wellread.bench.options import Options
from wellread.errors import UserError
from wellread.progress import Progress


def run(options: Options, keep: Callable[[list[Record]], None] = lambda _: None) -> list[Record]:
    """Measure what the options ask for.

    Args:
        options: what to measure.
        keep: called after each part with all records so far, for whoever interrupts the rest.

    Returns:
        Records with the keys of :data:`wellread.bench.measure.KEYS`, those of the machine first.

    Raises:
        UserError: a GPU would take our steps; or there is no run to take tokens from.
    """
    if torch.cuda.is_available():
        what = "the figures are of the CPU, but training would go to the GPU"
        raise UserError(what, fix="hide it: set the environment variable CUDA_VISIBLE_DEVICES to nothing")
    machines: dict[int, Machine] = {}
    found: list[Record] = []

    def measured(label: str, calls: int, threads: int, bench: Bench) -> None:
        found.extend(_watched(label, calls, threads, bench, options.quiet))
        keep(machine.records(machines) + machine.with_shares(found, machines))

    with tempfile.TemporaryDirectory(prefix="wellread-bench-") as scratch, _threads_kept():
        parts = _parts(options, Path(scratch))
        for threads in options.threads:
            torch.set_num_threads(threads)
            machines[threads] = machine.look()
            for name, calls, bench in parts:
                if name != "memory":
                    measured(f"{name}, {threads} thread(s)", calls, threads, bench)
            torch.set_num_threads(threads)
            machines[threads] = machine.look(machines[threads])
        for name, calls, bench in parts:
            if name == "memory":
                measured(name, calls, options.threads[0], bench)
    records = machine.records(machines) + machine.with_shares(found, machines)  # the last look counts as well
    keep(records)
    return records


Bench = Callable[[int, Callable[[], None]], list[Record]]


def _parts(options: Options, scratch: Path) -> list[tuple[str, int, Bench]]:
    """(name, how many calls, the measurement) of each part that is asked for."""
    found: list[tuple[str, int, Bench]] = []
    if "layers" in options.parts:
        found.append(
            (
                "layers",
                layers.calls(options),
                lambda threads, advance: layers.bench(options, threads, advance),
            )
        )
    if {"steps", "trainer", "memory"} & set(options.parts):
        found += _model_parts(options, scratch)
    return found


def _model_parts(options: Options, scratch: Path) -> Iterator[tuple[str, int, Bench]]:
    from wellread.bench import memory, steps
    from wellread.bench.data import prepare

    data = prepare(options, scratch)
    if "steps" in options.parts:
        yield (
            "steps",
            steps.calls(options),
            lambda threads, advance: steps.bench(options, data, threads, advance),
        )
    if "trainer" in options.parts:
        from wellread.bench import trainer

        yield (
            "trainer",
            trainer.calls(options),
            lambda threads, advance: trainer.bench(options, data, threads, scratch, advance),
        )
    if "memory" in options.parts:
        yield (
            "memory",
            memory.calls(options),
            lambda threads, advance: memory.bench(options, data, threads, advance),
        )


def _watched(label: str, calls: int, threads: int, bench: Bench, quiet: bool) -> list[Record]:
    with Progress(f"bench {label}", calls, "measurements", quiet=quiet) as progress:
        return bench(threads, progress.advance)


@contextmanager
def _threads_kept() -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
