"""The tasks stage: from each kind of settings to the canonical folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wellread.corpus import documents as corpus
from wellread.corpus.documents import Document, MeshHeading, Section
from wellread.errors import DataError, RecipeError
from wellread.settings import TaskSettings
from wellread.tasks.build import build, source_files
from wellread.tasks.read import read_task


@pytest.fixture
def base(tmp_path: Path) -> Path:
    made = [
        Document(
            f"pmid:{n}",
            f"Title {n}",
            (Section("", "", f"Body of {n}."),),
            mesh=(MeshHeading(("Humans", "Animals")[n % 2]),),
        )
        for n in range(200)
    ]
    corpus.write(tmp_path / "documents.jsonl.zst", made)
    own = tmp_path / "own"
    own.mkdir()
    rows = [{"id": str(n), "text": f"text {n}", "label": "ab"[n % 2]} for n in range(40)]
    (own / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (own / "task.toml").write_text('source = "mine"\n')
    ner = tmp_path / "ner"
    ner.mkdir()
    for name in ("train", "devel", "test"):
        (ner / f"{name}.tsv").write_text("a\tB-Disease\nb\tO\n\n")
    return tmp_path


@pytest.mark.parametrize(
    ("settings", "kind", "metric"),
    [
        ({"derive": "human-animal", "max_train": 50}, "classify", "macro_f1"),
        ({"derive": "human-animal", "metric": "auroc"}, "classify", "auroc"),
        ({"path": "own"}, "classify", "macro_f1"),
        ({"path": "ner", "known": "ncbi-disease"}, "tag", "entity_f1"),
    ],
)
def test_every_source(base: Path, settings: dict, kind: str, metric: str) -> None:
    folder = base / "out"
    folder.mkdir()
    build("mine", TaskSettings(**settings), base / "documents.jsonl.zst", base, folder, 7)
    task = read_task(folder, "mine")
    assert (task.name, task.kind, task.metric) == ("mine", kind, metric)
    assert task.facts["derived"] is ("derive" in settings)
    assert len(task.splits["train"]) <= settings.get("max_train", 10**9)
    assert {path.name for path in folder.iterdir()} == {"task.toml", "train.jsonl", "dev.jsonl", "test.jsonl"}


def test_source_files(base: Path) -> None:
    def names(**settings: str) -> list[str]:
        return [path.name for path in source_files(TaskSettings(**settings), base, "tasks.x")]

    assert names(derive="review") == []
    assert names(path="own") == ["task.toml", "train.jsonl"]
    assert names(path="ner", known="ncbi-disease") == ["devel.tsv", "test.tsv", "train.tsv"]
    with pytest.raises(DataError, match="no such folder"):
        names(path="absent")
    with pytest.raises(RecipeError) as caught:
        names(path="ner", known="ncbi")
    assert caught.value.where == "tasks.x.known"


def test_errors(base: Path) -> None:
    folder = base / "out"
    folder.mkdir()
    with pytest.raises(RecipeError) as caught:
        build("x", TaskSettings(path="own", metric="pearson"), None, base, folder, 0)
    assert caught.value.where == "tasks.x.metric" and "macro_f1" in caught.value.fix
    with pytest.raises(RecipeError, match="needs a corpus"):
        build("x", TaskSettings(derive="review"), None, base, folder, 0)
    assert list(folder.iterdir()) == []
