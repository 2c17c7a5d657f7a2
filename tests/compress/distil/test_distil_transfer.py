"""Which unlabelled texts are taken."""

import json
from dataclasses import replace

import pytest
import toy

from wellread.compress.distil.settings import DistilSettings
from wellread.compress.distil.transfer import gather, unit_of
from wellread.errors import DataError
from wellread.tasks.task import Example


def settings(count=1000, **changes):
    return DistilSettings(transfer=count, **{"own": False, **changes})


def texts(found):
    return [example.text for example in found.examples]


def write(path, documents):
    path.write_text(
        "".join(json.dumps({"id": f"d{at}", "text": text}) + "\n" for at, text in enumerate(documents))
    )
    return str(path)


@pytest.fixture
def task():
    return toy.task("classify")


@pytest.fixture
def sentences(task):
    """Texts of the lengths of the task's, none of which is the task's."""
    return [f"{one.text} also" for one in toy.task("classify", train=80, other=1).splits["train"]]


def test_tested_texts_and_their_documents_are_left_out(task, sentences, tmp_path):
    tested = [example.text.upper() + " !" for example in task.splits["test"][:5]]
    path = write(tmp_path / "a.jsonl", [*tested, *sentences])
    found = gather(task, [path], settings(), quiet=True)
    assert found.counts["in dev or test"] == 5
    assert not {text.casefold() for text in texts(found)} & {text.casefold() for text in tested}
    behind = replace(task.splits["dev"][0], doc="d7")
    linked = replace(task, splits={**task.splits, "dev": [behind, *task.splits["dev"][1:]]})
    again = gather(linked, [path], settings(), quiet=True)
    assert again.counts["in dev or test"] == 6
    assert set(texts(found)) - set(texts(again)) == {sentences[2]}


def test_a_tested_document_is_known_by_its_pmid_too(task, sentences, tmp_path):
    rows = [{"id": f"mine-{at}", "pmid": str(at), "text": text} for at, text in enumerate(sentences)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    behind = replace(task.splits["test"][0], doc="pmid:3")
    linked = replace(task, splits={**task.splits, "test": [behind, *task.splits["test"][1:]]})
    found = gather(linked, [str(tmp_path / "a.jsonl")], settings(), quiet=True)
    assert found.counts["in dev or test"] == 1
    assert sentences[3] not in texts(found)


def test_each_text_comes_once_and_the_task_s_own_only_if_wanted(task, sentences, tmp_path):
    own = task.splits["train"][3].text
    path = write(tmp_path / "a.jsonl", [*sentences, *sentences, own])
    found = gather(task, [path], settings(), quiet=True)
    assert own not in texts(found)
    assert len(set(texts(found))) == len(found.examples)
    both = gather(task, [path], settings(own=True), quiet=True)
    assert both.examples[: len(task.splits["train"])] == task.splits["train"]
    assert [one.id for one in both.examples[-2:]] == [
        f"transfer:{len(found.examples) - 2 + at}" for at in (0, 1)
    ]


def test_the_choice_is_of_the_texts_alone(task, sentences, tmp_path):
    """Neither order nor files matter; a smaller set is part of a larger one; another seed is another set."""
    one = write(tmp_path / "a.jsonl", sentences)
    split = [write(tmp_path / "b.jsonl", sentences[40:]), write(tmp_path / "c.jsonl", sentences[:40])]
    found = gather(task, [one], settings(20), quiet=True)
    assert len(found.examples) == 20
    assert texts(gather(task, split, settings(20), quiet=True)) == texts(found)
    assert texts(gather(task, [one], settings(10), quiet=True)) == texts(found)[:10]
    assert texts(gather(task, [one], settings(20), seed=1, quiet=True)) != texts(found)


def test_documents_are_cut_as_the_task_is(task, sentences, tmp_path):
    whole = [
        "  ".join(f"{text.capitalize()}." for text in sentences[at : at + 10]) for at in range(0, 80, 10)
    ]
    assert unit_of(task, whole) == "sentence"
    assert unit_of(task, sentences) == "document"
    found = gather(task, [write(tmp_path / "a.jsonl", whole)], settings(), quiet=True)
    assert found.unit == "sentence"
    assert {text.casefold() for text in texts(found)} <= {f"{text}." for text in sentences}


def test_words_for_tags(sentences, tmp_path):
    task = toy.task("tag")
    found = gather(task, [write(tmp_path / "a.jsonl", sentences)], settings(), quiet=True)
    assert found.examples
    assert all(" ".join(one.tokens) == one.text for one in found.examples)


def test_pairs_come_from_files_of_pairs(tmp_path):
    task = toy.task("regress")
    rows = [{"text": f"{one.text} too", "text_pair": one.text_pair} for one in task.splits["train"][:9]]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = gather(task, [str(path)], settings(), quiet=True)
    assert found.examples
    assert all(one.text_pair == "patients with effect" for one in found.examples)
    path.write_text(json.dumps({"text": "alone"}) + "\n")
    with pytest.raises(DataError, match="pairs.jsonl:1"):
        gather(task, [str(path)], settings(), quiet=True)
    with pytest.raises(DataError, match="one of pairs"):
        gather(task, [str(tmp_path)], settings(), quiet=True)


def test_nothing_to_learn_from_is_said(task, tmp_path):
    path = write(tmp_path / "a.jsonl", [task.splits["dev"][0].text])
    with pytest.raises(DataError, match="in dev or test 1"):
        gather(task, [path], settings(), quiet=True)


def test_an_example_has_no_label(task, sentences, tmp_path):
    found = gather(task, [write(tmp_path / "a.jsonl", sentences)], settings(), quiet=True)
    assert all(isinstance(one, Example) and one.label == "" for one in found.examples)
