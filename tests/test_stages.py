"""The stage engine: only what is stale is built, and an interruption is made good."""

import json

import pytest

from wellread import files
from wellread import stages as engine
from wellread.errors import DataError, UserError
from wellread.stages import Stage


class Counter:
    """Stages a -> b that count how often they are built."""

    def __init__(self):
        self.built = []

    def stages(self, a=1, b=1, source=()):
        def build_a(folder):
            self.built.append("a")
            (folder / "a.txt").write_text(str(a // 10))

        def build_b(folder):
            self.built.append("b")
            (folder / "b.txt").write_text(str(b))

        return [
            Stage("a", build_a, {"a": a}, files=tuple(source)),
            Stage("b", build_b, {"b": b}, inputs=("a",)),
        ]

    def run(self, folder, **settings):
        self.built = []
        engine.execute(self.stages(**settings), folder, quiet=True)
        return self.built


def test_only_stale_stages_are_built(tmp_path):
    counter = Counter()
    assert counter.run(tmp_path / "r") == ["a", "b"]
    assert counter.run(tmp_path / "r") == []
    assert counter.run(tmp_path / "r", b=2) == ["b"]


def test_an_equal_result_does_not_make_later_stages_stale(tmp_path):
    counter = Counter()
    counter.run(tmp_path / "r", a=11)
    assert counter.run(tmp_path / "r", a=12) == ["a"]
    assert counter.run(tmp_path / "r", a=22) == ["a", "b"]


def test_a_changed_input_file_makes_stale(tmp_path):
    counter = Counter()
    source = tmp_path / "text.txt"
    source.write_text("one")
    counter.run(tmp_path / "r", source=[source])
    assert counter.run(tmp_path / "r", source=[source]) == []
    source.write_text("two!")
    assert counter.run(tmp_path / "r", source=[source]) == ["a"]


def test_a_damaged_stage_is_made_anew(tmp_path, capsys):
    counter = Counter()
    counter.run(tmp_path / "r")
    (tmp_path / "r/stages/a/a.txt").write_text("X")
    assert counter.run(tmp_path / "r") == ["a"]
    assert "damaged" in capsys.readouterr().err
    assert files.problems(tmp_path / "r/stages/a") == []


def test_an_interrupted_stage_finds_what_it_had_written(tmp_path):
    attempts = []

    def build(folder):
        attempts.append(sorted(p.name for p in folder.iterdir() if p.name != "costs.json"))
        (folder / f"part{len(attempts)}").write_text("x")
        if len(attempts) == 1:
            raise KeyboardInterrupt

    stages = [Stage("a", build, {})]
    with pytest.raises(KeyboardInterrupt):
        engine.execute(stages, tmp_path, quiet=True)
    engine.execute(stages, tmp_path, quiet=True)
    assert attempts == [[], ["part1"]]
    assert sorted(p.name for p in (tmp_path / "stages").iterdir()) == ["a"]


def test_leftovers_of_other_settings_are_not_found(tmp_path):
    seen = []

    def build(folder):
        seen.append(sorted(p.name for p in folder.iterdir() if p.name != "costs.json"))
        (folder / "part").write_text("x")
        if len(seen) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.execute([Stage("a", build, {"v": 1})], tmp_path, quiet=True)
    engine.execute([Stage("a", build, {"v": 2})], tmp_path, quiet=True)
    assert seen == [[], []]


def test_a_whole_folder_whose_rename_was_missed_is_taken_over(tmp_path):
    counter = Counter()
    counter.run(tmp_path)
    stages = tmp_path / "stages"
    (stages / "a").rename(stages / "a.partial")
    assert counter.run(tmp_path) == []
    assert (stages / "a").is_dir() and not (stages / "a.partial").exists()


def test_two_processes_do_not_share_a_run_folder(tmp_path):
    with engine.locked(tmp_path), pytest.raises(UserError, match="another process"), engine.locked(tmp_path):
        pass


def test_a_full_disk_is_a_user_error_and_the_stage_goes_on_later(tmp_path):
    def full(folder):
        raise OSError(28, "No space left on device", str(folder / "x"))

    with pytest.raises(UserError, match="No space"):
        engine.execute([Stage("a", full, {})], tmp_path, quiet=True)
    engine.execute([Stage("a", lambda folder: (folder / "x").write_text("1"), {})], tmp_path, quiet=True)


def test_costs_count_interrupted_attempts(tmp_path):
    path = tmp_path / "costs.json"
    files.write_json(path, {"seconds": 100.0, "peak_memory_bytes": 5})
    with engine.Costs(path):
        pass
    costs = json.loads(path.read_text())
    assert costs["seconds"] >= 100.0


def test_code_hash_ignores_comments_and_docstrings(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "PACKAGE", tmp_path)
    hashes = []
    for source in ('"""Doc."""\nx = 1\n', "# comment\nx  =  1\n", "x = 2\n"):
        (tmp_path / "m.py").write_text(source)
        engine.code_hash.cache_clear()
        hashes.append(engine.code_hash("m"))
    engine.code_hash.cache_clear()
    assert hashes[0] == hashes[1] != hashes[2]


def test_stale_names_what_would_be_built(tmp_path):
    counter = Counter()
    assert engine.stale(counter.stages(), tmp_path / "none") == ["a", "b"]
    counter.run(tmp_path)
    assert engine.stale(counter.stages(), tmp_path) == []
    assert engine.stale(counter.stages(a=20), tmp_path) == ["a", "b"]


def test_what_no_longer_belongs_to_the_run_is_not_current(tmp_path):
    counter = Counter()
    counter.run(tmp_path / "r")
    assert engine.current(tmp_path / "r") == {"a", "b"}
    assert engine.current(tmp_path / "r", lambda name: name != "a") == set()
    engine.execute(counter.stages(a=22)[:1], tmp_path / "r", quiet=True)
    assert engine.current(tmp_path / "r") == {"a"}
    counter.run(tmp_path / "r", a=22)
    assert engine.current(tmp_path / "r") == {"a", "b"}


def test_an_input_file_that_is_gone_is_named(tmp_path):
    (tmp_path / "link.txt").symlink_to(tmp_path / "nowhere.txt")
    with pytest.raises(DataError, match="No such file"):
        Counter().run(tmp_path / "r", source=[tmp_path / "link.txt"])
