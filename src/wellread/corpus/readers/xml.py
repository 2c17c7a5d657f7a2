"""Streaming XML: one record at a time, no entities expanded, nothing fetched."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wellread.corpus.open import open_bytes
from wellread.errors import DataError

_ENTITY = re.compile(r"&#?\w+;")


def records(path: Path, tags: tuple[str, ...]) -> Iterator[Any]:
    """The elements of an XML file with one of ``tags``, one after the other; each is freed after use.

    Raises:
        DataError: the file is not well-formed; ``where`` has the line.
    """
    from lxml import etree

    with open_bytes(path) as stream:
        events = etree.iterparse(
            stream, events=("end",), tag=tags, resolve_entities=False, no_network=True, load_dtd=False
        )
        try:
            for _, element in events:
                yield element
                element.clear()
                while element.getprevious() is not None:
                    del element.getparent()[0]
        except etree.XMLSyntaxError as error:
            raise DataError(
                f"broken XML ({_cause(error)})",
                where=f"{path}:{error.lineno or 1}",
                fix="fetch the file again, or repair it (xmllint --noout shows the place)",
            ) from None


def root_tag(path: Path) -> str:
    """The name of the outermost element without its namespace, "" if there is none."""
    from lxml import etree

    with open_bytes(path) as stream:
        events = etree.iterparse(
            stream, events=("start",), resolve_entities=False, no_network=True, load_dtd=False
        )
        try:
            for _, element in events:
                return etree.QName(element).localname
        except etree.XMLSyntaxError:
            pass
    return ""


def text_of(element: Any) -> str:
    """All text within an element, inline markup dropped, white space collapsed; "" for None."""
    if element is None:
        return ""
    text = "".join(element.itertext()) if len(element) else element.text or ""
    if "&" in text:  # named entities stay as they are written, for no DTD is read
        text = _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)
    return " ".join(text.split())


def year_in(text: str) -> int | None:
    """The first four-digit year in a date such as "1998 Dec-1999 Jan"."""
    for word in text.replace("-", " ").replace("/", " ").split():
        if len(word) == 4 and word.isdigit() and word.isascii():
            return int(word)
    return None


def _cause(error: Any) -> str:
    """libxml2's description of the error class, which unlike its message holds no document text."""
    entries = [entry for entry in error.error_log if entry.level >= 2]
    name = (entries[0].type_name if entries else "syntax error").removeprefix("ERR_")
    return name.replace("_", " ").lower()
