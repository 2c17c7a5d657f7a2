"""Raw rows of labelled files, each with its line number; one bad line does not hide the next.

Formats: ``jsonl``; ``csv`` and ``tsv`` with a header line (or given column names); ``conll``, one token and
its tag a line, blank lines between sentences, ``-DOCSTART- ID`` lines before documents; ``conllu``, of which
the words and their parts of speech are read; ``inline``, a sentence a line, its words as ``word##TAG``.

A path may go on inside a zip archive: ``corpus.zip/folder/train.txt``.
"""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wellread.errors import DataError
from wellread.tabbed import tabbed

FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".conll": "conll",
    ".bio": "conll",
    ".iob": "conll",
}
SPLIT_NAMES = {"train": ("train",), "dev": ("dev", "devel", "val", "valid", "validation"), "test": ("test",)}
_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_TAG = re.compile(r"^(O|[BIESLU](-\S+)?)$")


@dataclass(frozen=True, slots=True)
class Row:
    """One raw example: its place (``file:line``) and its values by key as in ``tasks/task.py``."""

    path: Path
    line: int
    values: dict[str, Any]

    @property
    def where(self) -> str:
        """``file:line``."""
        return f"{self.path}:{self.line}"


def split_files(folder: Path) -> dict[str, Path]:
    """The file of each split that ``folder`` holds; a file in its place is the train file.

    Raises:
        DataError: the folder is missing, holds no train file, or two files for one split; or the file is of
            no known format.
    """
    folder = Path(folder)
    if folder.is_file():
        if folder.suffix not in FORMATS:
            raise DataError(
                f"a labelled file ends in {', '.join(FORMATS)}", where=str(folder), fix="convert or rename it"
            )
        return {"train": folder}
    if not folder.is_dir():
        raise DataError(
            "no such folder or file", where=str(folder), fix="give a folder with train.jsonl (or .csv, .tsv)"
        )
    found: dict[str, Path] = {}
    for split, names in SPLIT_NAMES.items():
        paths = [path for path in sorted(folder.iterdir()) if path.stem in names and path.suffix in FORMATS]
        if len(paths) > 1:
            shown = " and ".join(path.name for path in paths)
            raise DataError(f"two files for the {split} split: {shown}", where=str(folder), fix="remove one")
        if paths:
            found[split] = paths[0]
    if "train" not in found:
        raise DataError("no train file", where=str(folder), fix=f"add train{' or train'.join(FORMATS)}")
    return found


def real_file(path: Path) -> Path | None:
    """The file on the disk: ``path`` itself or the archive that it lies in; None where there is none."""
    if path.is_file():
        return path
    archive = next((parent for parent in path.parents if parent.suffix == ".zip" and parent.is_file()), None)
    if archive is None:
        return None
    try:
        with zipfile.ZipFile(archive) as opened:
            return archive if path.relative_to(archive).as_posix() in opened.namelist() else None
    except zipfile.BadZipFile:
        return None


def file_bytes(path: Path) -> bytes:
    """The content of a file, or of a member of an archive.

    Raises:
        OSError: it is not there or cannot be read.
    """
    found = real_file(path)
    if found is None or found == path:
        return path.read_bytes()
    with zipfile.ZipFile(found) as opened:
        return opened.read(path.relative_to(found).as_posix())


def read_rows(
    path: Path,
    format: str | None = None,
    columns: tuple[str, ...] | None = None,
    header_text: str = "text",
    encoding: str = "utf-8",
) -> Iterator[Row | DataError]:
    """Every row of a labelled file; what cannot be read comes as the error that says so.

    Args:
        path: the file.
        format: jsonl, csv, tsv, conll, conllu or inline; default by the file's suffix (a ``.tsv`` of two
            columns, token and tag, is read as conll).
        columns: names of the columns of a csv or tsv file that has no header.
        header_text: the column that the header of a csv or tsv file must name.
        encoding: of the file.
    """
    try:
        data = file_bytes(Path(path))
    except OSError as error:
        yield DataError(
            f"cannot be read ({error.strerror})", where=str(path), fix="check the path and its rights"
        )
        return
    if data[:2] in _BOMS:
        yield DataError("the file is UTF-16", where=f"{path}:1", fix="save it as UTF-8")
        return
    data = data.removeprefix(b"\xef\xbb\xbf")
    if encoding != "utf-8":
        data = data.decode(encoding, errors="replace").encode()
    chosen = format or FORMATS.get(path.suffix, "jsonl")
    if chosen == "tsv" and format is None and columns is None and _looks_like_conll(data):
        chosen = "conll"
    if chosen == "jsonl":
        yield from _jsonl(path, data)
    elif chosen == "conll":
        yield from _conll(path, data)
    elif chosen == "conllu":
        yield from _conllu(path, data)
    elif chosen == "inline":
        yield from _inline(path, data)
    else:
        yield from _table(path, data, chosen, columns, header_text)


def _lines(path: Path, data: bytes) -> Iterator[tuple[int, str] | DataError]:
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            yield number, line.decode()
        except UnicodeDecodeError:
            yield DataError("not UTF-8", where=f"{path}:{number}", fix="save the file as UTF-8")


def _jsonl(path: Path, data: bytes) -> Iterator[Row | DataError]:
    for item in _lines(path, data):
        if isinstance(item, DataError):
            yield item
            continue
        number, line = item
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            cause = getattr(error, "msg", "nested too deeply")
            yield DataError(f"not valid JSON ({cause})", where=where, fix="write one JSON object a line")
            continue
        if isinstance(values, dict):
            yield Row(path, number, values)
        else:
            yield DataError("the line is not a JSON object", where=where, fix="write one JSON object a line")


def _table(
    path: Path, data: bytes, format: str, columns: tuple[str, ...] | None, header_text: str
) -> Iterator[Row | DataError]:
    lines: list[str] = []
    for item in _lines(path, data):
        if isinstance(item, DataError):
            yield item
            lines.append("")
        else:
            lines.append(item[1])
    csv.field_size_limit(max(csv.field_size_limit(), len(data)))  # the library's own refuses long documents
    header = columns
    for line, cells in _comma_rows(path, lines) if format == "csv" else _tab_rows(lines, columns):
        if isinstance(cells, DataError):
            yield cells
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = tuple(cell.strip() for cell in cells)
            if header_text not in header:
                yield DataError(
                    f"the first line names no `{header_text}` column",
                    where=f"{path}:{line}",
                    fix="name them there: text, label (or labels, or score); text_pair, id and doc if any",
                )
                return
        elif len(cells) != len(header):
            yield DataError(
                f"{len(cells)} cells where the header has {len(header)}",
                where=f"{path}:{line}",
                fix="give every row as many cells as the header",
            )
        else:
            # An empty cell is an absent value, but for labels, of which there may be none.
            named = zip(header, cells, strict=True)
            yield Row(path, line, {name: cell for name, cell in named if cell or name == "labels"})


def _comma_rows(path: Path, lines: list[str]) -> Iterator[tuple[int, list[str] | DataError]]:
    """The rows of a CSV file with the line on which each begins."""
    reader = csv.reader(io.StringIO("\n".join(lines), newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            yield line, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            what, fix = f"broken row ({error})", "quote cells as CSV asks"
            yield line, DataError(what, where=f"{path}:{line}", fix=fix)


def _tab_rows(lines: list[str], columns: tuple[str, ...] | None) -> Iterator[tuple[int, list[str]]]:
    """The rows of a TSV file; without ``columns`` the header is the first line that is not empty."""
    numbered = enumerate(lines, start=1)
    if columns is None:
        number, header = next((item for item in numbered if item[1].strip()), (0, ""))
        if not number:
            return
        yield number, header.split("\t")
        width = header.count("\t") + 1
    else:
        width = len(columns)
    yield from tabbed(numbered, width)


def _looks_like_conll(data: bytes) -> bool:
    first = (
        data[:65536].decode(errors="replace").splitlines()[:-1][:200]
        or data.decode(errors="replace").splitlines()
    )
    cells = [line.split("\t") for line in first if line.strip() and not line.startswith("-DOCSTART-")]
    return bool(cells) and all(len(row) == 2 and _TAG.match(row[1].strip()) for row in cells)


def _conll(path: Path, data: bytes) -> Iterator[Row | DataError]:
    doc, begun = "", 0
    tokens: list[str] = []
    tags: list[str] = []
    for item in [*_lines(path, data), (0, "")]:
        if isinstance(item, DataError):
            yield item
            continue
        number, line = item
        cells = line.split("\t") if "\t" in line else line.split()
        docstart = line.startswith("-DOCSTART-")
        if not line.strip() or docstart:
            if tokens:
                values: dict[str, Any] = {"tokens": tokens, "tags": tags, **({"doc": doc} if doc else {})}
                yield Row(path, begun, values)
            tokens, tags = [], []
            if docstart:
                named = line.removeprefix("-DOCSTART-").split()
                # More cells are the columns of a token line ("-DOCSTART- -X- O O"), not an id.
                doc = named[0].strip("()") if len(named) == 1 and named != ["O"] else ""
        elif len(cells) < 2 or not cells[0].strip() or not cells[-1].strip():
            yield DataError("not `token<TAB>tag`", where=f"{path}:{number}", fix="give each token one tag")
        else:
            begun = begun if tokens else number
            tokens.append(cells[0].strip())
            tags.append(cells[-1].strip())


def _conllu(path: Path, data: bytes) -> Iterator[Row | DataError]:
    """Syntactic words with their universal part of speech; ranges (``3-4``) and empty words are left out."""
    begun = 0
    words: list[tuple[str, str]] = []
    for item in [*_lines(path, data), (0, "")]:
        if isinstance(item, DataError):
            yield item
            continue
        number, line = item
        cells = line.split("\t")
        if not line.strip():
            if words:
                yield _tagged(path, begun, words)
            words = []
        elif line.startswith("#"):
            continue
        elif len(cells) != 10:
            yield DataError(
                "not the ten columns of CoNLL-U", where=f"{path}:{number}", fix="take the published file"
            )
        elif cells[0].isdigit():
            begun = begun if words else number
            words.append((cells[1], cells[3]))


def _inline(path: Path, data: bytes) -> Iterator[Row | DataError]:
    """``word##TAG`` with single spaces between; ``_`` tags a surface form whose parts follow: left out."""
    for item in _lines(path, data):
        if isinstance(item, DataError):
            yield item
            continue
        number, line = item
        words = [part.rpartition("##") for part in line.split()]
        if any(not (word and mark and tag) for word, mark, tag in words):
            yield DataError("not `word##TAG`", where=f"{path}:{number}", fix="take the published file")
        elif kept := [(word, tag) for word, _, tag in words if tag != "_"]:
            yield _tagged(path, number, kept)


def _tagged(path: Path, line: int, words: list[tuple[str, str]]) -> Row:
    """A sentence whose every word has a label of its own: no label goes over two words."""
    return Row(path, line, {"tokens": [word for word, _ in words], "tags": [f"B-{tag}" for _, tag in words]})
