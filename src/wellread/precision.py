"""In which type matrices are multiplied while a model is trained: float32, or bfloat16 where that is faster.

Weights, gradients, optimiser states, sums, norms and softmax stay float32; only the factors of
matrix products are rounded, as ``torch.autocast`` has it.  GPUs are made for that, and so are processors
with AVX512-BF16 (AMD since Zen 4, Intel's Cooper Lake) or AMX (Intel since Sapphire Rapids).  On other
processors bfloat16 is the slower of the two.
"""

from __future__ import annotations

import functools
from typing import Literal

import torch
from torch import Tensor

Precision = Literal["auto", "fp32", "bf16"]
FAST = ("avx512_bf16", "amx_bf16")  # instructions, by torch's names


def fast_bfloat16(device: torch.device | str) -> bool:
    """Whether a device multiplies bfloat16 faster than float32."""
    kind = torch.device(device).type
    return _fast_processor() if kind == "cpu" else kind == "cuda"


def product_type(precision: Precision, device: torch.device | str) -> torch.dtype:
    """The type of factors that is asked for; ``auto`` takes bfloat16 where it is faster."""
    narrow = precision == "bf16" or (precision == "auto" and fast_bfloat16(device))
    return torch.bfloat16 if narrow else torch.float32


def autocast(precision: Precision, device: torch.device | str) -> torch.autocast:
    """A context in which matrices are multiplied in that type."""
    narrow = product_type(precision, device) == torch.bfloat16
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=narrow)


def wants_bfloat16() -> bool:
    """Whether products on the CPU are being asked for in bfloat16, by :func:`autocast`."""
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def narrowed(x: Tensor) -> Tensor:
    """The same in the type in which autocast, where it is on, multiplies matrices."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


def common_rows(rows: int, device: torch.device | str) -> int:
    """How many rows to multiply in place of so many, at most a sixteenth more: few numbers, which come again.

    oneDNN compiles a program for each shape of a bfloat16 product that is new to it, which takes longer than
    the product of a small batch.  Elsewhere, and outside :func:`autocast`, it is the number itself.
    """
    kind = torch.device(device).type
    if kind != "cpu" or not torch.is_autocast_enabled(kind):
        return rows
    unit = 1 << max(0, rows.bit_length() - 5)
    return -(-rows // unit) * unit


def widened(x: Tensor) -> Tensor:
    """The same in float32, which the compiled kernels take, where autocast made it bfloat16 on the CPU."""
    return x.float() if x.device.type == "cpu" and x.dtype == torch.bfloat16 else x


@functools.cache
def _fast_processor() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in FAST)
