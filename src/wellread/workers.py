"""Calls side by side in processes that stay warm, and that end with the process that started them.

A small model gains little from a second thread, so on N cores N runs at once, of one thread each, are done
sooner than one after the other.  The pool is joblib's (loky): it needs no ``__main__`` guard in the user's
script, and its processes are used again by the next call.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from wellread.errors import UserError

POLL_SECONDS = 0.2
OWN_GROUPS, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
_place: tuple[Path, int] | None = None  # where the call of side_by_side that runs here says how far it is


def cores() -> int:
    """CPU cores that this process may use; a container's share of time counts as so many, rounded up."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(count, math.ceil(min(_quotas(), default=count))))


def _quotas() -> Iterator[float]:
    """Cores' worth of time that each control group above this process leaves it, of version 2 and of 1."""
    try:
        lines = OWN_GROUPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, place = line.split(":", 2)
        top = GROUPS / "cpu" if kinds else GROUPS
        if kinds and "cpu" not in kinds.split(","):
            continue
        own = top / place.lstrip("/")
        for group in (own, *own.parents[: len(own.parts) - len(top.parts)]):
            # "max", -1 and a group of another container, which is not to be seen here, are no limit.
            with contextlib.suppress(OSError, ValueError):
                quota, period = _quota(group)
                if quota > 0:
                    yield quota / period


def _quota(group: Path) -> tuple[int, int]:
    """Microseconds of processor time in each so many microseconds."""
    if (group / "cpu.max").exists():
        quota, period = (group / "cpu.max").read_text().split()
    else:
        quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
    return int(quota), int(period)


def share(threads: int, calls: int) -> tuple[int, int]:
    """(workers, threads of each) for so many calls; the same however many of them are already done."""
    workers = max(1, min(threads, calls))
    return workers, max(1, threads // workers)


def tick(fraction: float) -> None:
    """Say how much of the present call of :func:`side_by_side` is done, 0 to 1; outside one, nothing."""
    if _place is not None:
        path, number = _place
        with contextlib.suppress(FileNotFoundError):  # another call has failed, and nobody listens any more
            _board(path)[number] = fraction


def side_by_side(
    function: Callable[..., None],
    calls: Sequence[tuple[Any, ...]],
    *,
    workers: int,
    threads: int,
    watch: Callable[[float], None] | None = None,
) -> Iterator[None]:
    """Call ``function`` with each tuple of arguments; yields once for every call that is done.

    Args:
        function: at the top of a module; called in this process if there is one worker.
        calls: positional arguments, in the order in which they are begun.
        workers: processes.
        threads: of torch in each of them.
        watch: called now and then, from a thread, with how many calls' worth of work the calls under way have
            done, as they say by :func:`tick`.

    Raises:
        UserError: one of the processes was ended from outside; or whatever ``function`` raises.
    """
    with _watched(len(calls), watch) as board:
        if workers == 1:
            for number, arguments in enumerate(calls):
                with _called(board, number):
                    function(*arguments)
                yield
        else:
            yield from _in_pool(function, calls, workers, threads, board)


def _in_pool(
    function: Callable[..., None],
    calls: Sequence[tuple[Any, ...]],
    workers: int,
    threads: int,
    board: Path | None,
) -> Iterator[None]:
    from joblib import Parallel, delayed

    pool = Parallel(
        n_jobs=workers, backend="loky", batch_size=1, pre_dispatch=workers, return_as="generator_unordered"
    )
    try:
        work = delayed(_call)
        here = os.getpid()
        yield from pool(work(here, threads, function, one, board, number) for number, one in enumerate(calls))
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process was ended from outside; the system does so when memory runs out",
            fix="run the same command again, with fewer threads if memory is short; what is done is kept",
        ) from error


def _call(
    parent: int,
    threads: int,
    function: Callable[..., None],
    arguments: tuple[Any, ...],
    board: Path | None,
    number: int,
) -> None:
    import torch

    _tie(parent)
    torch.set_num_threads(threads)
    with _called(board, number):
        function(*arguments)


@contextlib.contextmanager
def _called(board: Path | None, number: int) -> Iterator[None]:
    """Let :func:`tick` write into this call's place; a call that is done is counted by who waits for it."""
    global _place
    before, _place = _place, (board, number) if board else None
    try:
        yield
    finally:
        tick(0.0)
        _place = before


@contextlib.contextmanager
def _watched(calls: int, watch: Callable[[float], None] | None) -> Iterator[Path | None]:
    """A file with a number for each call, and a thread that tells ``watch`` their sum; None without one."""
    if watch is None or not calls:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        path, over = Path(folder) / "ticks", threading.Event()
        path.write_bytes(bytes(8 * calls))
        thread = threading.Thread(target=_watch, args=(path, over, watch), daemon=True)
        thread.start()
        try:
            yield path
        finally:
            over.set()
            thread.join()
            _board.cache_clear()


def _watch(path: Path, over: threading.Event, watch: Callable[[float], None]) -> None:
    while not over.wait(POLL_SECONDS):
        watch(float(_board(path).sum()))


@lru_cache(maxsize=4)
def _board(path: Path) -> np.ndarray:
    return np.memmap(path, dtype=np.float64, mode="r+")


@cache
def _tie(parent: int) -> None:
    """Leave Ctrl-C to the parent, and end when it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os._exit(1)


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use so many threads inside the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def tokenizer_threads(count: int) -> Iterator[None]:
    """Let `tokenizers` work on one thread inside the block; it has no setting for other numbers."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ[name] = "false" if count == 1 else "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
