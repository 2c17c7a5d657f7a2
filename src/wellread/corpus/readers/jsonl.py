"""JSON lines: one JSON object a line, one document an object."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from wellread.corpus.documents import Document
from wellread.corpus.open import lines
from wellread.corpus.readers.record import Fields, Place, document
from wellread.errors import DataError


def read(path: Path, name: str = "", text_field: Fields = "text", id_field: str = "id") -> Iterator[Document]:
    """Stream the documents of a JSONL file; see :func:`wellread.corpus.readers.record.document`.

    Blank lines are passed over.  Keys beside the text and the id: ``title``, ``abstract``, ``sections``
    ([{heading, label, text}]), ``language``, ``licence``, ``year``, ``journal``, ``mesh``, ``keywords``,
    ``publication_types``, ``pmid``, ``pmcid``.

    Args:
        path: a JSONL file, compressed or not.
        name: the source that ids and documents state; default the file's name.
        text_field: key of the text, or several, of which the first is taken that a record has.
        id_field: key of the id.

    Raises:
        DataError: a line that is not a JSON object, or has no text.
    """
    source = name or Path(path).name
    for number, line in lines(path):
        if not line.strip():
            continue
        place = Place(str(path), number, source)
        try:
            record = json.loads(line, strict=False)
        except ValueError as error:
            raise place.error(
                f"not valid JSON ({_cause(error)})", "put one whole JSON object on each line"
            ) from None
        except RecursionError:
            raise place.error("the JSON is nested too deeply", "flatten the record") from None
        if not isinstance(record, dict):
            raise DataError(
                f"a JSON object is expected, not {_shape(record)}",
                where=f"{path}:{number}",
                fix='write each document as {"id": ..., "text": ...} on a line of its own',
            )
        yield document(record, place, text_field, id_field)


def _cause(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}, column {error.colno}"
    return "a number with too many digits"


def _shape(value: object) -> str:
    if isinstance(value, list):
        return "a list"
    return {str: "a string", bool: "true or false", type(None): "null"}.get(type(value), "a number")
