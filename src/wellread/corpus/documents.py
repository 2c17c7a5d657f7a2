"""The one type in which all readers hand out text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from wellread.corpus.open import CHUNK_BYTES, open_bytes
from wellread.errors import ArtefactError, DataError

# The five sentence roles of PubMed RCT; a section's label is one of them or "".
ROLES = ("BACKGROUND", "OBJECTIVE", "METHODS", "RESULTS", "CONCLUSIONS")


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a document.

    Attributes:
        heading: as printed, for instance "Materials and methods"; "" where the document has none.
        label: one of ROLES where the source states it (NlmCategory) or the heading maps onto it, else "".
        text: without the heading.
    """

    heading: str
    label: str
    text: str


@dataclass(frozen=True, slots=True)
class MeshHeading:
    """A subject heading of a PubMed record; ``major`` if it (or one of its qualifiers) is a main topic."""

    name: str
    ui: str = ""
    major: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """A document.

    Attributes:
        id: unique within a corpus; "pmid:123", "pmc:PMC123", else the user's id or "FILE#ROW".
        title: "" where there is none.
        sections: the body in order, with at least one section unless the body is empty.
        source: name of the corpus or file it came from.
        language: ISO 639-2 code as stated by the source, "" if not stated.
        licence: as stated by the source (copyright line, licence name), "" if not stated.
        year: of publication, None if not stated.
        mesh, publication_types, keywords: as stated by the source.
        meta: whatever else a reader keeps (JSON values).
    """

    id: str
    title: str
    sections: tuple[Section, ...]
    source: str = ""
    language: str = ""
    licence: str = ""
    year: int | None = None
    mesh: tuple[MeshHeading, ...] = ()
    publication_types: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """The id by which one article is known in all its forms: its PMID where that is stated."""
        return f"pmid:{self.meta['pmid']}" if self.meta.get("pmid") else self.id

    @property
    def names(self) -> set[str]:
        """The ids under which it may be known: its own, and those that its reader kept in ``meta``."""
        also = (("pmid", "pmid:"), ("pmcid", "pmc:"))
        return {self.id} | {prefix + self.meta[key] for key, prefix in also if self.meta.get(key)}

    @property
    def body(self) -> str:
        """The sections' texts, one a paragraph, headings left out."""
        return "\n".join(section.text for section in self.sections)

    @property
    def text(self) -> str:
        """What is pre-trained on: title, then body."""
        return "\n".join(part for part in (self.title, self.body) if part)


_FIELDS = tuple(entry.name for entry in fields(Document))


def to_json(document: Document) -> str:
    """One line of documents.jsonl."""
    values = {name: getattr(document, name) for name in _FIELDS}
    values["sections"] = [
        {"heading": section.heading, "label": section.label, "text": section.text}
        for section in document.sections
    ]
    values["mesh"] = [
        {"name": heading.name, "ui": heading.ui, "major": heading.major} for heading in document.mesh
    ]
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def from_json(line: str | bytes) -> Document:
    """The inverse of :func:`to_json`."""
    values = json.loads(line)
    values["sections"] = tuple(Section(**section) for section in values["sections"])
    values["mesh"] = tuple(MeshHeading(**heading) for heading in values["mesh"])
    values["publication_types"] = tuple(values["publication_types"])
    values["keywords"] = tuple(values["keywords"])
    return Document(**values)


def write(path: Path, documents: Iterable[Document]) -> int:
    """Write documents to a zstd-compressed JSONL file as they come; returns how many."""
    import zstandard

    count = 0
    with open(path, "wb") as raw, zstandard.ZstdCompressor(level=3).stream_writer(raw) as stream:
        for document in documents:
            stream.write(to_json(document).encode() + b"\n")
            count += 1
    return count


def read(path: Path) -> Iterator[Document]:
    """Stream the documents of a file written by :func:`write`.

    Raises:
        ArtefactError: the file is missing or damaged.
    """
    try:
        with open_bytes(path) as stream:
            rest = b""
            while chunk := stream.read(CHUNK_BYTES):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield from_json(line)
            if rest:
                raise ValueError("cut off")
    except (DataError, OSError, ValueError, TypeError, KeyError) as error:
        raise ArtefactError(
            f"cannot be read ({type(error).__name__})", where=str(path), fix="run the corpus stage again"
        ) from None
