"""What the C library does with freed memory.  Only glibc is spoken to; elsewhere nothing happens."""

from __future__ import annotations

import contextlib
import ctypes
import gc

MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of glibc's malloc.h
LARGE_BYTES = 1 << 20


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
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, LARGE_BYTES)
