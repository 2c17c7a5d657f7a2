"""Folders are whole or absent, and one changed byte is found."""

import json
import os
import random

import pytest

from wellread import files
from wellread.errors import ArtefactError


def make(folder, **contents):
    with files.new_folder(folder) as partial:
        for name, text in contents.items():
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def test_committed_folder_is_intact_and_has_no_partial(tmp_path):
    make(tmp_path / "a", one="1", **{"sub/two": "2"})
    assert files.problems(tmp_path / "a") == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_every_single_changed_byte_is_found(tmp_path):
    make(tmp_path / "a", one="some text", **{"sub/two": "2"})
    generator = random.Random(0)
    for path in [p for p in (tmp_path / "a").rglob("*") if p.is_file()]:
        original = path.read_bytes()
        for position in {generator.randrange(len(original)) for _ in range(60)}:
            changed = bytearray(original)
            changed[position] ^= 1 << generator.randrange(8)
            path.write_bytes(changed)
            assert files.problems(tmp_path / "a"), f"{path.name} byte {position}"
        path.write_bytes(original)
    assert files.problems(tmp_path / "a") == []


def test_missing_and_extra_files_are_found(tmp_path):
    make(tmp_path / "a", one="1", two="2")
    (tmp_path / "a" / "one").unlink()
    (tmp_path / "a" / "three").write_text("3")
    found = " ".join(files.problems(tmp_path / "a"))
    assert "missing" in found and "not in the manifest" in found
    with pytest.raises(ArtefactError, match="damaged"):
        files.check(tmp_path / "a")


def test_what_was_added_is_no_damage_and_nobody_is_told_to_delete_the_folder(tmp_path):
    make(tmp_path / "a", one="1", **{"README.md": "card"})
    (tmp_path / "a" / "README.md").write_text("card, and how we use it")
    (tmp_path / "a" / ".gitattributes").write_text("*.onnx filter=lfs")
    files.check(tmp_path / "a")
    assert len(files.problems(tmp_path / "a")) == 2  # but they are told of
    (tmp_path / "a" / "script.py").write_text("3")
    with pytest.raises(ArtefactError, match="1 file.*script.py") as caught:
        files.check(tmp_path / "a")
    assert "delete" not in caught.value.fix
    (tmp_path / "a" / "one").write_text("2")
    with pytest.raises(ArtefactError, match="damaged"):
        files.check(tmp_path / "a")


def test_a_part_is_compared_with_the_manifest_above(tmp_path):
    make(tmp_path / "a", **{"model/one": "1", "log": "2"})
    make(tmp_path / "b", **{"other/one": "1"})
    (tmp_path / "b" / "model").mkdir()
    (tmp_path / "a" / "log").write_text("3")
    for part in ("a/model", "b/model", "nowhere"):
        files.check_part(tmp_path / part)
    (tmp_path / "a" / "model" / "one").write_text("2")
    with pytest.raises(ArtefactError, match="damaged"):
        files.check_part(tmp_path / "a" / "model")


def test_an_error_leaves_the_old_folder_and_nothing_else(tmp_path):
    make(tmp_path / "a", one="old")
    with pytest.raises(RuntimeError), files.new_folder(tmp_path / "a") as partial:
        (partial / "one").write_text("new")
        raise RuntimeError
    assert (tmp_path / "a" / "one").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_what_a_kill_left_half_written_is_not_committed(tmp_path):
    """A manifest that names its own temporary file would name a file that is gone when it is in place."""
    partial = files.partial_path(tmp_path / "a")
    (partial / "deep").mkdir(parents=True)
    for name in ("one", "manifest.json.tmp", "deep/two.json.tmp"):
        (partial / name).write_text("x")
    manifest = files.commit(tmp_path / "a")
    assert list(manifest["files"]) == ["one"]
    assert files.problems(tmp_path / "a") == []


def test_replacing_leaves_only_the_new(tmp_path):
    make(tmp_path / "a", one="old", gone="x")
    make(tmp_path / "a", one="new")
    assert files.problems(tmp_path / "a") == []
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["manifest.json", "one"]


def test_identity_leaves_out_clocks_only(tmp_path):
    make(tmp_path / "a", one="1", **{"costs.json": "5", "timing.jsonl": "6"})
    make(tmp_path / "b", one="1", **{"costs.json": "7", "timing.jsonl": "8"})
    make(tmp_path / "c", one="2", **{"costs.json": "5", "timing.jsonl": "6"})
    assert files.identity(tmp_path / "a") == files.identity(tmp_path / "b")
    assert files.identity(tmp_path / "a") != files.identity(tmp_path / "c")


def test_write_bytes_is_atomic(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    files.write_json(path, {"a": 1})

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_nan_never_gets_into_json(tmp_path):
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert not (tmp_path / "x.json").exists()


def test_read_json_says_what_is_wrong(tmp_path):
    with pytest.raises(ArtefactError, match="missing"):
        files.read_json(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ArtefactError, match="not valid JSON"):
        files.read_json(tmp_path / "bad.json")
