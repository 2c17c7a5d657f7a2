"""Known tasks in their published formats, in miniature; the real files where WELLREAD_DATA names them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wellread.errors import DataError, RecipeError
from wellread.evaluate.metrics import metrics_of
from wellread.tasks.known import describe, known_files, known_names, read_known
from wellread.tasks.task import SPLITS, Task


def put(folder: Path, text: str, dev: str = "dev.tsv") -> Path:
    for name in ("train.tsv", dev, "test.tsv"):
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def unique_ids(task: Task) -> bool:
    ids = [example.id for split in SPLITS for example in task.splits[split]]
    return len(set(ids)) == len(ids)


def test_every_declaration_is_complete() -> None:
    for name in known_names():
        told = describe(name)
        assert set(told["files"]) == ({"all"} if "divide" in told else set(SPLITS))
        assert told["title"] and told["source"] and told["licence"]
        allowed = metrics_of(told["kind"], len(told.get("labels", [])))
        assert told.get("metric", allowed[0]) in allowed


def test_entities(tmp_path: Path) -> None:
    task = read_known(
        "ncbi-disease", put(tmp_path, "A\tB-Disease\nb\tI-Disease\n\nc\tO\n", "devel.tsv"), "ner"
    )
    assert task.name == "ner" and task.labels == ("O", "B-Disease", "I-Disease")
    assert [len(task.splits[split]) for split in SPLITS] == [2, 2, 2] and unique_ids(task)


def test_untyped_entities_get_a_type(tmp_path: Path) -> None:
    task = read_known("jnlpba", put(tmp_path, "-DOCSTART- 95369245\n\nIL-2\tB\ngene\tI\nc\tO\n"))
    assert (
        task.splits["dev"][0].label == ("B-Entity", "I-Entity", "O")
        and task.splits["dev"][0].doc == "95369245"
    )


def test_biosses(tmp_path: Path) -> None:
    for number, name in enumerate(("train", "dev", "test")):
        (tmp_path / f"{name}.tsv").write_text(f"pair_id\tsent1\tsent2\tscore\n{number}\tOne.\tTwo.\t2.4\n")
    task = read_known("biosses", tmp_path)
    assert task.kind == "regress" and task.metric == "pearson"
    one = task.splits["train"][0]
    assert (one.id, one.text, one.text_pair, one.label) == ("0", "One.", "Two.", 2.4)


def hoc(*flags: str) -> str:
    lines = [f"{flag}\tA sentence.\t{{0}}_s{number}" for number, flag in enumerate(flags)]
    return "\n".join(["labels\tsentence\tindex", *lines, ""])


def test_hallmarks_of_cancer(tmp_path: Path) -> None:
    none = ",".join(f"{index}_0" for index in range(10))
    for number, name in enumerate(("train", "dev", "test"), start=5):
        text = hoc(none.replace("4_0", "4_1").replace("9_0", "9_1"), none).format(number)
        (tmp_path / f"{name}.tsv").write_text(text)
    task = read_known("hoc", tmp_path)
    assert task.kind == "multilabel" and task.metric == "micro_f1_doc" and len(task.labels) == 10
    first, second = task.splits["train"]
    assert (
        first.label == ("evading growth suppressors", "tumor promoting inflammation") and second.label == ()
    )
    assert first.doc == second.doc == "pmid:5"
    (tmp_path / "dev.tsv").write_text(hoc("0_1,1_0").format(9))
    with pytest.raises(DataError) as caught:
        read_known("hoc", tmp_path)
    assert caught.value.where.endswith("dev.tsv:2")


def test_ids_that_begin_anew_in_each_split(tmp_path: Path) -> None:
    task = read_known("gad", put(tmp_path, "index\tsentence\tlabel\n0\t@GENE$ a.\t1\n1\t@GENE$ b.\t0\n"))
    assert unique_ids(task) and task.labels == ("no", "yes")
    assert [one.label for one in task.splits["test"]] == ["yes", "no"]


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean 'ncbi-disease'"):
        read_known("ncbi-diseases", tmp_path)
    with pytest.raises(DataError, match=r"devel.tsv or dev.tsv|train.tsv"):
        known_files("bc2gm", tmp_path)
    put(tmp_path, "index\tsentence\tlabel\n0\tA.\t2\n")
    with pytest.raises(DataError, match="'2' is not among the labels") as caught:
        read_known("gad", tmp_path)
    assert caught.value.where.endswith(":2")


FOLDERS = {
    "ncbi-disease": ("ner_ncbi_disease", (5424, 923, 940), 960),
    "bc5cdr-disease": ("ner_bc5cdr_disease", (4560, 4581, 4797), 4424),
    "bc5cdr-chem": ("ner_bc5cdr_chem", (4560, 4581, 4797), 5385),
    "bc2gm": ("ner_bc2gm", (12574, 2519, 5038), 6325),
    "jnlpba": ("ner_jnlpba", (16807, 1739, 3856), 8662),
    "biosses": ("blurb_biosses", (64, 16, 20), None),
    "hoc": ("blurb_hoc", (12119, 1798, 3547), None),
    "gad": ("blurb_gad", (4261, 535, 534), None),
    "ddi": ("blurb_ddi", (25252, 2496, 5716), None),
    "bioasq": ("blurb_bioasq", (670, 75, 140), None),
    "mtsamples": ("clinical_mtsamples", (218, 87, 131), None),
}


@pytest.mark.data
@pytest.mark.parametrize("name", FOLDERS)
def test_published_sizes(name: str) -> None:
    folder, sizes, entities = FOLDERS[name]
    base = os.environ.get("WELLREAD_DATA", "")
    if not base or not (Path(base) / folder).is_dir():
        pytest.skip(f"WELLREAD_DATA has no {folder}")
    task = read_known(name, Path(base) / folder)
    assert tuple(len(task.splits[split]) for split in SPLITS) == sizes
    if entities is not None:
        begun = sum(tag.startswith("B-") for one in task.splits["test"] for tag in one.label)  # type: ignore[union-attr]
        assert begun == entities
