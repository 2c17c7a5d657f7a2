"""Plain text: documents with blank lines between them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from wellread.corpus.documents import Document, Section
from wellread.corpus.open import lines

MAX_CHARACTERS = 1 << 20


def read(path: Path, name: str = "") -> Iterator[Document]:
    """Stream the documents of a text file: blocks of lines with one or more blank lines between them.

    A block longer than ``MAX_CHARACTERS`` is cut at line ends into documents of about that length, so that
    a book without blank lines is read in bounded memory.  For one document a line, name the file a TSV with
    the header ``text``, or use JSONL.

    Args:
        path: a text file, compressed or not.
        name: the source that ids and documents state; default the file's name.

    Raises:
        DataError: the file cannot be read or is in another encoding.
    """
    source = name or Path(path).name
    block: list[str] = []
    began = length = 0
    for number, line in lines(path):
        ends = not line.strip() or length > MAX_CHARACTERS
        if ends and block:
            yield _document(source, began, block)
            block, length = [], 0
        if line.strip():
            if not block:
                began = number
            block.append(line)
            length += len(line) + 1
    if block:
        yield _document(source, began, block)


def _document(source: str, line: int, block: list[str]) -> Document:
    return Document(f"{source}#{line}", "", (Section("", "", "\n".join(block)),), source)
