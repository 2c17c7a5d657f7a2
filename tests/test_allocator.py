import subprocess
import sys

import pytest

SCRIPT = """
import psutil, torch
from wellread import allocator
allocator.return_large_blocks()
resident = lambda: psutil.Process().memory_info().rss
kept = [torch.ones(1 << 20) for _ in range(2)]
for _ in range(8):  # glibc would learn from blocks that come and go
    torch.ones(1 << 20)
before = resident()
blocks = [torch.ones(1 << 20) for _ in range(40)]
full = resident()
blocks = blocks[::2]
print((full - resident()) / (full - before))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_large_blocks_go_back_as_soon_as_they_are_freed():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(0.5, abs=0.05)


KEEPING = """
import resource, torch
from wellread import allocator
allocator.keep_blocks()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):  # gaps between aligned blocks close after some rounds
    torch.ones(10 << 20)
before = faults()
for _ in range(5):
    torch.ones(10 << 20)
print(faults() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_kept_blocks_are_not_fetched_again():
    """40 MB are some 10,000 pages, and glibc would hand them back every time."""
    done = subprocess.run([sys.executable, "-c", KEEPING], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1000
