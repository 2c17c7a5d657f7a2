"""Rows of tab-separated text, as spreadsheets write it (quoted) and as benchmarks do (quotes are text)."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator

_MOST_LINES = 1000  # of a quoted value


def tabbed(numbered: Iterator[tuple[int, str]], columns: int) -> Iterator[tuple[int, list[str]]]:
    """Rows of a TSV file: quoted as in CSV where that gives the columns, else a line each, quotes being text.

    Args:
        numbered: lines without their ends, each with its number.
        columns: how many cells a row should have.

    Yields:
        The number of the line on which a row begins, and its cells; none for an empty line.
    """
    waiting: deque[tuple[int, str]] = deque()  # lines that were looked at and are rows of their own
    while (item := waiting.popleft() if waiting else next(numbered, None)) is not None:
        number, line = item
        plain = line.split("\t") if line else []
        taken, row = [item], _unquoted([line]) if '"' in line else plain
        while row is None and len(plain) != columns and len(taken) < _MOST_LINES:
            item = waiting.popleft() if waiting else next(numbered, None)
            if item is None:
                break
            taken.append(item)
            row = _unquoted([text for _, text in taken]) if '"' in item[1] else None
        if row is not None and len(row) == columns:
            yield number, row
        else:
            waiting.extendleft(reversed(taken[1:]))
            yield number, plain


def _unquoted(lines: list[str]) -> list[str] | None:
    """The cells of a row; None where a quoted one is not closed, [] where it is no row."""
    try:
        rows = list(csv.reader((line + "\n" for line in lines), delimiter="\t", strict=True))
    except csv.Error as error:
        return None if "unexpected end" in str(error) else []
    return rows[0] if len(rows) == 1 else []
