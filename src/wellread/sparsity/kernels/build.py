"""Compile the kernels for this machine, once, into the user's cache, and load them.

``python -m wellread.sparsity.kernels.build`` does it ahead of time (``make install`` calls it); otherwise the
first sparse or binary layer does.  Without a C++ compiler these layers run on plain torch operations, and say
so once.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from wellread.corpus.registry import home
from wellread.progress import say

SOURCE = Path(__file__).with_name("kernels.cpp")
ELEMENTWISE = Path(__file__).with_name("elementwise.cpp")
ATTENTION = Path(__file__).with_name("attention.cpp")
BINARY = Path(__file__).with_name("binary.cpp")
HEADERS = tuple(Path(__file__).with_name(name) for name in ("pool.h", "random.h", "vector.h"))
COMPILERS = ("c++", "g++", "clang++")
# No -ffast-math: loading a library built with it makes the whole process flush denormals to zero.
FLAGS = ("-std=c++17", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fPIC", "-shared")
# By the name that torch gives to what the machine can do.
INSTRUCTIONS = {
    "AVX512_BF16": ("-mavx512f", "-mavx512bf16", "-mfma", "-mprefer-vector-width=512"),
    "AVX512": ("-mavx512f", "-mfma", "-mprefer-vector-width=512"),
    "AVX2": ("-mavx2", "-mfma"),
    "portable": (),
}
# What binary.cpp calls them; it chooses while it runs.
LEVELS = {"portable": 0, "AVX2": 1, "AVX512_BF16": 2, "AVX512": 2}


@functools.cache
def load() -> ctypes.CDLL | None:
    """The library of sparse layers for this machine, compiled if need be; None where that is not possible.

    The environment variable WELLREAD_KERNELS chooses instructions (a key of INSTRUCTIONS), or "off";
    WELLREAD_KERNEL_FLAGS adds flags for the compiler (``make sanitize`` does).
    """
    return _load(_wanted(), (), SOURCE, "sparse layers run on plain torch operations, which saves no time")


def fast_bfloat16() -> bool:
    """Whether the kernels multiply bfloat16 by instructions made for it, which is faster than float32."""
    library = load()
    return library is not None and bool(library.wellread_fast_bf16())


@functools.cache
def load_elementwise() -> ctypes.CDLL | None:
    """The library of activations and positions; the same environment variables hold as for :func:`load`."""
    rounds_like_torch = ("-ffp-contract=off",)
    return _load(
        _wanted(),
        rounds_like_torch,
        ELEMENTWISE,
        "activations run on plain torch operations, which is slower",
    )


def elementwise(name: str, tensor: Any) -> Any:
    """A function of that library by its name, for a tensor that lies next to a matrix product.

    None where there is none: the tensor has to be float32 or bfloat16, contiguous and on the CPU.
    """
    suffix = {"torch.float32": "", "torch.bfloat16": "_bf16"}.get(str(tensor.dtype))
    fitting = suffix is not None and tensor.device.type == "cpu" and tensor.is_contiguous()
    library = load_elementwise() if fitting else None
    return library and getattr(library, f"wellread_{name}{suffix}")


@functools.cache
def load_attention() -> ctypes.CDLL | None:
    """The library of attention; the same environment variables hold as for :func:`load`."""
    return _load(_wanted(), (), ATTENTION, "attention runs on plain torch operations, which is slower")


@functools.cache
def load_binary() -> ctypes.CDLL | None:
    """The library for products of signs: one build for all instruction sets; the same variables hold."""
    wanted = "off" if os.environ.get("WELLREAD_KERNELS") == "off" else "portable"
    without = "binary layers run on plain torch operations, which saves no time"
    return _load(wanted, ("-ffp-contract=off",), BINARY, without)


def _load(wanted: str, flags: tuple[str, ...], source: Path, without: str) -> ctypes.CDLL | None:
    if wanted == "off":
        return None
    extra = tuple(os.environ.get("WELLREAD_KERNEL_FLAGS", "").split())
    try:
        library = ctypes.CDLL(str(compiled(wanted, (*flags, *extra), source)))
    except (OSError, subprocess.SubprocessError) as error:
        if wanted == "AVX512_BF16" and isinstance(error, subprocess.CalledProcessError):
            return _load("AVX512", flags, source, without)  # compilers before GCC 10 do not know bfloat16
        say(f"{without}: {str(error).splitlines()[0]}")
        return None
    _share_threads(library)
    return library


def _wanted() -> str:
    wanted = os.environ.get("WELLREAD_KERNELS") or instructions()
    if wanted != "off" and wanted not in INSTRUCTIONS:
        say(f"WELLREAD_KERNELS={wanted} is not known; it can be off, {', '.join(INSTRUCTIONS)}")
        return instructions()
    return wanted


def binary_level() -> int:
    """The instruction set that binary.cpp may use at most (a value of LEVELS): $WELLREAD_KERNELS, or any."""
    return LEVELS.get(os.environ.get("WELLREAD_KERNELS", ""), max(LEVELS.values()))


def instructions() -> str:
    """The widest instruction set, of those the kernels are written for, that this machine has."""
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    if capability == "AVX512" and torch.cpu.get_capabilities().get("avx512_bf16", False):
        return "AVX512_BF16"
    return capability if capability in INSTRUCTIONS else "portable"


def compiler() -> str | None:
    """The C++ compiler: $CXX, or the first of the usual names on the path."""
    names = (os.environ.get("CXX"), *COMPILERS)
    return next((found for name in names if name and (found := shutil.which(name))), None)


def compiled(name: str, extra: tuple[str, ...] = (), source: Path = SOURCE) -> Path:
    """The library for an instruction set, from the cache or compiled now.

    Args:
        name: a key of INSTRUCTIONS.
        extra: more flags for the compiler.
        source: the C++ file.

    Raises:
        OSError: there is no compiler, or the cache cannot be written.
        subprocess.CalledProcessError: the compiler failed.
    """
    tool = compiler()
    flags = (*FLAGS, *INSTRUCTIONS[name], *extra)
    texts = [path.read_text() for path in (source, *HEADERS)]
    key = hashlib.sha256("\0".join((*texts, *flags)).encode()).hexdigest()[:16]
    target = home() / "kernels" / f"{source.stem}-{name.lower()}-{key}.so"
    if target.exists():
        return target
    if tool is None:
        raise OSError("there is no C++ compiler (install g++, or set CXX)")
    target.parent.mkdir(parents=True, exist_ok=True)
    # Built aside and renamed: processes that start together each see a whole library or none.
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        made = Path(scratch) / target.name
        command = [tool, *flags, "-o", str(made), str(source)]
        subprocess.run(command, check=True, capture_output=True, timeout=600)
        made.replace(target)
    return target


def _share_threads(library: ctypes.CDLL) -> None:
    """Give the kernels torch's own OpenMP threads; their own would compete for the cores."""
    import torch

    folder = Path(torch.__file__).parent / "lib"
    for path in (*sorted(folder.glob("lib*omp*.so*")), None):
        try:
            function = ctypes.CDLL(None if path is None else str(path)).GOMP_parallel
        except (OSError, AttributeError):
            continue
        library.wellread_use_pool(ctypes.cast(function, ctypes.c_void_p))
        return


if __name__ == "__main__":
    found, binary = load(), load_binary()
    load_elementwise()
    load_attention()
    say(f"sparse kernels: {instructions() if found else 'none'}")
    names = {level: name for name, level in LEVELS.items()}
    say(f"binary kernels: {names[binary.wellread_binary_best()] if binary else 'none'}")
    sys.exit(0)
