"""What the C library does with freed memory.  Only glibc is spoken to; elsewhere nothing happens."""

from __future__ import annotations

import contextlib
import ctypes
import gc

# Parameters of mallopt in glibc's malloc.h.
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, MMAP_MAX = -1, -2, -3, -4
LARGE_BYTES = 1 << 20
PAD_BYTES = 64 << 20


def trim() -> None:
    """Hand freed memory to the system, that of unreachable objects too."""
    gc.collect()
    give_back()


def give_back() -> None:
    """Hand freed memory to the system."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def return_large_blocks() -> None:
    """From now on, have blocks of LARGE_BYTES and more go back to the system when they are freed.

    glibc otherwise learns to keep blocks of up to 32 MB, and the gaps between them.  Fetching new pages
    takes time (docs/methods/recompute.md).
    """
    _set({MMAP_MAX: 1 << 16, MMAP_THRESHOLD: LARGE_BYTES, TRIM_THRESHOLD: 2 * LARGE_BYTES, TOP_PAD: 0})


def keep_blocks() -> None:
    """From now on, keep freed blocks of any size for the next step.

    glibc otherwise hands the largest back, and each step of a training fetches tens of thousands of pages
    anew (docs/results/step-changes.md).  :func:`give_back` still returns what is free.
    """
    _set({MMAP_MAX: 0, TRIM_THRESHOLD: (1 << 31) - 1, TOP_PAD: PAD_BYTES})


def _set(options: dict[int, int]) -> None:
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        for option, value in options.items():
            library.mallopt(option, value)
