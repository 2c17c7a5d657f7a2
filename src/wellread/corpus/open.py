"""Files as streams of bytes or lines, whatever they are compressed with, in bounded memory."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from wellread.errors import DataError

CHUNK_BYTES = 1 << 20
MAX_LINE_BYTES = 64 << 20

# A compressed zstd block of four bytes can stand for 128 KB, so this much input is at most 64 MB of output.
_ZSTD_INPUT_BYTES = 2048

_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)
_SUFFIXES = {".gz": "gzip", ".xz": "xz", ".bz2": "bzip2", ".zst": "zstd"}
_UNPACK = {"gzip": "gzip -dc", "xz": "xz -dc", "bzip2": "bzip2 -dc", "zstd": "zstd -dc", "": "cat"}


def compression_of(path: Path) -> str:
    """How a file is compressed, by its first bytes: "gzip", "xz", "bzip2", "zstd" or "".

    Raises:
        DataError: the file cannot be read, or its name promises a compression that its bytes do not have
            and it is not plain text either.
    """
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise DataError("not a regular file", where=str(path), fix="give a file, or a folder of files")
        with open(path, "rb") as stream:
            head = stream.read(4096)
    except OSError as error:
        raise DataError(
            f"cannot be read ({error.strerror or type(error).__name__})",
            where=str(path),
            fix="check that the file exists and that you may read it",
        ) from None
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    named = _SUFFIXES.get(Path(path).suffix.lower(), "")
    if named and not _is_text(head):
        raise DataError(
            f"named as a {named} file, but its content is not {named}",
            where=str(path),
            fix="fetch or make the file again; it is damaged or not finished",
        )
    return ""


def plain_suffix(path: Path) -> str:
    """The suffix that tells the format, in lower case: ".jsonl" for "a.JSONL.gz"."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    while suffixes and suffixes[-1] in _SUFFIXES:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def open_bytes(path: Path) -> BinaryIO:
    """Open a file for reading, decompressed as its content asks for.

    Reading from the stream raises :class:`DataError` where the archive is cut off or damaged.

    Raises:
        DataError: the file cannot be opened.
    """
    path = Path(path)
    kind = compression_of(path)
    openers: dict[str, Callable[[Path], Any]] = {
        "gzip": gzip.GzipFile,
        "xz": lzma.LZMAFile,
        "bzip2": bz2.BZ2File,
        "zstd": _Zstd,
        "": lambda plain: open(plain, "rb"),  # noqa: SIM115 - closed with the outer stream
    }
    return io.BufferedReader(_Checked(openers[kind](path), path, kind), CHUNK_BYTES)  # type: ignore[return-value]


def lines(path: Path, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[tuple[int, str]]:
    r"""The lines of a text file with their numbers, counted from 1, without their line ends.

    UTF-8 with or without a byte order mark, UTF-16 and UTF-32 with one; lines end with ``\n``, ``\r\n`` or
    ``\r``.  At most one line and one chunk are in memory.

    Raises:
        DataError: the file cannot be read, is in another encoding, or has a longer line than
            ``max_line_bytes`` (counted in UTF-8).
    """
    path = Path(path)
    with open_bytes(path) as stream:
        chunks = iter(lambda: stream.read(CHUNK_BYTES), b"")
        number = 0
        for number, line in enumerate(_split(_as_utf8(chunks, path), path, max_line_bytes), 1):
            try:
                yield number, line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise _not_utf8(path, number, line, error) from None


def _split(chunks: Iterable[bytes], path: Path, limit: int) -> Iterator[bytes]:
    """Cut a stream of bytes at line ends; a last line without an end counts, an empty one does not."""
    parts: list[bytes] = []
    number, length, ends_with_return = 1, 0, False
    for chunk in chunks:
        if ends_with_return:  # "\r\n" may be cut between two chunks
            chunk = b"\r" + chunk
        ends_with_return = chunk.endswith(b"\r")
        if ends_with_return:
            chunk = chunk[:-1]
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            if length:
                line, parts, length = b"".join([*parts, line]), [], 0
            if len(line) > limit:
                raise _too_long(path, number, limit)
            yield line
            number += 1
        parts.append(rest)
        length += len(rest)
        if length > limit:
            raise _too_long(path, number, limit)
    if length or ends_with_return:
        yield b"".join(parts)


def _as_utf8(chunks: Iterator[bytes], path: Path) -> Iterator[bytes]:
    """The same text in UTF-8 without a byte order mark, as the first chunk shows the encoding."""
    first = next(chunks, b"")
    if first.startswith(codecs.BOM_UTF8):
        yield first[len(codecs.BOM_UTF8) :]
        yield from chunks
        return
    wide = "utf-32" if first.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)) else "utf-16"
    if wide == "utf-16" and not first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        _refuse_unmarked_utf16(first[:4096], path)
        yield first
        yield from chunks
        return
    decoder = codecs.getincrementaldecoder(wide)()
    try:
        yield decoder.decode(first).encode()
        for chunk in chunks:
            yield decoder.decode(chunk).encode()
        yield decoder.decode(b"", final=True).encode()
    except UnicodeError:
        raise DataError(
            f"begins as {wide.upper()} but is not valid {wide.upper()} throughout",
            where=str(path),
            fix="fetch or make the file again, best in UTF-8",
        ) from None


def _refuse_unmarked_utf16(head: bytes, path: Path) -> None:
    zeros = [head[start::2].count(0) for start in (0, 1)]
    if len(head) >= 4 and max(zeros) > len(head) // 8 and min(zeros) < max(zeros) // 8:
        name = "UTF-16BE" if zeros[0] > zeros[1] else "UTF-16LE"
        raise DataError(
            f"looks like {name} without a byte order mark, not UTF-8",
            where=f"{path}:1",
            fix=_iconv(path, name),
        )


def _not_utf8(path: Path, number: int, line: bytes, error: UnicodeDecodeError) -> DataError:
    # Windows-1252 uses the bytes 0x80-0x9f, which are control characters in Latin-1.
    likely = "WINDOWS-1252" if any(0x80 <= byte <= 0x9F for byte in line) else "ISO-8859-1"
    return DataError(
        f"not valid UTF-8 (byte 0x{line[error.start]:02x} at byte {error.start + 1} of the line); "
        f"likely {'Windows-1252' if likely[0] == 'W' else 'Latin-1 (ISO-8859-1)'}",
        where=f"{path}:{number}",
        fix=_iconv(path, likely),
    )


def _iconv(path: Path, encoding: str) -> str:
    plain = path.with_suffix("") if compression_of(path) else path
    target = plain.with_name(f"{plain.stem}.utf8{plain.suffix}")
    unpack = _UNPACK[compression_of(path)]
    return f"convert it: {unpack} '{path}' | iconv -f {encoding} -t UTF-8 > '{target.name}'"


def _too_long(path: Path, number: int, limit: int) -> DataError:
    size = f"{limit >> 20} MB" if limit >= 1 << 20 else f"{limit} bytes"
    return DataError(
        f"the line is longer than {size}",
        where=f"{path}:{number}",
        fix="put one record on each line; is this one large JSON value, or a binary file?",
    )


def _is_text(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return not any(byte < 9 for byte in head)


class _Checked(io.RawIOBase):
    """A stream whose failures are told as :class:`DataError`."""

    def __init__(self, inner: BinaryIO, path: Path, kind: str) -> None:
        self._inner, self._path, self._kind = inner, path, kind

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        import zstandard

        try:
            data = self._inner.read(len(buffer))
        except EOFError:
            raise self._error(f"the {self._kind} file ends too early (cut off)") from None
        except (gzip.BadGzipFile, zlib.error, lzma.LZMAError, zstandard.ZstdError, ValueError):
            raise self._error(f"the {self._kind} file is damaged") from None
        except OSError as error:
            what = f"the {self._kind} file is damaged" if self._kind and not error.errno else "cannot be read"
            raise self._error(f"{what} ({error.strerror or type(error).__name__})") from None
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._inner.close()
        super().close()

    def _error(self, what: str) -> DataError:
        return DataError(what, where=str(self._path), fix="fetch or make the file again")


class _Zstd(io.RawIOBase):
    """Decompressed zstd frames; unlike the library's own reader it notices a frame that is cut off."""

    def __init__(self, path: Path) -> None:
        import zstandard

        self._raw = open(path, "rb")  # noqa: SIM115 - closed by close()
        self._decompressor = zstandard.ZstdDecompressor()
        self._frame = self._decompressor.decompressobj()
        self._fresh, self._rest, self._ready = True, b"", memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        while not self._ready:
            data = self._rest or self._raw.read(_ZSTD_INPUT_BYTES)
            self._rest = b""
            if not data:
                if not self._fresh:
                    raise EOFError
                return 0
            self._ready = memoryview(self._frame.decompress(data))
            self._fresh = False
            if self._frame.eof:
                self._rest = self._frame.unused_data
                self._frame, self._fresh = self._decompressor.decompressobj(), True
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()
