"""The corpus stage from files to documents and report."""

import gzip
import json
import random

import pytest

from wellread.corpus import documents, registry
from wellread.corpus.prepare import prepare, source_files
from wellread.errors import DataError, RecipeError
from wellread.settings import CorpusSettings


def sentences(seed, words=40):
    draw = random.Random(seed)
    return " ".join(f"word{draw.randrange(5000)}" for _ in range(words))


def write_jsonl(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, records)))
    return path


@pytest.fixture
def base(tmp_path):
    folder = tmp_path / "base"
    write_jsonl(
        folder / "one" / "a.jsonl",
        [
            {"id": "a1", "text": sentences(1), "language": "eng", "licence": "CC BY", "year": 2001},
            {"id": "a2", "text": sentences(2), "language": "ger"},
            {"id": "a3", "text": "too short"},
            {"id": "a4", "text": ""},
            {"id": "a5", "text": sentences(1).upper()},
            {"id": "a6", "text": sentences(3) + " changed"},
        ],
    )
    write_jsonl(
        folder / "one" / "deeper" / "b.jsonl",
        [
            {"id": "a1", "text": sentences(4)},
            {"text": sentences(3) + " altered"},
            {"text": sentences(5)},
        ],
    )
    (folder / "one" / "README.txt").write_text("About this folder. " * 30)
    (folder / "one" / ".hidden.txt").write_text(sentences(6))
    (folder / "one" / "image.png").write_bytes(b"\x89PNG")
    (folder / "two").mkdir()
    (folder / "two" / "b.jsonl").write_bytes(gzip.compress(json.dumps({"text": sentences(7)}).encode()))
    return folder


def run(base, tmp_path, name="out", **settings):
    out = tmp_path / name
    out.mkdir(exist_ok=True)
    values = {"sources": ("one", "two"), "min_words": 10, **settings}
    report = prepare(CorpusSettings(**values), base, out, quiet=True)
    return report, list(documents.read(out / "documents.jsonl.zst")), out


def test_the_whole_stage(base, tmp_path):
    report, kept, out = run(base, tmp_path)
    assert [document.id for document in kept] == ["a1", "a6", "one/deeper/b.jsonl#3", "two/b.jsonl#1"]
    assert report["documents_read"] == 10
    assert report["kept"] == 4
    assert report["dropped"] == {
        "duplicate (exact)": 1,
        "duplicate (ids)": 1,
        "duplicate (near)": 1,
        "language": 1,
        "no text": 1,
        "too short": 1,
    }
    assert report["duplicates"] == {"ids": 1, "exact": 1, "near": 1}
    assert sum(report["dropped"].values()) + report["kept"] == report["documents_read"]
    assert report["languages"] == {"not stated": 3, "eng": 1}
    assert report["licences"] == {"not stated": 3, "CC BY": 1}
    assert report["sources"] == {"a.jsonl": 2, "one/deeper/b.jsonl": 1, "two/b.jsonl": 1}
    assert [(file["name"], file["documents"]) for file in report["files"]] == [
        ("a.jsonl", 6),
        ("one/deeper/b.jsonl", 3),
        ("two/b.jsonl", 1),
    ]
    assert all(len(file["sha256"]) == 64 and file["bytes"] > 0 for file in report["files"])
    assert json.loads((out / "report.json").read_text()) == report
    assert sorted(path.name for path in out.iterdir()) == ["documents.jsonl.zst", "report.json"]


def test_equal_input_gives_equal_bytes(base, tmp_path):
    _, _, first = run(base, tmp_path, "first")
    _, _, second = run(base, tmp_path, "second")
    for name in ("documents.jsonl.zst", "report.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    run(base, tmp_path, "first")  # over its own earlier result
    assert (first / "report.json").read_bytes() == (second / "report.json").read_bytes()


def test_settings_choose(base, tmp_path):
    _, kept, _ = run(base, tmp_path, languages=(), near_duplicates=0.0)
    assert {"a2", "one/deeper/b.jsonl#2"} <= {document.id for document in kept}
    report, kept, _ = run(base, tmp_path, max_documents=2)
    assert len(kept) + sum(report["duplicates"].values()) == 2
    _, kept, _ = run(base, tmp_path, min_words=0)
    assert "a3" in {document.id for document in kept}
    assert "a4" not in {document.id for document in kept}


def test_sources_are_files_folders_and_patterns_in_order_and_once(base):
    def names(*sources):
        found = source_files(CorpusSettings(sources=sources), base)
        return [path.relative_to(base).as_posix() for path in found]

    assert names("one") == ["one/a.jsonl", "one/deeper/b.jsonl"]
    assert names("two", "one/a.jsonl") == ["two/b.jsonl", "one/a.jsonl"]
    assert names("*/*.jsonl") == ["one/a.jsonl", "two/b.jsonl"]
    assert names("**/b.jsonl", "one") == ["one/deeper/b.jsonl", "two/b.jsonl", "one/a.jsonl"]
    assert names(str(base / "one"), "one/../one/a.jsonl") == ["one/a.jsonl", "one/deeper/b.jsonl"]


@pytest.mark.parametrize(
    ("source", "what", "fix"),
    [
        ("nowhere", "is no file", "looked for"),
        ("*.nothing", "holds no file", ".jsonl"),
        ("empty", "holds no file", ".jsonl"),
        ("pubmed-sampel", "is no file", "did you mean 'pubmed-sample'"),
        ("pubmed-sample", "not on this machine", "wellread data get pubmed-sample"),
    ],
)
def test_missing_sources_name_the_recipe_key(base, source, what, fix, monkeypatch, tmp_path):
    monkeypatch.setenv("WELLREAD_HOME", str(tmp_path / "cache"))
    (base / "empty").mkdir()
    with pytest.raises(RecipeError) as caught:
        source_files(CorpusSettings(sources=(source,)), base)
    assert caught.value.where == "corpus.sources"
    assert what in caught.value.what
    assert fix in caught.value.fix


def test_a_damaged_cache_is_refused(base, tmp_path, monkeypatch):
    monkeypatch.setenv("WELLREAD_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "corpora" / "pubmed-sample"
    folder.mkdir(parents=True)
    for member, _ in registry.KNOWN[0].members:
        (folder / member.rpartition("/")[2]).write_bytes(b"not it")
    with pytest.raises(DataError, match="SHA-256") as caught:
        source_files(CorpusSettings(sources=("pubmed-sample",)), base)
    assert "wellread data get pubmed-sample" in caught.value.fix


def test_nothing_left_says_why(base, tmp_path):
    with pytest.raises(DataError) as caught:
        run(base, tmp_path, min_words=1000)
    assert "too short" in caught.value.what
    assert "corpus.min_words" in caught.value.fix
    assert list((tmp_path / "out").iterdir()) == []


def test_a_broken_file_leaves_earlier_results_as_they_were(base, tmp_path):
    _, _, out = run(base, tmp_path)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (base / "two" / "c.jsonl").write_text('{"text": "fine"}\n{"text": ')
    with pytest.raises(DataError) as caught:
        run(base, tmp_path)
    assert caught.value.where == f"{base / 'two' / 'c.jsonl'}:2"
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_what_an_interrupted_stage_left_is_no_hindrance(base, tmp_path):
    (tmp_path / "out" / "scratch").mkdir(parents=True)
    (tmp_path / "out" / "scratch" / "cleaned.jsonl.zst").write_bytes(b"half")
    report, _, out = run(base, tmp_path)
    assert report["kept"] == 4
    assert not (out / "scratch").exists()


def test_what_describes_a_folder_is_told_by_its_whole_name(tmp_path):
    for name in ("source.jsonl", "notice-2021.txt", "LICENSE.md", "README.txt.gz", "NOTICE.txt"):
        (tmp_path / name).write_text("x")
    found = source_files(CorpusSettings(sources=(".",)), tmp_path)
    assert [path.name for path in found] == ["notice-2021.txt", "source.jsonl"]


def test_brackets_in_the_folder_of_the_recipe_are_no_pattern(tmp_path):
    base = tmp_path / "my [x]"
    base.mkdir()
    (base / "a.jsonl").write_text("{}")
    assert source_files(CorpusSettings(sources=("*.jsonl",)), base) == [base / "a.jsonl"]
