"""Stages: what is stale is built, what was interrupted goes on, and each leaves a committed folder.

This module knows no method.  A stage is a function that fills a folder, with everything its result depends
on: settings, earlier stages, input files, code.  Their hash is the stage's fingerprint; a folder committed
under the same fingerprint is not built again.  See docs/architecture.md for the folder's layout.
"""

from __future__ import annotations

import ast
import contextlib
import fcntl
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from wellread import allocator, files
from wellread.errors import ArtefactError, DataError, UserError
from wellread.progress import say

PACKAGE = Path(__file__).parent
STAGES = "stages"


@dataclass(frozen=True)
class Stage:
    """One step of a run.

    Attributes:
        name: its folder below ``stages/``, for instance "finetune/role/main".
        build: fills the partial folder it is given; finds there what an interrupted attempt left.
        settings: JSON value of everything in the recipe that the result depends on.
        inputs: names of the stages that it reads.
        files: input files outside the run folder.
        code: modules and packages of wellread that do the work, for instance ("pretrain", "models").
    """

    name: str
    build: Callable[[Path], None]
    settings: Any
    inputs: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    code: tuple[str, ...] = ()


@dataclass
class Outcome:
    """What :func:`execute` did: names of the stages built and of those found up to date."""

    built: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)


def execute(stages: list[Stage], run: Path, *, quiet: bool = False) -> Outcome:
    """Bring every stage up to date, in order.

    Args:
        stages: in an order in which each comes after its inputs.
        run: the run folder, held by :func:`locked`.
        quiet: say nothing.

    Raises:
        UserError: a stage met bad input, or there is no room.  Finished stages stay.
    """
    outcome = Outcome()
    hashes = _FileHashes(run)
    for number, stage in enumerate(stages, 1):
        fingerprint = _fingerprint(stage, run, hashes)
        if is_fresh(stage, run, fingerprint):
            outcome.fresh.append(stage.name)
            continue
        if not quiet:
            say(f"[{number}/{len(stages)}] {stage.name}")
        _build(stage, run, fingerprint)
        outcome.built.append(stage.name)
    return outcome


def is_fresh(stage: Stage, run: Path, fingerprint: str) -> bool:
    """Whether the stage's folder was committed under this fingerprint and is intact."""
    final = stage_folder(run, stage.name)
    _finish_commit(final, fingerprint)
    manifest = files.read_manifest(final)
    if manifest is None or manifest.get("fingerprint") != fingerprint:
        return False
    found = files.problems(final)
    if found:
        say(f"{stage.name} is damaged and will be made anew: {found[0]}")
    return not found


def stale(stages: list[Stage], run: Path) -> list[str]:
    """Names of the stages that :func:`execute` would build; everything after a stale input counts."""
    names: list[str] = []
    if not run.exists():
        return [stage.name for stage in stages]
    hashes = _FileHashes(run)
    for stage in stages:
        if set(stage.inputs) & set(names) or not is_fresh(stage, run, _fingerprint(stage, run, hashes)):
            names.append(stage.name)
    return names


def fingerprints(stages: list[Stage], run: Path) -> dict[str, str]:
    """The fingerprint of each stage by name, "" where an input has not been built."""
    hashes = _FileHashes(run)
    return {stage.name: _fingerprint(stage, run, hashes) for stage in stages}


def current(run: Path, wanted: Callable[[str], bool] | None = None) -> set[str]:
    """Names of the committed stages that still belong to what lies in the run folder.

    Args:
        run: the run folder.
        wanted: whether the recipe names a stage of this name; default all.  One that it does not name is left
            out, and so is each whose inputs are left out or have been made anew since.
    """
    found: dict[str, dict[str, str]] = {}
    for path in sorted((run / STAGES).rglob(files.MANIFEST)):
        manifest = files.read_manifest(path.parent) or {}
        name = path.parent.relative_to(run / STAGES).as_posix()
        if manifest.get("stage") == name and (wanted is None or wanted(name)):
            inputs = manifest.get("inputs")
            found[name] = inputs if isinstance(inputs, dict) else {}  # older runs do not tell
    while left_out := [name for name, inputs in found.items() if not _holds(run, inputs, set(found))]:
        for name in left_out:
            del found[name]
    return set(found)


def _holds(run: Path, inputs: dict[str, str], known: set[str]) -> bool:
    return all(
        name in known and files.identity(stage_folder(run, name)) == read for name, read in inputs.items()
    )


def working_folder(run: Path, name: str, fingerprint: str) -> Path | None:
    """Where a stage's result of this fingerprint lies or is being made; None where nothing of it is there."""
    final = stage_folder(run, name)
    manifest = files.read_manifest(final)
    if manifest is not None and manifest.get("fingerprint") == fingerprint:
        return final
    with contextlib.suppress(OSError):
        if _marker(final).read_text() == fingerprint:
            return files.partial_path(final)
    return None


def stage_folder(run: Path, name: str) -> Path:
    """Where a stage's result lies."""
    return run / STAGES / name


@contextlib.contextmanager
def locked(run: Path) -> Iterator[None]:
    """Keep other processes out of a run folder; the lock ends with the process, however it ends."""
    try:
        run.mkdir(parents=True, exist_ok=True)
        handle = os.open(run / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(
            f"the run folder cannot be written ({error.strerror})",
            where=str(run),
            fix="choose another folder with --out, or free it for writing",
        ) from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                "another process works in this run folder",
                where=str(run),
                fix="wait for it, or choose another folder with --out",
            ) from None
        except OSError as error:
            raise UserError(
                f"the run folder cannot be locked ({error.strerror})",
                where=str(run),
                fix="choose a folder on another file system with --out",
            ) from None
        yield
    finally:
        os.close(handle)


def _build(stage: Stage, run: Path, fingerprint: str) -> None:
    final = stage_folder(run, stage.name)
    partial = files.partial_path(final)
    marker = _marker(final)
    if not (partial.exists() and marker.exists() and marker.read_text() == fingerprint):
        shutil.rmtree(partial, ignore_errors=True)
        final.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(marker, fingerprint.encode())
        partial.mkdir()
    with _no_space_is_an_error(final), Costs(partial / "costs.json"):
        stage.build(partial)
    with _no_space_is_an_error(final):
        read = {name: files.identity(stage_folder(run, name)) for name in stage.inputs}
        files.commit(final, fingerprint=fingerprint, stage=stage.name, inputs=read)
    marker.unlink(missing_ok=True)
    allocator.trim()  # one stage's peak must not weigh on the next


def _marker(final: Path) -> Path:
    """Says beside a partial folder for which fingerprint it is being made."""
    return final.with_name(final.name + ".fingerprint")


def _finish_commit(final: Path, fingerprint: str) -> None:
    """Complete the renames of a folder that was whole when its process was killed."""
    partial = files.partial_path(final)
    manifest = files.read_manifest(partial)
    if manifest is not None and manifest.get("fingerprint") == fingerprint and not files.problems(partial):
        files.swap_in(final)
        _marker(final).unlink(missing_ok=True)


@contextlib.contextmanager
def _no_space_is_an_error(final: Path) -> Iterator[None]:
    """Turn a full disk or a read-only folder into an error that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (28, 30, 13, 122):  # ENOSPC, EROFS, EACCES, EDQUOT
            raise
        raise UserError(
            f"cannot write: {error.strerror}",
            where=str(error.filename or final),
            fix="make room or choose another folder with --out; the same command then continues",
        ) from None


class Costs:
    """Writes what a stage cost: seconds (interrupted attempts included) and peak memory.

    A thread looks at the resident memory, every second also that of processes started from here, and notes
    the time spent, so that a killed attempt is counted up to its last second.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        earlier = {}
        with contextlib.suppress(OSError, ValueError):
            earlier = json.loads(path.read_bytes())
        self._before, self.peak = earlier.get("seconds", 0.0), earlier.get("peak_memory_bytes", 0)

    def __enter__(self) -> Costs:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._note()

    def _watch(self) -> None:
        import psutil

        process = psutil.Process()
        ticks, due = 0, 0.0
        while not self._stop.wait(0.05):
            ticks += 1
            began = time.monotonic()
            children = process.children(recursive=True) if began >= due else []
            with contextlib.suppress(psutil.Error):
                found = sum(map(_own_bytes, (process, *children))) if children else process.memory_info().rss
                self.peak = max(self.peak, found)
            if began >= due:  # the system walks all pages of a child, and takes up to a twentieth of a second
                due = time.monotonic() + max(1.0, 100 * (time.monotonic() - began))
            if ticks % 40 == 0:
                self._note()

    def _note(self) -> None:
        seconds = self._before + time.monotonic() - self._began
        with contextlib.suppress(OSError):  # a full disk is reported by the stage itself
            files.write_json(self._path, {"seconds": round(seconds, 3), "peak_memory_bytes": self.peak})


def _own_bytes(process: Any) -> int:
    """Memory of a process, what it shares with others divided among them where the system tells."""
    found = process.memory_full_info()
    return getattr(found, "pss", found.rss)


def _fingerprint(stage: Stage, run: Path, hashes: _FileHashes) -> str:
    try:
        inputs = {name: files.identity(stage_folder(run, name)) for name in stage.inputs}
    except ArtefactError:
        return ""  # an input is missing: no committed folder can match
    return files.sha256_bytes(
        files.canonical_json(
            {
                "settings": stage.settings,
                "inputs": inputs,
                "files": [[path.name, hashes(path)] for path in stage.files],
                "code": {name: code_hash(name) for name in stage.code},
            }
        )
    )


@cache
def code_hash(name: str) -> str:
    """A hash of what a module or package of wellread does: comments, docstrings and layout do not count."""
    path = PACKAGE / name
    sources = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    others = sorted(p for p in path.rglob("*") if p.suffix in (".html", ".css", ".toml", ".cpp", ".h"))
    parts = []
    for source in sources:
        tree = ast.parse(source.read_bytes())
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
                ast.get_docstring(node, clean=False) is not None
            ):
                node.body = node.body[1:] or [ast.Pass()]
        parts.append([source.relative_to(PACKAGE).as_posix(), ast.dump(tree)])
    parts += [[other.relative_to(PACKAGE).as_posix(), files.sha256_file(other)] for other in others]
    return files.sha256_bytes(files.canonical_json(parts))


class _FileHashes:
    """SHA-256 of input files, remembered in the run folder while size and time of change stay the same."""

    def __init__(self, run: Path) -> None:
        self._cache_path = run / "inputs.json"
        self._known: dict[str, list[Any]] = {}
        with contextlib.suppress(OSError, ValueError):
            self._known = json.loads(self._cache_path.read_bytes())

    def __call__(self, path: Path) -> str:
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(
                f"cannot be read ({error.strerror})", where=str(path), fix="restore it, or leave it out"
            ) from None
        key = str(path.resolve())
        entry = self._known.get(key)
        if entry is None or entry[:2] != [status.st_size, status.st_mtime_ns]:
            entry = [status.st_size, status.st_mtime_ns, files.sha256_file(path)]
            self._known[key] = entry
            with contextlib.suppress(OSError):
                files.write_json(self._cache_path, self._known)
        return entry[2]
