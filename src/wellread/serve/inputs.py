"""What a predictor takes: values of the allowed shapes, and files of them, a line each."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from wellread.errors import DataError
from wellread.finetune import encode
from wellread.tasks.examples import TOKEN, check_options
from wellread.tasks.rows import FORMATS, read_rows
from wellread.tasks.task import Example, Kind

MAX_LINE_BYTES = 16 << 20


def check(value: Any, kind: Kind, where: str) -> None:
    """Refuse what a model of this kind cannot take.

    Raises:
        DataError: always with ``where``.
    """
    if isinstance(value, str):
        parts = [value]
    elif isinstance(value, dict) and kind == "classify":
        texts = [value.get("text"), value.get("text_pair", "")]
        if not all(isinstance(text, str) for text in texts):
            raise DataError("a text is no string", where=where, fix='give "text" as a string')
        parts = [*map(str, texts), *check_options(value.get("options"), where)]
    elif isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
        parts = list(value)
        if kind != "tag" and len(parts) != 2:
            raise DataError(
                f"{len(parts)} strings where this model takes a text or a pair of texts",
                where=where,
                fix='give "text", or "text" and "text_pair"',
            )
    else:
        raise DataError(
            f"a {type(value).__name__} where a text is expected",
            where=where,
            fix="give a string, a pair of strings, or a list of words",
        )
    encode.check_characters(parts, where)


def example(value: Any) -> Example:
    """An input as an example whose label is not known."""
    if isinstance(value, dict):
        return Example("", value["text"], "", value.get("text_pair"), options=tuple(value["options"]))
    return Example("", value, "") if isinstance(value, str) else Example("", value[0], "", value[1])


def examples(inputs: Iterable[Any], kind: Kind) -> list[Example]:
    """Inputs as examples whose labels are not known."""
    if kind != "tag":
        return [example(value) for value in inputs]
    words = [TOKEN.findall(value) if isinstance(value, str) else value for value in inputs]
    return [Example("", " ".join(row), "", tokens=tuple(row)) for row in words]


def read_texts(source: str) -> Iterator[str]:
    """The text of each input (a pair's two as one) of a file.

    Raises:
        DataError: as :func:`read_file`.
    """
    for _, value in read_file(source):
        first = value["text"] if isinstance(value, dict) else value
        yield first if isinstance(first, str) else " ".join(first)


def read_file(source: str) -> Iterator[tuple[dict[str, Any], Any]]:
    """As :func:`read_lines` for a file, or stdin for "-".

    Tables (.csv, .tsv, whose first line names the columns) and tagged words (.conll, .bio, .iob) are read as
    labelled files are (:mod:`wellread.tasks.rows`); their labels are passed over.

    Raises:
        DataError: with the line, or the file cannot be read.
    """
    if source == "-":
        yield from read_lines(sys.stdin.buffer, "stdin")
        return
    if FORMATS.get(Path(source).suffix, "jsonl") != "jsonl":
        for row in read_rows(Path(source)):
            if isinstance(row, DataError):
                raise row
            yield {"line": row.line, **_identity(row.values)}, _input_of(row.values, row.where)
        return
    with contextlib.ExitStack() as stack:
        try:
            stream = stack.enter_context(open(source, "rb"))
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror})", where=source) from None
        yield from read_lines(stream, source)


def read_lines(stream: BinaryIO, where: str) -> Iterator[tuple[dict[str, Any], Any]]:
    """What each line is known by, and its input.

    A line that is a JSON object has "text", with or without "text_pair" and "options", or "tokens", and may
    have an "id".  If the first line with something on it is no JSON object, all lines are plain texts.  Empty
    lines are passed over; an empty text in an object is an error, as in labelled data.

    Args:
        stream: bytes, read line by line.
        where: name of the stream for errors.

    Yields:
        {"line": number, "id" where given}, and a value for :func:`check`.

    Raises:
        DataError: with the line, for one that is not UTF-8, too long or no input; or for a JSON array.
    """
    as_json: bool | None = None
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        here = f"{where}:{number}"
        if len(line) > MAX_LINE_BYTES:
            raise DataError(
                f"the line is longer than {MAX_LINE_BYTES >> 20} MiB",
                where=here,
                fix="give one text a line; cut long documents into parts",
            )
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r\n")
        except UnicodeDecodeError:
            raise DataError("not UTF-8", where=here, fix="save the file as UTF-8") from None
        if not text.strip():
            continue
        if as_json is None:
            if _begins_array(text):
                fix = 'write one JSON object a line, {"text": "..."}, without brackets around them'
                raise DataError("a JSON array", where=here, fix=fix)
            as_json = text.lstrip().startswith("{")
        if not as_json:
            yield {"line": number}, text
            continue
        values = _json_object(text, here)
        yield {"line": number, **_identity(values)}, _input_of(values, here)


def fits(value: Any, kind: Kind, where: str) -> None:
    """Refuse a line's words where a text is wanted, and its pair where words are.

    Raises:
        DataError: always with ``where``.
    """
    if kind != "tag" and isinstance(value, list):
        raise DataError("`tokens` where this model takes a text", where=where, fix="give `text`")
    if kind == "tag" and isinstance(value, tuple):
        raise DataError("a pair where this model takes one text", where=where, fix="leave `text_pair` out")


def _begins_array(line: str) -> bool:
    """Whether a JSON array begins here; a text may begin with a bracket too: "[Aspirin] in use"."""
    inside = line.strip(" \t[],")
    quoted = inside.startswith('"') and inside.endswith('"')
    return line.lstrip().startswith("[") and (not inside or quoted or inside.startswith("{"))


def _identity(values: dict[str, Any]) -> dict[str, Any]:
    return {"id": values["id"]} if "id" in values else {}


def _json_object(text: str, where: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"not valid JSON ({getattr(error, 'msg', type(error).__name__)})",
            where=where,
            fix='write {"text": "..."} on each line',
        ) from None
    if not isinstance(values, dict):
        raise DataError("not a JSON object", where=where, fix='write {"text": "..."} on each line')
    return values


def _input_of(values: dict[str, Any], where: str) -> Any:
    if values.get("tokens") is not None:
        _refuse_blank("tokens", values["tokens"], where)
        return values["tokens"]
    if "text" not in values:
        raise DataError("neither `text` nor `tokens`", where=where, fix='write {"text": "..."} on each line')
    for key in ("text", "text_pair"):
        _refuse_blank(key, values.get(key), where)
    if values.get("options") is not None:
        return {key: values[key] for key in ("text", "text_pair", "options") if values.get(key) is not None}
    pair = values.get("text_pair")
    return values["text"] if pair is None else (values["text"], pair)


def _refuse_blank(key: str, value: Any, where: str) -> None:
    """Refuse a text or words of nothing but white space, to which a model would give some label all the same.

    Raises:
        DataError: with ``where``.
    """
    words = [value] if isinstance(value, str) else value
    if isinstance(words, list) and all(isinstance(word, str) and not word.strip() for word in words):
        raise DataError(f"`{key}` is empty", where=where, fix="remove the row or give it a text")
