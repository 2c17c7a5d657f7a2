"""The large files of a token store: token ids and word bits, shard after shard."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np


def shard_names(number: int) -> tuple[str, str]:
    """The files of a shard: token ids, word bits."""
    return f"tokens-{number:05d}.bin", f"words-{number:05d}.bin"


class Shards:
    """Writes token ids and word bits into shard after shard, hashing as it goes."""

    def __init__(self, folder: Path, dtype: np.dtype, shard_tokens: int) -> None:
        if shard_tokens % 8:
            raise ValueError("shard_tokens must be a multiple of 8")
        self.folder, self.dtype, self.shard_tokens = folder, dtype, shard_tokens
        self.done: list[dict[str, Any]] = []
        self._open: list[tuple[BinaryIO, Any]] = []
        self._size = 0
        self._bits = np.empty(0, bool)

    def write(self, tokens: np.ndarray, starts: np.ndarray) -> None:
        """Append; a full shard is closed and the next one begun."""
        while len(tokens):
            if not self._open:
                self._begin()
            room = self.shard_tokens - self._size
            self._put(0, tokens[:room].astype(self.dtype).tobytes())
            bits = np.concatenate([self._bits, starts[:room]])
            whole = len(bits) // 8 * 8
            self._put(1, np.packbits(bits[:whole], bitorder="little").tobytes())
            self._bits = bits[whole:]
            self._size += min(room, len(tokens))
            tokens, starts = tokens[room:], starts[room:]
            if self._size == self.shard_tokens:
                self.close()

    def close(self) -> None:
        """End the shard that is open, if one is."""
        if not self._open:
            return
        self._put(1, np.packbits(self._bits, bitorder="little").tobytes())
        hashes = []
        for stream, digest in self._open:
            stream.close()
            hashes.append(digest.hexdigest())
        self.done.append({"tokens": self._size, "tokens_sha256": hashes[0], "words_sha256": hashes[1]})
        self._open, self._size, self._bits = [], 0, np.empty(0, bool)

    def _begin(self) -> None:
        for name in shard_names(len(self.done)):
            self._open.append((open(self.folder / name, "wb"), hashlib.sha256()))  # noqa: SIM115

    def _put(self, which: int, data: bytes) -> None:
        stream, digest = self._open[which]
        stream.write(data)
        digest.update(data)
