"""Turn a pickle of plain values into JSON, in a process of its own: ``python -I unpickle.py FILE.pkl.bz2``.

Run as a script by ``mesh.py``; it imports nothing but the standard library.  A pickle can name functions to
call; this reader refuses every name, so only dictionaries, lists, tuples, sets, strings, numbers, booleans
and None can come out.
"""

from __future__ import annotations

import bz2
import contextlib
import io
import json
import pickle
import sys
from pathlib import Path
from typing import Any, NoReturn

MAX_BYTES = 200 << 20
MAX_MEMORY = 2 << 30


class PlainUnpickler(pickle.Unpickler):
    """An unpickler that resolves no global name and no persistent id."""

    def find_class(self, module: str, name: str) -> NoReturn:
        """Refuse every function and class."""
        raise pickle.UnpicklingError(f"the pickle names {module}.{name}, but only plain values are read")

    def persistent_load(self, _pid: Any) -> NoReturn:
        """Refuse every reference to the outside."""
        raise pickle.UnpicklingError("the pickle refers to objects outside of it")


def loads(data: bytes) -> Any:
    """The plain value in a pickle; ``pickle.UnpicklingError`` where it is anything else."""
    return PlainUnpickler(io.BytesIO(data)).load()


def main(path: str) -> None:
    """Print the value as JSON, sets as sorted lists."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    unpacker = bz2.BZ2Decompressor()
    data = unpacker.decompress(Path(path).read_bytes(), MAX_BYTES)
    if not unpacker.eof:
        raise EOFError("the file is cut off, or too large")
    json.dump(loads(data), sys.stdout, default=sorted, ensure_ascii=True)


if __name__ == "__main__":
    main(sys.argv[1])
