"""From a raw row to a checked Example."""

from __future__ import annotations

import ast
import contextlib
import json
import math
import re
from collections import Counter
from typing import Any, get_args

from wellread.errors import DataError
from wellread.tasks.rows import Row
from wellread.tasks.task import LETTERS, Example, Kind

# Words and single punctuation marks: the tokens onto which character spans are laid.
TOKEN = re.compile(r"\w+|[^\w\s]")
_TAG = re.compile(r"^(?:O|([BIESLU])(?:-(\S+))?)$")
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")
_BARE = re.compile(r"""["']\s+["']""")
UNTYPED = "Entity"
KINDS: tuple[str, ...] = get_args(Kind)
_KEYS: dict[str, Kind] = {
    **{"tags": "tag", "spans": "tag"},
    **{"label": "classify", "labels": "multilabel", "score": "regress"},
}
_NEEDED = {"classify": "label", "multilabel": "labels", "regress": "score", "tag": "tags or spans"}


def kind_of(row: Row) -> Kind | None:
    """The kind of task that a row's keys speak of, or None.

    Raises:
        DataError: they speak of more than one.
    """
    keys = [key for key in _KEYS if key in row.values]
    kinds = {_KEYS[key] for key in keys}
    if len(kinds) > 1:
        raise DataError(
            f"{' and '.join(f'`{key}`' for key in keys)} in one row",
            where=row.where,
            fix="keep what is to be learnt and rename the other; or say `kind` in a folder's task.toml",
        )
    return kinds.pop() if kinds else None


def parse(row: Row, kind: Kind, number: int, split: str, counts: Counter[str]) -> Example:
    """The example in a row.

    Args:
        row: the raw row.
        kind: of the task.
        number: of the row in its split, for the id of an example that has none.
        split: likewise.
        counts: gets what was repaired.

    Raises:
        DataError: with file and line; never with text.
    """
    values = row.values
    if kind not in (_KEYS[key] for key in values if key in _KEYS):
        found = kind_of(row)
        what = f"a row of kind {found}" if found else f"no {_NEEDED[kind]}"
        raise DataError(f"{what} in a task of kind {kind}", where=row.where, fix=f"give {_NEEDED[kind]}")
    identity = _identity(row, "id") or f"{split}-{number}"
    doc = _identity(row, "doc")
    if kind == "tag":
        tokens, tags = _tagged(row, counts)
        return Example(identity, " ".join(tokens), tags, tokens=tokens, doc=doc)
    text = _text(row, "text")
    pair = _text(row, "text_pair") if values.get("text_pair") is not None else None
    label: Any
    options: tuple[str, ...] = ()
    if kind == "classify":
        label = _label(row, values["label"])
        if values.get("options") is not None:
            options = _options(row, values["options"], label)
    elif kind == "multilabel":
        label = _labels(row, values["labels"])
    else:
        label = _score(row, values["score"])
    return Example(identity, text, label, text_pair=pair, doc=doc, options=options)


def _identity(row: Row, key: str) -> str:
    value = row.values.get(key, "")
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise DataError(
            f"`{key}` is not a string", where=row.where, fix=f"give a string or leave `{key}` out"
        )
    return clean(row, str(value), key)


def clean(row: Row, text: str, key: str) -> str:
    """The string itself, unless it cannot be written as UTF-8 or holds NUL."""
    if _UNWRITABLE.search(text):
        raise DataError(
            f"`{key}` holds a NUL or half a surrogate pair", where=row.where, fix="repair the text"
        )
    return text


def _text(row: Row, key: str) -> str:
    value = row.values.get(key)
    if value is None:
        raise DataError(f"no `{key}`", where=row.where, fix=f"give `{key}`")
    if not isinstance(value, str):
        raise DataError(f"`{key}` is not a string", where=row.where, fix=f"give `{key}` as a string")
    if not value.strip():
        raise DataError(f"`{key}` is empty", where=row.where, fix="remove the row or give it a text")
    return clean(row, value, key)


def _label(row: Row, value: Any) -> str:
    if isinstance(value, (float, list, dict)) or value is None:
        raise DataError(
            f"the label is a {type(value).__name__}, not a name",
            where=row.where,
            fix="give a string (`labels` with a list for several, `score` for a number)",
        )
    name = clean(row, str(value).strip(), "label")
    if not name:
        raise DataError("the label is empty", where=row.where, fix="give a label")
    return name


def _labels(row: Row, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = _listed(value)
    if not isinstance(value, list):
        raise DataError(
            "`labels` is not a list",
            where=row.where,
            fix='give a list such as ["a", "b"], or []; in a table a|b',
        )
    names = [_label(row, name) for name in value]
    if len(set(names)) < len(names):
        raise DataError("a label stands twice in `labels`", where=row.where, fix="name each label once")
    return tuple(sorted(names))


def _listed(cell: str) -> Any:
    """The labels in a cell of a table: with | between them, or a list as JSON or Python writes it."""
    if not cell.strip().startswith("["):
        return [part for part in cell.split("|") if part.strip()]
    if _BARE.search(cell):  # numpy's print, of which Python would make one long label
        return None
    for read in (json.loads, ast.literal_eval):
        with contextlib.suppress(ValueError, SyntaxError, RecursionError):
            return read(cell.strip())
    return None


def _options(row: Row, value: Any, label: str) -> tuple[str, ...]:
    """The options of a multiple-choice question, whose label is the letter of one of them."""
    options = check_options(value, row.where)
    if label not in LETTERS[: len(options)]:
        raise DataError(
            f"the label is none of the letters of the {len(options)} options",
            where=row.where,
            fix=f'give "{LETTERS[0]}" to "{LETTERS[len(options) - 1]}" as label',
        )
    return options


def check_options(value: Any, where: str) -> tuple[str, ...]:
    """Refuse what are no options.

    Raises:
        DataError: with ``where``, for anything but 2 to 26 texts.
    """
    texts = isinstance(value, list) and all(isinstance(part, str) and part.strip() for part in value)
    if not texts or not 2 <= len(value) <= len(LETTERS):
        raise DataError(
            f"`options` is not a list of 2 to {len(LETTERS)} texts",
            where=where,
            fix='write "options": ["first", "second"]',
        )
    if any(_UNWRITABLE.search(part) for part in value):
        raise DataError("`options` holds a NUL or half a surrogate pair", where=where, fix="repair the text")
    return tuple(value)


def _score(row: Row, value: Any) -> float:
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not math.isfinite(number):
        raise DataError(
            "the score is not a finite number", where=row.where, fix="give a number or remove the row"
        )
    return number


def _tagged(row: Row, counts: Counter[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if "spans" in row.values:
        return from_spans(row, _text(row, "text"), row.values["spans"], counts)
    tokens, tags = row.values.get("tokens"), row.values["tags"]
    for key, value in (("tokens", tokens), ("tags", tags)):
        if not isinstance(value, list) or not all(isinstance(part, str) and part.strip() for part in value):
            raise DataError(
                f"`{key}` is not a list of words", where=row.where, fix=f"give `{key}` as strings"
            )
    assert isinstance(tokens, list)
    if not tokens:
        raise DataError("no tokens", where=row.where, fix="remove the row")
    if len(tokens) != len(tags):
        raise DataError(
            f"{len(tokens)} tokens but {len(tags)} tags", where=row.where, fix="give each token one tag"
        )
    fixed, changed = iob2(row, tags)
    counts["tags repaired to IOB2"] += changed
    return tuple(clean(row, token, "tokens") for token in tokens), fixed


def iob2(row: Row, tags: list[str]) -> tuple[tuple[str, ...], int]:
    """Tags in IOB2, and how many had to be changed.

    Raises:
        DataError: something is no tag of IOB1, IOB2, IOBES or BILOU.
    """
    for tag in tags:
        if _TAG.match(tag) is None:
            raise DataError(
                f"{tag[:30]!r} is not an IOB tag", where=row.where, fix="use O, B-TYPE and I-TYPE"
            )
    fixed = iob2_tags(tags)
    return fixed, sum(old != new for old, new in zip(tags, fixed, strict=True))


def iob2_tags(tags: list[str]) -> tuple[str, ...]:
    """IOB1, IOBES, BILOU or broken tags (an ``I-X`` after O or another type) as IOB2."""
    fixed: list[str] = []
    open_type = ""
    for tag in tags:
        mark, _, kind = tag.partition("-")
        if mark == "O":
            fixed.append("O")
            open_type = ""
            continue
        kind = kind or UNTYPED
        begins = mark in "BSU" or open_type != kind
        fixed.append(f"{'B' if begins else 'I'}-{kind}")
        open_type = "" if mark in "ESLU" else kind
    return tuple(fixed)


def check_spans(row: Row, text: str, spans: Any) -> list[tuple[int, int, str]]:
    """Spans as (start, end, label), sorted.

    Raises:
        DataError: malformed, out of range, or overlapping.
    """
    if not isinstance(spans, list):
        raise DataError("`spans` is not a list", where=row.where, fix="give a list of {start, end, label}")
    found = []
    for span in spans:
        values = span if isinstance(span, dict) else {}
        start, end, label = (values.get(key) for key in ("start", "end", "label"))
        named = isinstance(label, str) and re.fullmatch(r"\S+", label)
        # type(), because True is an int but no offset
        if type(start) is not int or type(end) is not int or not named:
            raise DataError(
                "a span lacks a whole `start` and `end` or a `label` without spaces",
                where=row.where,
                fix='write {"start": 0, "end": 5, "label": "Gene"}',
            )
        if not 0 <= start < end <= len(text):
            raise DataError(
                f"the span {start}-{end} lies outside the text of {len(text)} characters or is empty",
                where=row.where,
                fix="count characters from 0; `end` is the first character after the span",
            )
        found.append((start, end, str(label)))
    found.sort()
    for (start, end, _), (after, after_end, _) in zip(found, found[1:], strict=False):
        if after < end:
            raise DataError(
                f"the spans {start}-{end} and {after}-{after_end} overlap",
                where=row.where,
                fix="keep one of them (the longer one, usually)",
            )
    return found


def from_spans(
    row: Row, text: str, spans: Any, counts: Counter[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tokens (see :data:`TOKEN`) and IOB2 tags of a text with character spans.

    A token that a span touches belongs to it; of two spans within one token the longer keeps it.
    """
    pieces = [(match.start(), match.end(), match.group()) for match in TOKEN.finditer(text)]
    tags = ["O"] * len(pieces)
    if not pieces:
        raise DataError("no tokens", where=row.where, fix="remove the row or give it a text")
    taken = [False] * len(pieces)
    checked = check_spans(row, text, spans)
    for start, end, label in sorted(checked, key=lambda span: (span[0] - span[1], span)):
        inside = [index for index, piece in enumerate(pieces) if piece[0] < end and piece[1] > start]
        free = [index for index in inside if not taken[index]]
        if free != inside or not inside:
            counts["spans dropped (no token of their own)"] += 1
            continue
        if pieces[inside[0]][0] != start or pieces[inside[-1]][1] != end:
            counts["spans moved to token borders"] += 1
        for position, index in enumerate(inside):
            tags[index] = f"{'I' if position else 'B'}-{label}"
            taken[index] = True
    return tuple(piece[2] for piece in pieces), tuple(tags)
