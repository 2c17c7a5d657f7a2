"""Tables: CSV and TSV with a header line, and Parquet; one document a row."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wellread.corpus.documents import Document
from wellread.corpus.open import CHUNK_BYTES, MAX_LINE_BYTES, compression_of, lines, open_bytes, plain_suffix
from wellread.corpus.readers.record import KEYS, Fields, Place, document, no_text, text_keys
from wellread.errors import DataError
from wellread.tabbed import tabbed

_PARQUET_ROWS = 256


def read(path: Path, name: str = "", text_field: Fields = "text", id_field: str = "id") -> Iterator[Document]:
    """Stream the documents of a table; the columns are the keys of :mod:`wellread.corpus.readers.jsonl`.

    The delimiter of a text table is the tab if the name or the header line says so, else the comma (or the
    semicolon where the header has no comma).

    Args:
        path: a CSV, TSV or Parquet file, compressed or not.
        name: the source that ids and documents state; default the file's name.
        text_field: column of the text, or several, of which the first is taken that is there.
        id_field: column of the id.

    Raises:
        DataError: no header, no text column, a row of another width, or a value of the wrong type.
    """
    source = name or Path(path).name
    rows = _parquet(path, text_field, id_field) if is_parquet(path) else _delimited(path)
    for line, record in rows:
        yield document(record, Place(str(path), line, source), text_field, id_field)


def is_parquet(path: Path) -> bool:
    """Whether the (decompressed) content begins as Parquet does."""
    with open_bytes(path) as stream:
        return stream.read(4) == b"PAR1"


def _delimited(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    numbered = lines(path)
    first = next(numbered, None)
    if first is None or not first[1].strip():
        raise DataError("no header line", where=f"{path}:1", fix="begin the table with its column names")
    mark = _delimiter(path, first[1])
    columns = next(csv.reader([first[1]], delimiter=mark))
    if len(set(columns)) < len(columns):
        raise DataError("two columns have the same name", where=f"{path}:1", fix="rename one of them")
    csv.field_size_limit(MAX_LINE_BYTES)
    rows = tabbed(numbered, len(columns)) if mark == "\t" else _rows(path, numbered, mark)
    for began, row in rows:
        if not row:
            continue
        if len(row) != len(columns):
            raise DataError(
                f"the row has {len(row)} values, the header {len(columns)}",
                where=f"{path}:{began}",
                fix="quote values that hold the delimiter or line ends",
            )
        yield began, dict(zip(columns, row, strict=True))


def _rows(path: Path, numbered: Iterator[tuple[int, str]], mark: str) -> Iterator[tuple[int, list[str]]]:
    """Rows with the line on which each begins; a quoted value may go over several lines."""
    rows = csv.reader((line + "\n" for _, line in numbered), delimiter=mark, strict=True)
    while True:
        began = rows.line_num + 2
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise DataError(
                f"broken row ({error})",
                where=f"{path}:{began}",
                fix='a value with quotes is written "as ""here"""; is a closing quote missing?',
            ) from None
        if row is None:
            return
        yield began, row


def _delimiter(path: Path, header: str) -> str:
    if plain_suffix(path) in (".tsv", ".tab") or "\t" in header:
        return "\t"
    return ";" if ";" in header and "," not in header else ","


def _parquet(path: Path, text_field: Fields, id_field: str) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with tempfile.TemporaryFile() as scratch:
        plain: Any = path
        if compression_of(path):  # Parquet is read from its end, so it must be unpacked first
            with open_bytes(path) as stream:
                while chunk := stream.read(CHUNK_BYTES):
                    scratch.write(chunk)
            scratch.seek(0)
            plain = scratch
        row = 0
        try:
            with pq.ParquetFile(plain, memory_map=False, buffer_size=CHUNK_BYTES) as file:
                names = file.schema_arrow.names
                if not set(text_keys(text_field)) & set(names):
                    raise no_text(text_field, str(path), "column", names)
                columns = [name for name in names if name in KEYS | {*text_keys(text_field), id_field}]
                for batch in file.iter_batches(_PARQUET_ROWS, columns=columns, use_threads=False):
                    for record in batch.to_pylist():
                        row += 1
                        yield row, record
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"damaged Parquet after row {row} ({type(error).__name__})",
                where=str(path),
                fix="write or fetch the file again",
            ) from None
