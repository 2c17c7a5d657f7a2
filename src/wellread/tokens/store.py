"""The token store: a corpus tokenised once, memory-mapped, opened without a scan.

    tokens-00000.bin   token ids end to end, uint16 (uint32 from 65,536 entries), SHARD_TOKENS to a shard
    words-00000.bin    one bit a token, least significant first: does a word begin here?
    offsets.npy        int64 (documents + 1): where each document begins, in tokens from the first shard on
    ids.txt            document ids, one a line
    store.json         counts, types and SHA-256; written last, so that a store without it is no store

Special tokens are not stored; batches add them (``prefix`` and ``suffix`` in store.json).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wellread import files
from wellread.errors import ArtefactError
from wellread.progress import Progress
from wellread.tokens.encode import Parcel, encoded, read_tokenizer, specials
from wellread.tokens.shards import Shards, shard_names

if TYPE_CHECKING:
    from tokenizers import Tokenizer

VERSION = 1
SHARD_TOKENS = 1 << 27

_NAMES = ("store.json", "offsets.npy", "ids.txt")


@dataclass(frozen=True)
class Store:
    """An open token store.

    Attributes:
        folder: where it lies.
        n_tokens: tokens in all, special tokens not counted.
        n_documents: documents, those without a token counted too.
        bytes: UTF-8 bytes of the text (for bits per byte).
        vocab_size: entries of the tokenizer.
        prefix: ids of the special tokens that go before a sequence.
        suffix: ids of those that go after it.
        offsets: (n_documents + 1,) int64, where each document begins.
        sha256: of store.json, which holds the hashes of all other files: the identity of the store.
    """

    folder: Path
    n_tokens: int
    n_documents: int
    bytes: int
    vocab_size: int
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    offsets: np.ndarray
    sha256: str
    _shard_tokens: int
    _tokens: tuple[np.ndarray, ...]
    _words: tuple[np.ndarray, ...]

    @staticmethod
    def open(folder: str | Path) -> Store:
        """Open a store; its files are mapped, and none is read.

        Raises:
            ArtefactError: a file is missing, has another size than store.json states, or the version differs.
        """
        return _open(Path(folder))

    def gather(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Token ids (int64) and word starts (bool) at any positions, in the shape (n,) of ``index``."""
        if len(self._tokens) == 1:
            return self._read(0, index)
        tokens = np.empty(len(index), np.int64)
        starts = np.empty(len(index), bool)
        shard, within = np.divmod(index, self._shard_tokens)
        for number in np.unique(shard):
            here = np.flatnonzero(shard == number)
            tokens[here], starts[here] = self._read(number, within[here])
        return tokens, starts

    def _read(self, shard: int, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        bits = self._words[shard][place >> 3] >> (place & 7).astype(np.uint8)
        return self._tokens[shard][place].astype(np.int64), (bits & 1).astype(bool)

    def tokens(self, start: int, stop: int) -> np.ndarray:
        """Token ids of the range [start, stop), (stop - start,) int64, across shards."""
        return self.gather(np.arange(start, stop))[0]

    def document_ids(self) -> list[str]:
        """The documents' ids in order (read from the disk at each call)."""
        return (self.folder / "ids.txt").read_text("utf-8").split("\n")[: self.n_documents]


def _open(folder: Path) -> Store:
    path = folder / "store.json"
    facts = files.read_json(path)
    if not isinstance(facts, dict) or facts.get("version") != VERSION:
        raise _damaged(path, f"not a token store of version {VERSION}")
    try:
        dtype = np.dtype(facts["dtype"]).newbyteorder("<")
        shards = [shard["tokens"] for shard in facts["shards"]]
        tokens, words = [], []
        for number, size in enumerate(shards):
            tokens_name, words_name = shard_names(number)
            tokens.append(_map(folder / tokens_name, dtype, size))
            words.append(_map(folder / words_name, np.dtype(np.uint8), -(-size // 8)))
        offsets = _map_offsets(folder / "offsets.npy", facts["documents"] + 1)
        full = [facts["shard_tokens"]] * (len(shards) - 1)
        if sum(shards) != facts["tokens"] or shards[:-1] != full or offsets[-1] != facts["tokens"]:
            raise _damaged(path, "the counts contradict each other")
        if not (folder / "ids.txt").is_file():
            raise _damaged(folder / "ids.txt", "the file is missing")
        return Store(
            folder=folder,
            n_tokens=facts["tokens"],
            n_documents=facts["documents"],
            bytes=facts["bytes"],
            vocab_size=facts["vocab_size"],
            prefix=tuple(facts["prefix"]),
            suffix=tuple(facts["suffix"]),
            offsets=offsets,
            sha256=files.sha256_file(path),
            _shard_tokens=facts["shard_tokens"],
            _tokens=tuple(tokens),
            _words=tuple(words),
        )
    except (KeyError, TypeError) as error:
        raise _damaged(path, f"a fact is missing or of the wrong type ({error})") from None


def _map(path: Path, dtype: np.dtype, size: int) -> np.ndarray:
    expected = size * dtype.itemsize
    actual = path.stat().st_size if path.is_file() else -1
    if actual != expected:
        found = "missing" if actual < 0 else f"{actual} bytes"
        raise _damaged(path, f"{found}, {expected} bytes expected")
    return np.memmap(path, dtype, "r", shape=(size,))


def _map_offsets(path: Path, size: int) -> np.ndarray:
    try:
        offsets = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise _damaged(path, f"cannot be read ({type(error).__name__})") from None
    if offsets.shape != (size,) or offsets.dtype != np.int64:
        raise _damaged(path, f"{offsets.dtype} {offsets.shape}, int64 ({size},) expected")
    return offsets


def _damaged(path: Path, what: str) -> ArtefactError:
    return ArtefactError(what, where=str(path), fix="delete the token store and run the tokens stage again")


def build(
    texts: Iterable[tuple[str, str]],
    tokenizer_folder: Path,
    folder: Path,
    *,
    processes: int,
    total: int | None = None,
    quiet: bool = False,
    shard_tokens: int = SHARD_TOKENS,
) -> None:
    """Tokenise documents once and write them as a store.  The bytes do not depend on ``processes``.

    Args:
        texts: (document id, text), passed over once.
        tokenizer_folder: folder with tokenizer.json.
        folder: where the store is written; the files of a build that was interrupted are replaced.
        processes: threads that tokenise (the library releases Python's lock while it works).
        total: number of documents, for the progress.
        quiet: say nothing.
        shard_tokens: tokens in a shard, a multiple of 8.

    Raises:
        ArtefactError: no tokenizer there.
        DataError: a text or an id that cannot be stored.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for old in [folder / name for name in _NAMES] + [*folder.glob("*-*.bin")]:
        old.unlink(missing_ok=True)
    tokenizer = read_tokenizer(Path(tokenizer_folder))
    vocab_size = tokenizer.get_vocab_size(with_added_tokens=True)
    dtype = np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")
    with (
        Progress("tokenise", None, "tokens", quiet=quiet) as progress,
        contextlib.closing(Shards(folder, dtype, shard_tokens)) as shards,
    ):
        parcels = encoded(texts, tokenizer, processes)
        sizes, n_bytes = _write(parcels, shards, folder / "ids.txt", total, progress)
    sha256 = files.sha256_file(Path(tokenizer_folder) / "tokenizer.json")
    _describe(folder, tokenizer, sha256, shards, sizes, n_bytes)


def _write(
    parcels: Iterable[Parcel], shards: Shards, ids: Path, total: int | None, progress: Progress
) -> tuple[list[int], int]:
    """Write tokens and document ids as they come.

    Returns:
        (1 + documents,) 0 and the tokens of each document, and the UTF-8 bytes of all texts.
    """
    sizes = [0]
    n_bytes = 0
    with open(ids, "w", encoding="utf-8", newline="\n") as stream:
        for parcel in parcels:
            shards.write(parcel.tokens, parcel.starts)
            n_bytes += parcel.n_bytes
            for name, size in zip(parcel.names, parcel.sizes, strict=True):
                if name is None:
                    sizes[-1] += size
                else:
                    stream.write(f"{name}\n")
                    sizes.append(size)
            share = f"{len(sizes) - 1}/{total} documents" if total else None
            progress.advance(len(parcel.tokens), share)
    return sizes, n_bytes


def _describe(
    folder: Path, tokenizer: Tokenizer, sha256: str, shards: Shards, sizes: list[int], n_bytes: int
) -> None:
    """Write offsets.npy and store.json, which makes the folder a store."""
    offsets = np.cumsum(np.array(sizes, np.int64))
    np.save(folder / "offsets.npy", offsets)
    prefix, suffix = specials(tokenizer)
    files.write_json(
        folder / "store.json",
        {
            "version": VERSION,
            "tokens": int(offsets[-1]),
            "documents": len(sizes) - 1,
            "bytes": n_bytes,
            "vocab_size": tokenizer.get_vocab_size(with_added_tokens=True),
            "dtype": shards.dtype.name,
            "prefix": prefix,
            "suffix": suffix,
            "tokenizer_sha256": sha256,
            "shard_tokens": shards.shard_tokens,
            "shards": shards.done,
            "offsets_sha256": files.sha256_file(folder / "offsets.npy"),
            "ids_sha256": files.sha256_file(folder / "ids.txt"),
        },
    )
