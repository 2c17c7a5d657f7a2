"""JSON-lines logs that can be cut back to where a checkpoint was made."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self


class Logs:
    """Some log files of one folder, open for appending.  Use as a context manager.

    Args:
        folder: where they lie; None keeps nothing (a process of a group that another one writes for).
        names: of the files.
        offsets: length in bytes that each is cut to first; 0 where none is given.
    """

    def __init__(self, folder: Path | None, names: tuple[str, ...], offsets: Mapping[str, int]) -> None:
        self._streams: dict[str, BinaryIO] = {}
        if folder is None:
            return
        for name in names:
            stream = open(folder / name, "ab")  # noqa: SIM115 (closed in __exit__)
            stream.truncate(offsets.get(name, 0))
            stream.seek(0, os.SEEK_END)
            self._streams[name] = stream

    def write(self, name: str, record: Mapping[str, Any]) -> None:
        """Append one line."""
        line = json.dumps(record, allow_nan=False, separators=(", ", ": "))
        if self._streams:
            self._streams[name].write(line.encode() + b"\n")

    def offsets(self) -> dict[str, int]:
        """Flush all to the disk and say how long each is, in bytes."""
        for stream in self._streams.values():
            stream.flush()
            os.fsync(stream.fileno())
        return {name: stream.tell() for name, stream in self._streams.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in self._streams.values():
            stream.close()
