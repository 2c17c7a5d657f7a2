"""Products of bfloat16, for tests of the kernels."""

import contextlib
from unittest.mock import patch

import pytest

from wellread.precision import autocast
from wellread.sparsity.kernels import build

narrow_too = pytest.mark.parametrize("narrow", [False, True], ids=["float32", "bfloat16"])


@contextlib.contextmanager
def multiplying(narrow: bool):
    """bfloat16 products, on machines without such instructions too, or float32 ones."""
    taken = patch.object(build, "fast_bfloat16", lambda: narrow)
    with taken, autocast("bf16" if narrow else "fp32", "cpu"):
        yield
