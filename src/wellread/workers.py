"""Calls side by side in processes that stay warm, and that end with the process that started them.

A small model gains little from a second thread, so on N cores N runs at once, of one thread each, are done
sooner than one after the other.  The pool is joblib's (loky): it needs no ``__main__`` guard in the user's
script, and its processes are used again by the next call.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from typing import Any

from wellread.errors import UserError

POLL_SECONDS = 0.2


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share(threads: int, calls: int) -> tuple[int, int]:
    """(workers, threads of each) for so many calls; the same however many of them are already done."""
    workers = max(1, min(threads, calls))
    return workers, max(1, threads // workers)


def side_by_side(
    function: Callable[..., None], calls: Sequence[tuple[Any, ...]], *, workers: int, threads: int
) -> Iterator[None]:
    """Call ``function`` with each tuple of arguments; yields once for every call that is done.

    Args:
        function: at the top of a module; called in this process if there is one worker.
        calls: positional arguments, in the order in which they are begun.
        workers: processes.
        threads: of torch in each of them.

    Raises:
        UserError: one of the processes was ended from outside; or whatever ``function`` raises.
    """
    if workers == 1:
        for arguments in calls:
            function(*arguments)
            yield
        return
    from joblib import Parallel, delayed

    pool = Parallel(
        n_jobs=workers, backend="loky", batch_size=1, pre_dispatch=workers, return_as="generator_unordered"
    )
    try:
        work = delayed(_call)
        yield from pool(work(os.getpid(), threads, function, arguments) for arguments in calls)
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process was ended from outside; the system does so when memory runs out",
            fix="run the same command again, with fewer threads if memory is short; what is done is kept",
        ) from error


def _call(parent: int, threads: int, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    import torch

    _tie(parent)
    torch.set_num_threads(threads)
    function(*arguments)


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
