"""A record of keys and values (a JSON line, a table row) as a document."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from wellread.corpus.documents import Document, MeshHeading, Section
from wellread.corpus.languages import language_code
from wellread.corpus.readers.roles import section
from wellread.errors import DataError

DEFAULT_TEXT = "text"
Fields = str | tuple[str, ...]  # a key, or several of which the first that a record has is taken
# Every key that is looked at, beside those of the text and the id.
KEYS = frozenset(
    {"title", "abstract", "sections", "language", "licence", "license", "year", "journal", "mesh", "keywords"}
    | {"publication_types", "pmid", "pmcid"}
)
# How full-text articles are commonly laid out as plain text: "BODY.RESULTS:" alone on a line.
_PRINTED_HEADING = re.compile(r"^(TITLE|ABSTRACT|BODY)(?:\.([^\n]*))?:[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands: the file's path and the line (or row) for errors, the source's name for ids."""

    path: str
    line: int
    name: str

    def error(self, what: str, fix: str) -> DataError:
        """An error about this record."""
        return DataError(what, where=f"{self.path}:{self.line}", fix=fix)


def document(record: dict[str, Any], place: Place, text_field: Fields, id_field: str) -> Document:
    """Build a document from a record.

    The text stands under one of :func:`text_keys`.  The id is ``id_field``, else "pmid:N" from ``pmid``, else
    "pmc:N" from ``pmcid``, else "FILE#LINE".

    Raises:
        DataError: no text, or a value of the wrong type.
    """
    title, sections = _title_and_sections(record, place, text_field)
    year = _string(record, "year", place, number=True)
    return Document(
        id=_id(record, place, id_field),
        title=title,
        sections=sections,
        source=place.name,
        language=language_code(_string(record, "language", place)),
        licence=_string(record, "licence", place) or _string(record, "license", place),
        year=int(year) if re.fullmatch(r"[0-9]{4}", year) else None,
        mesh=_mesh(record.get("mesh"), place),
        publication_types=_strings(record, "publication_types", place),
        keywords=_strings(record, "keywords", place),
        meta={
            key: value
            for key in ("journal", "pmid", "pmcid")
            if (value := _string(record, key, place, number=key != "journal"))
        },
    )


def text_keys(text_field: Fields) -> tuple[str, ...]:
    """Where the text is looked for, in turn: fields that the user named are not replaced by others."""
    named = (text_field,) if isinstance(text_field, str) else text_field
    return (*named, "sections", "abstract") if DEFAULT_TEXT in named else named


def no_text(text_field: Fields, place: str, kind: str, known: list[str]) -> DataError:
    """An error about a record or a table without a text; ``kind`` of its names is "key" or "column"."""
    wanted, *others = (repr(key) for key in text_keys(text_field))
    also = f" (nor {', nor '.join(others)})" if others else ""
    shown = ", ".join(repr(key) for key in known[:20]) or "none"
    return DataError(
        f"no text: there is no {kind} {wanted}{also}; the {kind}s are {shown}",
        where=place,
        fix=f"name the {kind} of the text in the recipe: corpus.text_field, a list where files differ",
    )


def _title_and_sections(
    record: dict[str, Any], place: Place, text_field: Fields
) -> tuple[str, tuple[Section, ...]]:
    title = _string(record, "title", place)
    present = [key for key in text_keys(text_field) if key in record]
    if not present:
        raise no_text(text_field, f"{place.path}:{place.line}", "key", list(record))
    key = next((key for key in present if record[key] not in (None, "")), present[0])
    if key == "sections" and isinstance(record[key], list):
        return title, _sections(record[key], place)
    text = _string(record, key, place)
    if text.startswith("TITLE:"):
        return _split_printed(text)
    return title, (Section("", "", text),) if text.strip() else ()


def _split_printed(text: str) -> tuple[str, tuple[Section, ...]]:
    """Title and sections of an article printed with "TITLE:", "ABSTRACT.METHODS:", "BODY.RESULTS:"."""
    _, *parts = _PRINTED_HEADING.split(text)
    title, sections = "", []
    for kind, heading, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        if kind == "TITLE" and not title:
            title = " ".join(body.split())
        elif body.strip():
            sections.append(section(heading or "", body.strip()))
    return title, tuple(sections)


def _sections(values: list[Any], place: Place) -> tuple[Section, ...]:
    found = []
    for value in values:
        if not isinstance(value, dict) or "text" not in value:
            raise place.error("'sections' must be a list of {heading, label, text}", "correct the record")
        parts = [_string(value, key, place) for key in ("heading", "text", "label")]
        if parts[1].strip():
            found.append(section(*parts))
    return tuple(found)


def _id(record: dict[str, Any], place: Place, id_field: str) -> str:
    for key, prefix in ((id_field, ""), ("pmid", "pmid:"), ("pmcid", "pmc:")):
        value = _string(record, key, place, number=True).strip()
        if value:
            return value if value.startswith(prefix) else prefix + value
    return f"{place.name}#{place.line}"


def _string(record: dict[str, Any], key: str, place: Place, number: bool = False) -> str:
    """A string, "" for null and absent keys, and where ``number`` allows it a whole number as a string."""
    value = record.get(key)
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if number and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if number and isinstance(value, float) and (value.is_integer() or value != value):
        return str(int(value)) if value == value else ""  # NaN is how tables mark what is missing
    raise place.error(f"{key!r} must be a string, not {_kind(value)}", "correct the record")


def _strings(record: dict[str, Any], key: str, place: Place) -> tuple[str, ...]:
    value = record.get(key)
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(";") if part.strip())
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return tuple(value)
    raise place.error(f"{key!r} must be a list of strings, not {_kind(value)}", "correct the record")


def _mesh(values: Any, place: Place) -> tuple[MeshHeading, ...]:
    """Headings as strings ("*" marks a major one, as in MEDLINE) or as {name, ui, major}."""
    if isinstance(values, list) and any(isinstance(value, dict) for value in values):
        found = []
        for value in values:
            if not isinstance(value, dict) or not isinstance(value.get("name"), str):
                raise place.error(
                    "'mesh' must be a list of strings or of {name, ui, major}", "correct the record"
                )
            found.append(MeshHeading(value["name"], str(value.get("ui") or ""), value.get("major") is True))
        return tuple(found)
    names = _strings({"mesh": values}, "mesh", place)
    return tuple(MeshHeading(name.replace("*", "").split("/")[0], "", "*" in name) for name in names)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, (list, tuple)):
        return "a list"
    return "an object" if isinstance(value, dict) else type(value).__name__
