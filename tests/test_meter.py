"""The meter sees what a block adds to the process, not what was there."""

from __future__ import annotations

import numpy as np

from wellread.meter import Meter


def test_what_a_block_adds() -> None:
    there = np.ones(40_000_000, dtype=np.uint8)
    with Meter() as small:
        pass
    with Meter() as large:
        np.ones(80_000_000, dtype=np.uint8).sum()
    assert small.peak_bytes < 20e6 < 70e6 < large.peak_bytes < 120e6
    assert small.seconds < large.seconds
    assert there.size
