"""Progress for people: a live line on a terminal, plain lines elsewhere, always on stderr.

Standard output is for data; everything that is said goes to standard error.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

PLAIN_EVERY_SECONDS = 10.0
LIVE_EVERY_SECONDS = 0.2
_display: Callable[[str], None] | None = None


def say(text: str) -> None:
    """A line of talk on standard error."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def shown_by(display: Callable[[str], None]) -> Iterator[None]:
    """Hand the lines of every :class:`Progress` to ``display``, which has the terminal to itself."""
    global _display
    before, _display = _display, display
    try:
        yield
    finally:
        _display = before


class Progress:
    """How far a job is, how fast it goes, and when it will be done.

    Use as a context manager.  A job shorter than a few seconds prints nothing on a plain stream but its
    last line.

    Args:
        label: what is being done, for instance "pretrain sparse75".
        total: how many units make the whole, or None where nobody knows.
        unit: what is counted, for instance "tokens".
        done: units finished before this process began (a resumed job).
        quiet: say nothing.
    """

    def __init__(
        self, label: str, total: int | None, unit: str, *, done: int = 0, quiet: bool = False
    ) -> None:
        self.label, self.total, self.unit, self.quiet = label, total, unit, quiet
        self.done = self._done_before = done
        self.note = ""
        self._under_way = 0.0
        self._began = self._shown = time.monotonic()
        self._live = sys.stderr.isatty()

    def advance(self, units: int = 1, note: str | None = None) -> None:
        """Count ``units`` more; ``note`` is a short remark such as "loss 3.21"."""
        self.done += units
        if note is not None:
            self.note = note
        self._show()

    def partly(self, units: float) -> None:
        """So much of the units after those that are counted is done as well."""
        self._under_way = units
        self._show()

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._shown >= (LIVE_EVERY_SECONDS if self._live else PLAIN_EVERY_SECONDS):
            self._shown = now
            self._print(self.line(now), end="\r" if self._live else "\n")

    def line(self, now: float) -> str:
        """The line as it stands."""
        elapsed = max(now - self._began, 1e-9)
        done = self.done + self._under_way
        speed = (done - self._done_before) / elapsed
        parts = [self.label]
        if self.total:
            parts.append(f"{100 * done / self.total:3.0f}%")
        parts.append(f"{_short(done)}{'/' + _short(self.total) if self.total else ''} {self.unit}")
        parts.append(self._pace(speed))
        if self.total and speed > 0:
            parts.append(f"ETA {_clock((self.total - done) / speed)}")
        if self.note:
            parts.append(self.note)
        return "  ".join(parts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        now = time.monotonic()
        if kind is None:
            pace = self._pace((self.done - self._done_before) / max(now - self._began, 1e-9))
            note = f"  {self.note}" if self.note else ""
            self._print(
                f"{self.label}  {_short(self.done)} {self.unit} in {_clock(now - self._began)}  {pace}{note}",
                end="\n",
            )
        elif self._live:
            self._print("", end="\n")

    def _pace(self, speed: float) -> str:
        """Units per second; below one in ten seconds, the time that each takes, which says more than 0.0."""
        if 0 < speed < 0.1:
            return f"{_clock(1 / speed)} each"
        return f"{_short(speed)} {self.unit}/s"

    def _print(self, text: str, end: str) -> None:
        if self.quiet:
            return
        if _display is not None:
            _display(text)
        else:
            clear = "\033[K" if self._live else ""
            print(text + clear, file=sys.stderr, end=end, flush=True)


def _short(number: float) -> str:
    """1234567 as 1.2M."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= size:
            return f"{number / (1e3 if letter == 'k' else size):.{0 if letter == 'k' else 1}f}{letter}"
    return f"{number:.0f}" if number >= 100 or number == int(number) else f"{number:.1f}"


def _clock(seconds: float) -> str:
    """75 as 1:15."""
    whole = int(seconds + 0.5)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
