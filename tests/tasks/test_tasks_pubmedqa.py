"""PubMedQA: halves and folds as the official split draws them; the long answer is no input."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from wellread.errors import DataError
from wellread.tasks import pubmedqa
from wellread.tasks.known import read_known

# As in the published set, the last tenth comes out short and gets a question of each other tenth.
NAMES = ["yes"] * 230 + ["no"] * 114 + ["maybe"] * 36
LABELS = {f"{number}": NAMES[number * 77 % 380] for number in range(380)}


def write(folder: Path, **changes: object) -> Path:
    questions = {
        pmid: {
            "QUESTION": f"Is {pmid} so?",
            "CONTEXTS": [f"Given {pmid}.", "Then."],
            "LABELS": ["AIM", "END"],
            "LONG_ANSWER": "It is.",
            "final_decision": label,
        }
        for pmid, label in LABELS.items()
    }
    test = {pmid: LABELS[pmid] for pmid in pubmedqa.split(LABELS)[1]}
    given = {"ori_pqal.json": questions, "test_ground_truth.json": test, **changes}
    for name, value in given.items():
        (folder / name).write_text(json.dumps(value))
    return folder


def test_halves_and_folds_share_the_labels_out() -> None:
    half, test = pubmedqa.split(LABELS)
    assert len(half) == len(test) == 190 and set(half) | set(test) == set(LABELS)
    tenths = pubmedqa.folds(half, LABELS)
    assert [len(tenth) for tenth in tenths] == [19] * 10
    assert sorted(pmid for tenth in tenths for pmid in tenth) == sorted(half)
    assert pubmedqa.folds(half, LABELS) == tenths


def test_a_fold_is_dev_and_the_nine_others_are_train(tmp_path: Path) -> None:
    write(tmp_path)
    tasks = [read_known("pubmedqa", tmp_path, fold=fold) for fold in range(10)]
    ids = [{split: {one.id for one in task.splits[split]} for split in task.splits} for task in tasks]
    assert all(one["test"] == set(pubmedqa.split(LABELS)[1]) for one in ids)
    assert all(len(one["train"]) == 171 and not one["train"] & one["dev"] for one in ids)
    assert set.union(*(one["dev"] for one in ids)) == set(pubmedqa.split(LABELS)[0])
    one = tasks[0].splits["train"][0]
    assert (one.text, one.text_pair) == (f"Is {one.id} so?", f"Given {one.id}. Then.")
    assert one.label == LABELS[one.id] and one.doc == f"pmid:{one.id}"
    assert tasks[0].metric == "accuracy" and tasks[0].labels == ("yes", "no", "maybe")


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no fold 10"):
        read_known("pubmedqa", write(tmp_path), fold=10)
    with pytest.raises(DataError, match="is not the test set"):
        read_known("pubmedqa", write(tmp_path, **{"test_ground_truth.json": {"1": "yes"}}))
    with pytest.raises(DataError, match="not the labelled set"):
        read_known("pubmedqa", write(tmp_path, **{"ori_pqal.json": {"1": {"QUESTION": "x"}}}))


@pytest.mark.data
def test_the_split_is_the_published_one() -> None:
    folder = Path(os.environ.get("WELLREAD_DATA", "")) / "pubmedqa"
    if not os.environ.get("WELLREAD_DATA") or not folder.is_dir():
        pytest.skip("WELLREAD_DATA has no pubmedqa")
    questions = json.loads((folder / "ori_pqal.json").read_text())
    labels = {pmid: one["final_decision"] for pmid, one in questions.items()}
    half, test = pubmedqa.split(labels)
    assert set(test) == set(json.loads((folder / "test_ground_truth.json").read_text()))
    if (folder / "cv_folds_pmids.json").exists():
        published = json.loads((folder / "cv_folds_pmids.json").read_text())["folds"]
        assert [set(tenth) for tenth in pubmedqa.folds(half, labels)] == [set(tenth) for tenth in published]
