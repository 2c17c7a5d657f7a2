"""The corpus stage: raw files to one clean file of documents, and a report on it."""

from __future__ import annotations

import difflib
import glob
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wellread.corpus import documents, registry
from wellread.corpus.clean import clean
from wellread.corpus.deduplicate import KEPT, NEAR, SAME_ID, SAME_TEXT, Fingerprints
from wellread.corpus.documents import Document
from wellread.corpus.open import lines
from wellread.corpus.readers import detect
from wellread.corpus.summary import Summary
from wellread.errors import DataError, RecipeError
from wellread.files import sha256_file, write_json
from wellread.progress import Progress, say
from wellread.recipe import resolve
from wellread.settings import CorpusSettings

DOCUMENTS = "documents.jsonl.zst"
REPORT = "report.json"
_REASONS = {SAME_ID: "ids", SAME_TEXT: "exact", NEAR: "near"}
# Files that describe a folder rather than belong to its text.
_ABOUT = re.compile(
    r"(README|LICEN[CS]E|NOTICE|COPYING|SOURCE|CHANGELOG)(\.(txt|text|md|rst)(\.(gz|xz|bz2|zst))?)?",
    re.IGNORECASE,
)


def source_files(settings: CorpusSettings, base: Path) -> list[Path]:
    """The files that ``corpus.sources`` names, in reading order, each once.

    A folder gives the files below it whose names end as a known format does, by name; hidden files and
    those that describe the folder (README, LICENSE, SOURCE, ...) are passed over, links to folders are not
    followed.

    Raises:
        RecipeError: a source does not exist, or a folder or pattern holds nothing that is read.
    """
    found: dict[Path, None] = {}
    for source in settings.sources:
        for path in _resolve(source, base):
            found.setdefault(_absolute(path))
    return list(found)


def prepare(settings: CorpusSettings, base: Path, folder: Path, *, quiet: bool = False) -> dict[str, Any]:
    """Read, clean, filter and deduplicate all sources into ``folder``/documents.jsonl.zst and report.json.

    The raw files are read once, into a scratch file in ``folder``; a second pass over it drops duplicates.

    Args:
        settings: the recipe's ``[corpus]``.
        base: where relative sources start.
        folder: an existing folder; earlier results in it are replaced.
        quiet: show no progress.

    Returns:
        What report.json holds.

    Raises:
        RecipeError: a source does not exist.
        DataError: a file cannot be read, or no document is left.
    """
    files = source_files(settings, base)
    scratch = folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        report = _prepare(settings, _named(files, base), scratch, quiet)
        for name in (DOCUMENTS, REPORT):
            (scratch / name).replace(folder / name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return report


def _prepare(settings: CorpusSettings, named: dict[Path, str], scratch: Path, quiet: bool) -> dict[str, Any]:
    dropped: Counter[str] = Counter()
    read: Counter[str] = Counter()
    prints = Fingerprints(scratch, settings.near_duplicates)
    with Progress("corpus: reading", None, "documents", quiet=quiet) as progress:
        documents.write(
            scratch / "cleaned.jsonl.zst", _cleaned(settings, named, prints, read, dropped, progress)
        )
        prints.close()
    state = prints.duplicates()
    found = {name: int(sum(_counts(state, reason))) for reason, name in _REASONS.items()}
    dropped.update({f"duplicate ({name})": count for name, count in found.items() if count})
    summary = Summary()
    with Progress("corpus: writing", len(state), "documents", quiet=quiet) as progress:
        _write_kept(scratch, state, summary, progress)
    if not summary.documents:
        told = ", ".join(f"{reason} {count}" for reason, count in dropped.items()) or "the files hold none"
        raise DataError(
            f"no document is left of {read.total()} read ({told})",
            where="corpus.sources",
            fix="look at corpus.languages, corpus.min_words and corpus.text_field",
        )
    if found["ids"] and not quiet:
        say(f"{found['ids']} documents have the id of an earlier document and were left out")
    report = {
        "documents_read": read.total(),
        "kept": summary.documents,
        "dropped": dict(sorted(dropped.items())),
        "duplicates": found,
        **summary.report(),
        "files": [
            {
                "name": name,
                "bytes": path.stat().st_size,
                "sha256": sha256_file(path),
                "documents": read[name],
            }
            for path, name in named.items()
        ],
    }
    write_json(scratch / REPORT, report)
    return report


def _counts(state: Any, value: int) -> Iterator[int]:
    """How often ``value`` stands in each stretch of a mapped array."""
    for start in range(0, len(state), 1 << 22):
        yield (state[start : start + (1 << 22)] == value).sum()


def _cleaned(
    settings: CorpusSettings,
    named: dict[Path, str],
    prints: Fingerprints,
    read: Counter[str],
    dropped: Counter[str],
    progress: Progress,
) -> Iterator[Document]:
    """Every document that passes the filters, its fingerprints taken."""
    for path, name in named.items():
        for raw in detect.read(path, name, settings.text_field, settings.id_field):
            read[name] += 1
            progress.advance(1, name)
            document = clean(raw, settings.keep_layout)
            reason = reason_to_drop(document, settings)
            if reason:
                dropped[reason] += 1
                continue
            prints.add(document.id, document.text)
            yield document
            if prints.count == settings.max_documents:
                return


def reason_to_drop(document: Document, settings: CorpusSettings) -> str:
    """Why the filters drop a document; "" when they keep it."""
    if settings.languages and document.language and document.language not in settings.languages:
        return "language"
    words = len(document.text.split())
    if not words:
        return "no text"
    return "too short" if words < settings.min_words else ""


def _write_kept(scratch: Path, state: Any, summary: Summary, progress: Progress) -> None:
    import zstandard

    cleaned = lines(scratch / "cleaned.jsonl.zst", max_line_bytes=1 << 40)
    with (
        open(scratch / DOCUMENTS, "wb") as raw,
        zstandard.ZstdCompressor(level=3).stream_writer(raw) as stream,
    ):
        for number, line in cleaned:
            progress.advance()
            if state[number - 1] == KEPT:
                stream.write(line.encode() + b"\n")
                summary.add(json.loads(line))


def _resolve(source: str, base: Path) -> list[Path]:
    if registry.known(source):
        folder = registry.path(source)
        if folder is None:
            raise RecipeError(
                f"the known corpus {source!r} is not on this machine",
                where="corpus.sources",
                fix=f"run `wellread data get {source}`",
            )
        return registry.files(source)
    path = resolve(source, base, "corpus.sources")
    if path.is_dir():
        found = _below(path)
    elif os.path.lexists(path):
        found = [path]
    elif glob.has_magic(str(path)):
        inside = str(path).removeprefix(str(base))  # the base's own name is no pattern
        pattern = glob.escape(str(base)) + inside if str(path).startswith(str(base)) else str(path)
        matches = sorted(Path(match) for match in glob.glob(pattern, recursive=True))  # noqa: PTH207 - takes absolute patterns
        found = [at for match in matches for at in (_below(match) if match.is_dir() else [match])]
    else:
        near = difflib.get_close_matches(source, [entry.name for entry in registry.KNOWN], n=1)
        raise RecipeError(
            f"{source!r} is no file, folder, pattern or known corpus",
            where="corpus.sources",
            fix=f"did you mean {near[0]!r}?"
            if near
            else f"looked for {path}; `wellread data list` shows what is known",
        )
    if not found:
        raise RecipeError(
            f"{source!r} holds no file that is read",
            where="corpus.sources",
            fix=f"known names end in {', '.join(sorted(detect.SUFFIXES))} (and .gz, .xz, .bz2, .zst)",
        )
    return found


def _below(folder: Path) -> list[Path]:
    found = []
    for parent, folders, names in os.walk(folder, onerror=_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(parent, name)
            for name in sorted(names)
            if not name.startswith(".")
            and not _ABOUT.fullmatch(name)
            and detect.plain_suffix(Path(name)) in detect.SUFFIXES
        ]
    return found


def _unreadable(error: OSError) -> None:
    raise DataError(
        f"cannot be read ({error.strerror})",
        where=str(error.filename),
        fix="check its rights, or leave it out",
    )


def _named(files: list[Path], base: Path) -> dict[Path, str]:
    """A name for each file that no other has: its file name, where two share it its path from ``base``."""
    shared = Counter(path.name for path in files)
    start = _absolute(base)
    names = {}
    for path in files:
        longer = path.relative_to(start) if path.is_relative_to(start) else path
        name = path.name if shared[path.name] == 1 else longer.as_posix()
        names[path] = os.fsencode(name).decode("utf-8", "backslashreplace")  # a name may be any bytes
    return names


def _absolute(path: Path) -> Path:
    """Without ".." and ".", links kept as they are: the user's name for a file tells its format."""
    return Path(os.path.abspath(path))  # noqa: PTH100
