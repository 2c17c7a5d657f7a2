"""What a piece of work costs: seconds, and the memory that it adds to the process."""

from __future__ import annotations

import threading
import time

from wellread import allocator

EVERY_SECONDS = 0.02


class Meter:
    """Watches a block: ``seconds``, and ``peak_bytes``, its largest resident memory less that at the start.

    Memory that was freed before, but not handed back to the system, would hide what the block needs;
    so it is handed back first.
    """

    def __init__(self) -> None:
        self.seconds, self.peak_bytes = 0.0, 0
        self._stop = threading.Event()

    def __enter__(self) -> Meter:
        import psutil

        allocator.give_back()
        self._process = psutil.Process()
        self._base = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        self._began = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._began
        self._stop.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._stop.wait(EVERY_SECONDS):
            self._look()

    def _look(self) -> None:
        self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss - self._base)
