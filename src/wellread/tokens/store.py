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
import hashlib
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from wellread import files
from wellread.errors import ArtefactError, DataError
from wellread.progress import Progress

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

VERSION = 1
SHARD_TOKENS = 1 << 27
# Texts go to the threads in parcels of about so many characters, and longer texts in pieces: an encoding
# takes some hundred bytes a token while it lasts.
PARCEL_CHARACTERS = 1 << 18

_WORD = re.compile(r"\w+|[^\w\s]")
_GAP = re.compile(r"(?<=\S)\s")
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

    def word_starts(self, start: int, stop: int) -> np.ndarray:
        """Whether a word begins at each token of the range [start, stop), bool."""
        return self.gather(np.arange(start, stop))[1]

    def document_ids(self) -> list[str]:
        """The documents' ids in order (read from the disk at each call)."""
        return (self.folder / "ids.txt").read_text("utf-8").split("\n")[: self.n_documents]


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
    tokenizer = _read_tokenizer(Path(tokenizer_folder))
    vocab_size = tokenizer.get_vocab_size(with_added_tokens=True)
    dtype = np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")
    sizes = [0]
    n_bytes = 0
    with (
        Progress("tokenise", None, "tokens", quiet=quiet) as progress,
        open(folder / "ids.txt", "w", encoding="utf-8", newline="\n") as ids,
        contextlib.closing(_Shards(folder, dtype, shard_tokens)) as shards,
    ):
        for parcel in _encoded(texts, tokenizer, processes):
            shards.write(parcel.tokens, parcel.starts)
            n_bytes += parcel.n_bytes
            for name, size in zip(parcel.names, parcel.sizes, strict=True):
                if name is None:
                    sizes[-1] += size
                else:
                    ids.write(f"{name}\n")
                    sizes.append(size)
            share = f"{len(sizes) - 1}/{total} documents" if total else None
            progress.advance(len(parcel.tokens), share)
    offsets = np.cumsum(np.array(sizes, np.int64))
    np.save(folder / "offsets.npy", offsets)
    prefix, suffix = _specials(tokenizer)
    files.write_json(
        folder / "store.json",
        {
            "version": VERSION,
            "tokens": int(offsets[-1]),
            "documents": len(sizes) - 1,
            "bytes": n_bytes,
            "vocab_size": vocab_size,
            "dtype": dtype.name,
            "prefix": prefix,
            "suffix": suffix,
            "tokenizer_sha256": files.sha256_file(Path(tokenizer_folder) / "tokenizer.json"),
            "shard_tokens": shard_tokens,
            "shards": shards.done,
            "offsets_sha256": files.sha256_file(folder / "offsets.npy"),
            "ids_sha256": files.sha256_file(folder / "ids.txt"),
        },
    )


class _Piece(NamedTuple):
    """A document's text, or the ``number``-th piece of it where it is long."""

    name: str
    number: int
    text: str


@dataclass(frozen=True)
class _Parcel:
    """Pieces of text in a row, tokenised; one without a name goes on with the document before it."""

    names: list[str | None]
    sizes: list[int]
    n_bytes: int
    tokens: np.ndarray
    starts: np.ndarray


class _Shards:
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
        for name in _shard_names(len(self.done)):
            self._open.append((open(self.folder / name, "wb"), hashlib.sha256()))  # noqa: SIM115

    def _put(self, which: int, data: bytes) -> None:
        stream, digest = self._open[which]
        stream.write(data)
        digest.update(data)


def _shard_names(number: int) -> tuple[str, str]:
    return f"tokens-{number:05d}.bin", f"words-{number:05d}.bin"


def _read_tokenizer(folder: Path) -> Tokenizer:
    """The bare tokenizer, which takes names of special tokens that stand in a text for plain text."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the library raises a bare Exception
        raise ArtefactError(
            f"no tokenizer can be read here ({type(error).__name__})",
            where=str(folder),
            fix="run the tokenizer stage again",
        ) from None
    tokenizer.encode_special_tokens = True
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _specials(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Special tokens that the tokenizer puts before and after a sequence."""
    encoding = tokenizer.encode("a")
    inner = [place for place, special in enumerate(encoding.special_tokens_mask) if not special]
    return encoding.ids[: inner[0]], encoding.ids[inner[-1] + 1 :]


def _encoded(texts: Iterable[tuple[str, str]], tokenizer: Tokenizer, threads: int) -> Iterator[_Parcel]:
    """Tokenise parcels in ``threads`` threads; they come out in the order in which they went in."""
    by_word_ids = len(set(tokenizer.encode("two words", add_special_tokens=False).word_ids)) > 1
    waiting: deque[Future[_Parcel]] = deque()
    with _single_threaded_library(), ThreadPoolExecutor(threads) as pool:
        try:
            for parcel in _parcels(texts):
                waiting.append(pool.submit(_encode, parcel, tokenizer, by_word_ids))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@contextlib.contextmanager
def _single_threaded_library() -> Iterator[None]:
    """Keep `tokenizers` from starting as many threads of its own as there are cores."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ[name] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _parcels(texts: Iterable[tuple[str, str]]) -> Iterator[list[_Piece]]:
    parcel: list[_Piece] = []
    size = 0
    for name, text in texts:
        if "\n" in name:
            raise DataError("a document's id holds a line break", fix="give the documents other ids")
        for number, piece in enumerate(_pieces(text)):
            parcel.append(_Piece(name, number, piece))
            size += len(piece)
            if size >= PARCEL_CHARACTERS:
                yield parcel
                parcel, size = [], 0
    if parcel:
        yield parcel


def _pieces(text: str) -> Iterator[str]:
    """The text, cut before white space where it is too long to be tokenised in one go."""
    begin = 0
    while len(text) - begin > PARCEL_CHARACTERS:
        space = _GAP.search(text, begin + PARCEL_CHARACTERS, begin + 2 * PARCEL_CHARACTERS)
        end = space.start() if space else begin + PARCEL_CHARACTERS
        yield text[begin:end]
        begin = end
    yield text[begin:]


def _encode(parcel: list[_Piece], tokenizer: Tokenizer, by_word_ids: bool) -> _Parcel:
    n_bytes = sum(_utf8_length(piece) for piece in parcel)
    encodings = tokenizer.encode_batch([piece.text for piece in parcel], add_special_tokens=False)
    starts = [
        _starts(encoding) if by_word_ids else _starts_by_offsets(encoding, piece.text)
        for encoding, piece in zip(encodings, parcel, strict=True)
    ]
    return _Parcel(
        names=[None if piece.number else piece.name for piece in parcel],
        sizes=[len(encoding) for encoding in encodings],
        n_bytes=n_bytes,
        tokens=np.concatenate([np.array(encoding.ids, np.int64) for encoding in encodings]),
        starts=np.concatenate(starts),
    )


def _utf8_length(piece: _Piece) -> int:
    try:
        piece.name.encode()
        return len(piece.text.encode())
    except UnicodeEncodeError:
        raise DataError(
            "the text or id holds a lone surrogate, which is no character",
            where=f"document {piece.name.encode(errors='backslashreplace').decode()}",
            fix="read the file with its right encoding, or remove the document",
        ) from None


def _starts(encoding: Encoding) -> np.ndarray:
    """Word starts where the tokenizer itself splits text into words."""
    words = np.array(encoding.word_ids, np.int64)
    return np.concatenate([np.ones(len(words[:1]), bool), words[1:] != words[:-1]])


def _starts_by_offsets(encoding: Encoding, text: str) -> np.ndarray:
    """Word starts where it does not: a token begins a word if it is the first on a word's first character."""
    begun = np.zeros(len(text) + 1, np.int64)
    begun[[match.start() + 1 for match in _WORD.finditer(text)]] = 1
    begun = np.cumsum(begun)
    spans = np.array(encoding.offsets, np.int64).reshape(-1, 2)
    ends = np.maximum.accumulate(spans[:, 1]) if len(spans) else spans[:, 1]
    before = np.concatenate([np.zeros(len(ends[:1]), np.int64), ends[:-1]])
    return begun[ends] > begun[np.maximum(spans[:, 0], before)]


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
            tokens_name, words_name = _shard_names(number)
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
