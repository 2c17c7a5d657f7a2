"""Texts to token ids and word starts, tokenised in threads and in parcels, for the token store."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from wellread.errors import ArtefactError, DataError
from wellread.workers import tokenizer_threads

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

# Texts go to the threads in parcels of about so many characters, and longer texts in pieces: an encoding
# takes some hundred bytes a token while it lasts.
PARCEL_CHARACTERS = 1 << 18

_WORD = re.compile(r"\w+|[^\w\s]")
_GAP = re.compile(r"(?<=\S)\s")


class _Piece(NamedTuple):
    """A document's text, or the ``number``-th piece of it where it is long."""

    name: str
    number: int
    text: str


@dataclass(frozen=True)
class Parcel:
    """Pieces of text in a row, tokenised; one without a name goes on with the document before it.

    Attributes:
        names: (pieces,) document ids.
        sizes: (pieces,) tokens of each.
        n_bytes: UTF-8 bytes of them all.
        tokens: (tokens,) int64 ids.
        starts: (tokens,) bool, does a word begin here?
    """

    names: list[str | None]
    sizes: list[int]
    n_bytes: int
    tokens: np.ndarray
    starts: np.ndarray


def read_tokenizer(folder: Path) -> Tokenizer:
    """The bare tokenizer, which takes names of special tokens that stand in a text for plain text.

    Raises:
        ArtefactError: no tokenizer there.
    """
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


def specials(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Special tokens that the tokenizer puts before and after a sequence."""
    encoding = tokenizer.encode("a")
    inner = [place for place, special in enumerate(encoding.special_tokens_mask) if not special]
    return encoding.ids[: inner[0]], encoding.ids[inner[-1] + 1 :]


def encoded(texts: Iterable[tuple[str, str]], tokenizer: Tokenizer, threads: int) -> Iterator[Parcel]:
    """Tokenise parcels in ``threads`` threads; they come out in the order in which they went in.

    Raises:
        DataError: a text or an id that cannot be stored.
    """
    by_word_ids = len(set(tokenizer.encode("two words", add_special_tokens=False).word_ids)) > 1
    waiting: deque[Future[Parcel]] = deque()
    with tokenizer_threads(1), ThreadPoolExecutor(threads) as pool:
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


def _encode(parcel: list[_Piece], tokenizer: Tokenizer, by_word_ids: bool) -> Parcel:
    n_bytes = sum(_utf8_length(piece) for piece in parcel)
    encodings = tokenizer.encode_batch([piece.text for piece in parcel], add_special_tokens=False)
    starts = [
        _starts(encoding) if by_word_ids else _starts_by_offsets(encoding, piece.text)
        for encoding, piece in zip(encodings, parcel, strict=True)
    ]
    return Parcel(
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
