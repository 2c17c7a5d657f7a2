"""Files and folders that are either whole or absent.

A folder is committed as a database commits: everything is written into ``NAME.partial``, each file is
flushed to the disk, ``manifest.json`` with the SHA-256 of every file is written last, and one rename makes
the folder visible.  Whoever opens it later can tell whether a single byte has changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wellread.errors import ArtefactError

MANIFEST = "manifest.json"

# Clocks and memory differ from run to run: such files are checked for damage like all others, but they are
# no part of what a folder *is*, so that two equal runs have the same identity.  Nor are the manifests of
# folders within, which hold the hashes of such files.
NOT_IDENTITY = frozenset({"costs.json", "timing.jsonl", MANIFEST})
CARD = "README.md"  # users write it anew; no program reads it
_ADDED = "not in the manifest"


def sha256_bytes(data: bytes) -> str:
    """The SHA-256 of ``data`` in hex."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file in hex, read in bounded memory."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def canonical_json(value: Any) -> bytes:
    """JSON with one spelling per value: sorted keys, no spaces, no NaN (``ValueError``)."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False
    ).encode()


def read_json(path: Path) -> Any:
    """Read a JSON file of ours.

    Raises:
        ArtefactError: the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise ArtefactError(
            "the file is missing", where=str(path), fix="run the command that makes it"
        ) from None
    except ValueError as error:
        raise ArtefactError(
            f"not valid JSON ({error})", where=str(path), fix="delete it and run again"
        ) from None


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all (temporary file, fsync, rename)."""
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON whole or not at all; NaN and infinities are refused (``ValueError``)."""
    write_bytes(path, _indented_json(value))


def _indented_json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode()


def write_manifest(folder: Path, **facts: Any) -> dict[str, Any]:
    """Flush every file of ``folder`` and write its manifest, last; returns the manifest.

    ``facts`` are stored beside the file hashes (for instance the fingerprint of a stage).
    """
    for unfinished in folder.rglob("*.tmp"):  # a process was killed in write_bytes
        unfinished.unlink()
    files = {}
    for path in _files(folder):
        with open(path, "rb") as stream:
            os.fsync(stream.fileno())
        files[path.relative_to(folder).as_posix()] = {
            "sha256": sha256_file(path),
            "bytes": path.stat().st_size,
        }
    manifest = {**facts, "files": files}
    manifest["sha256"] = sha256_bytes(canonical_json(manifest))  # so that the manifest vouches for itself
    write_json(folder / MANIFEST, manifest)
    _fsync_folder(folder)
    return manifest


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a committed folder, or None where there is none that can be read."""
    try:
        return json.loads((Path(folder) / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return None


def identity(folder: Path) -> str:
    """One hash for the content of a committed folder, clocks and memory figures left out."""
    manifest = read_json(Path(folder) / MANIFEST)
    kept = {
        name: entry["sha256"]
        for name, entry in manifest["files"].items()
        if Path(name).name not in NOT_IDENTITY
    }
    return sha256_bytes(canonical_json(kept))


def problems(folder: Path) -> list[str]:
    """What differs between a committed folder and its manifest, one line each; empty when intact."""
    return [f"{path}: {what}" for path, what in _differences(Path(folder))]


def _differences(folder: Path, below: Path | None = None) -> list[tuple[Path, str]]:
    """Each path that differs from the folder's manifest (all, or those within ``below``), and how."""
    manifest = read_manifest(folder)
    if manifest is None:
        return [(folder / MANIFEST, "missing or unreadable")]
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    spelling = (folder / MANIFEST).read_bytes() == _indented_json(manifest)
    if not spelling or manifest.get("sha256") != sha256_bytes(canonical_json(rest)):
        return [(folder / MANIFEST, "content changed")]
    found, within = [], below or folder
    present = {
        path.relative_to(folder).as_posix(): path for path in _files(folder) if path.is_relative_to(within)
    }
    for name, entry in manifest["files"].items():
        if not (folder / name).is_relative_to(within):
            continue
        path = present.pop(name, None)
        if path is None:
            found.append((folder / name, "missing"))
        elif path.stat().st_size != entry["bytes"]:
            found.append((path, f"{path.stat().st_size} bytes, {entry['bytes']} expected"))
        elif sha256_file(path) != entry["sha256"]:
            found.append((path, "content changed (SHA-256 differs)"))
    return found + [(path, _ADDED) for path in present.values()]


def check(folder: Path, below: Path | None = None) -> None:
    """Refuse a committed folder that differs from its manifest.

    README.md and hidden files, as git and file managers leave them, may differ: nothing of ours reads them.

    Args:
        folder: with the manifest.
        below: a folder in it that alone is looked at; default all of it.

    Raises:
        ArtefactError: naming the first file that differs.
    """
    folder = Path(folder)
    found = [(path, what) for path, what in _differences(folder, below) if not _unread(path, folder)]
    if found and all(what == _ADDED for _, what in found):
        first = found[0][0].relative_to(folder).as_posix()
        raise ArtefactError(
            f"{len(found)} file(s) beside those of the manifest, the first is {first}",
            where=str(folder),
            fix="move what you have added to another folder",
        )
    if found:
        raise ArtefactError(
            f"the folder is damaged ({len(found)} problem(s)): {found[0][0]}: {found[0][1]}",
            where=str(folder),
            fix="restore it from its source, or delete it and run again the command that makes it",
        )


def check_part(folder: Path) -> None:
    """As :func:`check`, by a folder's own manifest or by that of the folder above where it names its files.

    A model of a run stands in the folder of its stage.  Where there is no manifest nothing is refused.

    Raises:
        ArtefactError: naming the first file that differs.
    """
    folder = Path(folder).resolve()
    if (folder / MANIFEST).exists():
        check(folder)
        return
    above = read_manifest(folder.parent)
    names = above.get("files") if isinstance(above, dict) else None
    if isinstance(names, dict) and any(name.startswith(f"{folder.name}/") for name in names):
        check(folder.parent, folder)


def _unread(path: Path, folder: Path) -> bool:
    """Whether no program reads a file of a folder."""
    return path.name == CARD or any(name.startswith(".") for name in path.relative_to(folder).parts)


def partial_path(final: Path) -> Path:
    """Where a folder is built before it is committed to ``final``."""
    return final.with_name(final.name + ".partial")


def commit(final: Path, **facts: Any) -> dict[str, Any]:
    """Make ``final`` out of ``final.partial``: manifest last, then renames; returns the manifest."""
    partial = partial_path(final)
    manifest = write_manifest(partial, **facts)
    swap_in(final)
    return manifest


def swap_in(final: Path) -> None:
    """Put a partial folder that already has its manifest in the place of ``final``."""
    old = final.with_name(final.name + ".old")
    if final.exists():
        shutil.rmtree(old, ignore_errors=True)
        final.rename(old)
    partial_path(final).rename(final)
    _fsync_folder(final.parent)
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def new_folder(final: Path, **facts: Any) -> Iterator[Path]:
    """Build a folder from nothing and commit it when the block ends without an error.

    Yields the partial folder.  On an error the partial folder is removed and ``final`` stays as it was.
    """
    partial = partial_path(final)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    commit(final, **facts)


def _files(folder: Path) -> list[Path]:
    """Every regular file below ``folder`` but its own manifest, in a fixed order."""
    return sorted(
        path for path in Path(folder).rglob("*") if path.is_file() and path != Path(folder) / MANIFEST
    )


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
