"""Predictions of a file or a stream, as JSON lines."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from wellread.errors import DataError
from wellread.progress import say
from wellread.serve.inputs import fits, read_file, read_lines
from wellread.serve.predict import Predictor, chunks


def predict_lines(predictor: Predictor, stream: BinaryIO, where: str) -> Iterator[str]:
    """Predictions for a stream of lines, as JSON lines.

    What a line may be is said at :func:`wellread.serve.inputs.read_lines`; an "id" is repeated.

    Args:
        predictor: the model.
        stream: bytes, read line by line.
        where: name of the stream for errors.

    Yields:
        One JSON object an input: {"line", "id" where given, and what :meth:`Predictor.predict` gives}.

    Raises:
        DataError: with the line, for one that is not UTF-8, too long or not what the model wants.
    """
    for lines in _predicted(predictor, read_lines(stream, where), where):
        yield from lines


def _predicted(
    predictor: Predictor, inputs: Iterator[tuple[dict[str, Any], Any]], where: str
) -> Iterator[list[str]]:
    """The lines of each chunk."""
    for chunk in chunks(inputs, itemgetter(1)):
        for facts, value in chunk:
            fits(value, predictor.kind, f"{where}:{facts['line']}")
        try:
            results = list(predictor.predict(value for _, value in chunk))
        except DataError as error:
            match = re.fullmatch(r"input (\d+)", error.where)
            if match is None:
                raise
            line = chunk[int(match.group(1)) - 1][0]["line"]
            raise DataError(error.what, where=f"{where}:{line}", fix=error.fix) from None
        yield [
            json.dumps({**facts, **result}, ensure_ascii=False)
            for (facts, _), result in zip(chunk, results, strict=True)
        ]


def predict_file(
    folder: str | Path,
    source: str,
    out: Path | None,
    engine: str | None = None,
    threads: int | None = None,
) -> int:
    """Predict for a file (or stdin, "-") and write JSON lines to a file, whole or not at all, or to stdout.

    Lines go out as soon as a chunk of inputs is done.

    Args:
        folder: of a model.
        source: the file, as :func:`wellread.serve.inputs.read_file` takes it.
        out: the file to write; None for stdout.
        engine: as in :meth:`Predictor.load`.
        threads: likewise.

    Returns:
        The number of inputs.

    Raises:
        UserError: as :meth:`Predictor.load` and :func:`predict_lines`; or a file cannot be opened.
    """
    predictor = Predictor.load(folder, engine, threads)
    count = cut = 0
    with _open_output(out) as stream:
        for lines in _predicted(predictor, read_file(source), "stdin" if source == "-" else source):
            stream.writelines(line + "\n" for line in lines)
            stream.flush()
            count += len(lines)
            cut += sum('"truncated": true' in line[-24:] for line in lines)
    if cut:
        say(f"{cut} of {count} texts are longer than the model's {predictor.max_length} tokens and were cut")
    return count


@contextlib.contextmanager
def _open_output(out: Path | None) -> Iterator[TextIO]:
    """A stream for text; a file appears only when all of it is written."""
    if out is None:
        yield sys.stdout
        return
    temporary = out.with_name(out.name + ".tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(out)
    except OSError as error:
        raise DataError(
            f"cannot be written ({error.strerror})", where=str(out), fix="choose another file with --out"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
