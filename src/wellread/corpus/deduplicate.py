"""Duplicates among any number of documents, in bounded memory.

Every document leaves a hash of its id, a hash of its text and a MinHash signature (Broder, 1997) on the
disk.  Equal hashes are found by sorting; near-duplicates by banding (locality-sensitive hashing, Indyk and
Motwani, 1998): documents whose signatures agree in all rows of one band are candidates, and those whose
signatures agree in a share of at least the threshold, the estimate of their Jaccard similarity, are
duplicates.  See docs/methods/deduplication.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from wellread.corpus.shingles import hashes

PERMUTATIONS = 128
SHINGLE_WORDS = 5
KEPT, SAME_ID, SAME_TEXT, NEAR = range(4)

# Bounds on memory: rows sorted at once, pairs compared at once, shingles and documents per MinHash call.
_ROWS = 1 << 21
_PAIRS = 1 << 14
_BATCH_SHINGLES = 1 << 20
_BATCH_DOCUMENTS = 4096
# Each document of a bucket is compared with the bucket's first one and with so many before it, so a bucket of
# boilerplate costs linear and not quadratic time.
_NEIGHBOURS = 8


def rows_per_band(threshold: float) -> int:
    """The most selective banding that misses at most 1% of the pairs whose similarity is the threshold."""
    for rows in (32, 16, 8, 4, 2):
        if (1 - threshold**rows) ** (PERMUTATIONS // rows) <= 0.01:
            return rows
    return 1


class Fingerprints:
    """Collects the fingerprints of documents in files of a scratch folder.

    Args:
        folder: an empty scratch folder.
        threshold: Jaccard similarity (word 5-grams) that makes a near-duplicate; 0 looks for none.
        seed: of the MinHash permutations.
    """

    def __init__(self, folder: Path, threshold: float, seed: int = 0) -> None:
        self.folder, self.threshold, self.count = folder, threshold, 0
        self._seed = seed % 2**32
        self._rows = rows_per_band(threshold)
        self._bands = [f"band{band}" for band in range(PERMUTATIONS // self._rows)] if threshold else []
        names = ["ids", "texts", *self._bands, *(["signatures"] if threshold else [])]
        self._files = {name: open(folder / name, "wb") for name in names}  # noqa: SIM115 - closed by close()
        self._waiting: list[np.ndarray] = []
        self._waiting_shingles = 0

    def add(self, identifier: str, text: str) -> None:
        """Take the fingerprints of the next document."""
        plain = " ".join(text.lower().split())
        self._files["ids"].write(_hash(identifier))
        self._files["texts"].write(_hash(plain))
        self.count += 1
        if self.threshold:
            # A text without words is like no other.
            shingles = hashes(plain, SHINGLE_WORDS)
            self._waiting.append(shingles if len(shingles) else np.frombuffer(_hash(identifier), np.uint64))
            self._waiting_shingles += len(shingles)
            if self._waiting_shingles >= _BATCH_SHINGLES or len(self._waiting) >= _BATCH_DOCUMENTS:
                self._flush()

    def close(self) -> None:
        """Write out what waits."""
        self._flush()
        for file in self._files.values():
            file.close()

    def duplicates(self) -> np.ndarray:
        """What each document is: KEPT, SAME_ID, SAME_TEXT or NEAR; uint8 (documents), mapped from a file.

        A document is a duplicate of an earlier one.  A document dropped for its id or text counts for
        nothing in the comparisons that follow.
        """
        if not self.count:
            return np.empty(0, np.uint8)
        state = np.memmap(self.folder / "state", np.uint8, "w+", shape=(self.count,))
        for name, reason in (("ids", SAME_ID), ("texts", SAME_TEXT)):
            for order, same in _buckets(self.folder / name, state):
                state[order[1:][same]] = reason
        if self.threshold:
            self._near(state)
        return state

    def _flush(self) -> None:
        if not self._waiting:
            return
        from rensa import RMinHash

        offsets = np.cumsum([0, *map(len, self._waiting)], dtype=np.uint64)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            np.concatenate(self._waiting), offsets, PERMUTATIONS, self._seed
        )
        signatures = np.array(matrix.to_rows(), np.uint32)
        self._files["signatures"].write(signatures.tobytes())
        for name, rows in zip(self._bands, np.split(signatures, len(self._bands), axis=1), strict=True):
            self._files[name].write(_keys(rows).tobytes())
        self._waiting, self._waiting_shingles = [], 0

    def _near(self, state: np.ndarray) -> None:
        # Near-duplicates are marked at the end, so that the outcome does not depend on the order of the work.
        near = np.memmap(self.folder / "near", np.uint8, "w+", shape=(self.count,))
        with open(self.folder / "signatures", "rb", buffering=0) as stream:
            for name in self._bands:
                for order, same in _buckets(self.folder / name, state):
                    for earlier, later in _pairs(order, same):
                        undecided = near[later] == 0
                        one, other = (_signatures(stream, part[undecided]) for part in (earlier, later))
                        equal = np.sum(one == other, axis=1)
                        near[later[undecided][equal >= self.threshold * PERMUTATIONS]] = 1
        for start in range(0, self.count, _ROWS):
            part = state[start : start + _ROWS]
            part[(near[start : start + _ROWS] == 1) & (part == KEPT)] = NEAR


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def _keys(rows: np.ndarray) -> np.ndarray:
    """One uint64 (documents) for the rows of a band, uint32 (documents, rows)."""
    key = np.zeros(len(rows), np.uint64)
    for column in rows.T:
        key = (key ^ column) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
    return key


def _signatures(stream: BinaryIO, numbers: np.ndarray) -> np.ndarray:
    """The signatures of some documents, uint32 (numbers, PERMUTATIONS).

    They are read one by one, for pages of a mapped file would count as memory of this process.
    """
    size, parts = 4 * PERMUTATIONS, []
    for number in numbers.tolist():
        stream.seek(number * size)
        parts.append(stream.read(size))
    return np.frombuffer(b"".join(parts), np.uint32).reshape(-1, PERMUTATIONS)


def _buckets(path: Path, state: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Kept documents sorted by key, a part of all key values at a time.

    Args:
        path: a file of uint64 keys, one for each document.
        state: uint8 (documents).

    Yields:
        document numbers (n), equal keys side by side and in reading order among themselves; and booleans
        (n - 1), whether each but the first has the key of the one before.
    """
    parts, step = -(-len(state) // _ROWS), max(1, _ROWS // 4)
    for part in range(parts):
        numbers, values = [], []
        for start in range(0, len(state), step):
            key = np.fromfile(path, np.uint64, step, offset=8 * start)
            chosen = np.flatnonzero((key % np.uint64(parts) == part) & (state[start : start + step] == KEPT))
            numbers.append(chosen + start)
            values.append(key[chosen])
        value = np.concatenate(values)
        order = np.argsort(value, kind="stable")
        value = value[order]
        yield np.concatenate(numbers)[order], value[1:] == value[:-1]


def _pairs(order: np.ndarray, same: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs (earlier, later) of documents in one bucket, at most ``_PAIRS`` at a time."""
    begins = np.concatenate([[True], ~same])
    first = np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))
    place = np.flatnonzero(~begins)  # alone in its bucket, a document has nothing to be compared with
    for start in range(0, len(place), _PAIRS):
        here = place[start : start + _PAIRS]
        yield order[first[here]], order[here]
        for shift in range(1, _NEIGHBOURS + 1):
            there = here[here - shift > first[here]]
            if len(there):
                yield order[there - shift], order[there]
