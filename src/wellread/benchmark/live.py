"""Show a benchmark's table while its runs finish: live on a terminal, plain lines elsewhere, on stderr."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator

from wellread.benchmark.suite import Suite
from wellread.benchmark.table import TaskState, spread, to_rich
from wellread.progress import say, shown_by

EVERY_SECONDS = 1.0


@contextlib.contextmanager
def watching(
    suite: Suite, model: str, read: Callable[[], list[TaskState]], *, quiet: bool = False
) -> Iterator[None]:
    """Look at the run folder every second from a thread of its own, and show what is new.

    How far the run under way is, its own progress says: below the table, or in lines among the others.

    Args:
        suite: the benchmark.
        model: name of the model.
        read: the state of every task.
        quiet: show nothing.
    """
    if quiet:
        yield
        return
    shown = _terminal(suite, model, read) if sys.stderr.isatty() else _lines(read)
    with shown:
        yield


@contextlib.contextmanager
def _terminal(suite: Suite, model: str, read: Callable[[], list[TaskState]]) -> Iterator[None]:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    console, under_way = Console(stderr=True), Text()
    # It vanishes at the end: the finished table goes to standard output.
    live = Live(
        get_renderable=lambda: Group(to_rich(suite, model, read()), under_way),
        console=console,
        refresh_per_second=1 / EVERY_SECONDS,
        transient=True,
        redirect_stdout=False,
    )

    def show(line: str) -> None:
        under_way.plain = line

    with live, shown_by(show):
        yield


@contextlib.contextmanager
def _lines(read: Callable[[], list[TaskState]]) -> Iterator[None]:
    """A line for each run that is done, and first one for each task that is missing or partial."""
    before = read()
    for state in before:
        if state.missing or state.partial:
            what = "missing" if state.missing else "partial"
            say(f"{state.task}: {what}: {state.missing or state.partial}")
    seen = {(state.task, seed) for state in before for seed in state.values}
    if seen:
        say(f"{len(seen)} runs are done already")
    stop = threading.Event()

    def look() -> None:
        for state in read():
            for seed in sorted(state.values):
                if (state.task, seed) not in seen:
                    seen.add((state.task, seed))
                    say(line(state, seed))

    def watch() -> None:
        while not stop.wait(EVERY_SECONDS):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        look()


def line(state: TaskState, seed: int) -> str:
    """One finished run and its task's mean so far."""
    score = f"{state.metric} {100 * state.values[seed]:.2f}"
    return (
        f"{state.task}  seed {seed}  {score}  mean {spread(state)} ({len(state.values)}/{len(state.seeds)})"
    )
