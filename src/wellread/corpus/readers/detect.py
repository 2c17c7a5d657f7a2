"""Which reader a file wants, by its content first and its name second."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from wellread.corpus.documents import Document
from wellread.corpus.open import open_bytes, plain_suffix
from wellread.corpus.readers import jats, jsonl, pubmed, table, text
from wellread.corpus.readers.record import Fields
from wellread.corpus.readers.xml import root_tag
from wellread.errors import DataError

# What is read from a folder; other files in it are passed over.
SUFFIXES = frozenset(
    {".xml", ".nxml", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".tab", ".parquet", ".txt", ".text"}
)
_JATS_ROOTS = {"article", "articles", "pmc-articleset", "OAI-PMH"}


def format_of(path: Path) -> str:
    """The format of a file: "pubmed", "jats", "jsonl", "table" or "text".

    Raises:
        DataError: the file is empty, unreadable, or of a format that is not read.
    """
    with open_bytes(path) as stream:
        head = stream.read(4096)
    suffix = plain_suffix(path)
    if not head.strip():
        raise DataError("the file is empty", where=str(path), fix="remove it from corpus.sources, or fill it")
    if head.startswith(b"PAR1"):
        return "table"
    if head.startswith((b"%PDF", b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise DataError(
            "a PDF, ZIP or Office file is not read",
            where=str(path),
            fix="convert it to text, JSONL, CSV, Parquet, PubMed XML or JATS",
        )
    if _is_binary(head):
        raise DataError(
            "a binary file (or a tar archive) is not read",
            where=str(path),
            fix="unpack it, or take it out of corpus.sources",
        )
    if suffix in (".xml", ".nxml") or head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<?xml"):
        return _xml_format(path)
    if suffix in (".jsonl", ".ndjson", ".json"):
        return "jsonl"
    if suffix in (".csv", ".tsv", ".tab"):
        return "table"
    if suffix == ".parquet":
        raise DataError(
            "named .parquet, but its content is not Parquet", where=str(path), fix="write it again"
        )
    if suffix in (".txt", ".text"):
        return "text"
    return "jsonl" if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") else "text"


def read(path: Path, name: str = "", text_field: Fields = "text", id_field: str = "id") -> Iterator[Document]:
    """Stream the documents of a file of any known format.

    Args:
        path: the file, compressed or not.
        name: the source that made-up ids and documents state; default the file's name.
        text_field: key or column of the text, or several in turn (JSONL and tables).
        id_field: key or column of the id (JSONL and tables).

    Raises:
        DataError: the file cannot be read; ``where`` has file and line.
    """
    kind = format_of(path)
    if kind == "pubmed":
        return pubmed.read(path, name)
    if kind == "jats":
        return jats.read(path, name)
    if kind == "text":
        return text.read(path, name)
    reader = jsonl.read if kind == "jsonl" else table.read
    return reader(path, name, text_field, id_field)


def _is_binary(head: bytes) -> bool:
    if head[257:262] == b"ustar":
        return True
    if b"\0" not in head or head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return not head.startswith(codecs.BOM_UTF32_BE)
    return False


def _xml_format(path: Path) -> str:
    root = root_tag(path)
    if root in ("PubmedArticleSet", "PubmedArticle"):
        return "pubmed"
    if root in _JATS_ROOTS:
        return "jats"
    shown = f"its outermost element is <{root}>" if root else "it does not begin as XML does"
    raise DataError(
        f"neither PubMed XML (PubmedArticleSet) nor JATS (article): {shown}",
        where=f"{path}:1",
        fix="give PubMed or JATS files, or convert the file to JSONL",
    )
