"""Derived tasks from generated records, whose right labels are known."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from wellread import rng
from wellread.corpus import documents as corpus
from wellread.corpus.documents import ROLES, Document, MeshHeading, Section
from wellread.errors import DataError
from wellread.tasks import derive as derivations
from wellread.tasks.cut import text_key
from wellread.tasks.derive import derive, derive_from, document_split, strip_heading
from wellread.tasks.read import read_task
from wellread.tasks.task import SPLITS, Task

TREES = {"lung neoplasms": ["C04", "C08"], "adenocarcinoma": ["C04"], "asthma": ["C08"], "nose": []}


def document(number: int, **change: object) -> Document:
    generator = random.Random(number)
    sections = tuple(
        Section(
            role.title(),
            role,
            " ".join(f"The {role.lower()} word{generator.random()} is here." for _ in "ab"),
        )
        for role in ROLES
    )
    values: dict = {
        "id": f"pmid:{number}",
        "title": f"Title {number}",
        "sections": sections,
        "mesh": (MeshHeading(generator.choice(["Humans", "Animals"])),),
        "publication_types": ("Journal Article", "Review") if number % 4 == 0 else ("Journal Article",),
    }
    return Document(**(values | change))


def many(number: int = 300) -> Iterator[Document]:
    return (document(index) for index in range(number))


def examples(task: Task) -> list:
    return [example for split in SPLITS for example in task.splits[split]]


def test_all_derived_tasks_share_one_document_split() -> None:
    tasks = [derive_from(kind, many(), seed=3) for kind in ("sentence-role", "human-animal", "review")]
    for task in tasks:
        for split in SPLITS:
            assert {document_split(example.doc, 3) for example in task.splits[split]} == {split}
    assert sum(document_split(f"pmid:{index}", 3) == "train" for index in range(5000)) == pytest.approx(
        4000, abs=120
    )
    assert any(document_split(f"pmid:{i}", 3) != document_split(f"pmid:{i}", 4) for i in range(50))


def test_sentence_roles_are_those_of_the_sections() -> None:
    task = derive_from("sentence-role", many(), name="role")
    assert task.labels == ROLES and task.name == "role" and task.facts["derived"] is True
    assert len(examples(task)) == 300 * 10
    assert all(example.text.split()[1] == str(example.label).lower() for example in examples(task))
    assert len({example.id for example in examples(task)}) == 3000


def abstract(*sections: tuple[str, str]) -> list[tuple[str, str]]:
    """Label and text of the examples that one document gives."""
    made = tuple(Section("", label, text) for label, text in sections)
    found = derivations._derivation("sentence-role").examples(document(1, sections=made))
    return [(str(example.label), example.text) for example in found]


def test_what_is_left_out_of_sentence_roles() -> None:
    rest = (("METHODS", "We did it very well."), ("RESULTS", "It was really very good."))
    assert abstract(*rest) == []  # two roles only
    found = abstract(
        ("BACKGROUND", "BACKGROUND: One two three four. Too short here. Twice is one too many."),
        ("", "A section without a role stays out."),
        *rest,
        ("CONCLUSIONS", "Twice is one too many. Trial registration: the number is NCT01234567."),
        ("RESULTS", "Still good in the end. Conclusions: This is another section now. And so it goes on."),
    )
    assert found == [
        ("BACKGROUND", "One two three four."),
        ("METHODS", "We did it very well."),
        ("RESULTS", "It was really very good."),
        ("RESULTS", "Still good in the end."),
        ("CONCLUSIONS", "This is another section now."),
        ("CONCLUSIONS", "And so it goes on."),
    ]


@pytest.mark.parametrize(
    ("sentence", "left"),
    [
        ("METHODS: We did it.", "We did it."),
        ("Materials and methods:We did it.", "We did it."),
        ("MATERIALS AND METHODS: DESIGN: We did it.", "We did it."),
        ("Results - We did it.", "We did it."),
        ("AUTHORS' CONCLUSIONS: We did it.", "We did it."),
        ("SETTING AND PARTICIPANTS: We did it.", "We did it."),
        ("Results were good: all lived.", "Results were good: all lived."),
        ("RNA-seq: a method.", "RNA-seq: a method."),
        ("We found two: one and two.", "We found two: one and two."),
        ("Methods We did it.", "Methods We did it."),
    ],
)
def test_headings_are_removed(sentence: str, left: str) -> None:
    assert strip_heading(sentence) == left


@pytest.mark.parametrize(
    ("tags", "label"),
    [
        (["Humans"], "Humans"),
        (["Animals", "Mice"], "Animals"),
        (["Humans", "Animals"], None),
        (["Mice"], None),
        ([], None),
    ],
)
def test_human_or_animal(tags: list[str], label: str | None) -> None:
    made = document(1, mesh=tuple(MeshHeading(tag) for tag in tags))
    found = list(derivations._derivation("human-animal").examples(made))
    assert [example.label for example in found] == ([label] if label else [])
    assert all(example.text == made.text and example.doc == made.id for example in found)


@pytest.mark.parametrize(
    ("types", "title", "label"),
    [
        (["Journal Article", "Review"], "T", "review"),
        (["Systematic Review"], "T", "review"),
        (["Journal Article"], "T", "other"),
        (["Journal Article"], "Asthma: a systematic review", None),
        (["Journal Article"], "Chart review of asthma", "other"),
        (["Journal Article", "Meta-Analysis"], "T", None),
        (["Journal Article", "Comment"], "T", None),
        (["Editorial"], "T", None),
        (["Journal Article"], "", None),
    ],
)
def test_review_or_other(types: list[str], title: str, label: str | None) -> None:
    made = document(1, publication_types=tuple(types), title=title)
    found = [example.label for example in derivations._derivation("review").examples(made)]
    assert found == ([label] if label else [])


@pytest.mark.parametrize(
    ("headings", "label"),
    [
        ([("Asthma", True)], "Respiratory Tract Diseases"),
        ([("Asthma", True), ("Nose", True), ("Unheard-of", True)], "Respiratory Tract Diseases"),
        ([("Asthma", True), ("Adenocarcinoma", False)], "Respiratory Tract Diseases"),
        ([("Lung Neoplasms", True)], None),
        ([("Lung Neoplasms", True), ("Adenocarcinoma", True)], "Neoplasms"),
        ([("Asthma", True), ("Adenocarcinoma", True)], None),
        ([("Nose", True)], None),
        ([("Asthma", False)], None),
    ],
)
def test_disease_categories(headings: list, label: str | None) -> None:
    made = document(1, mesh=tuple(MeshHeading(name, "D1", major) for name, major in headings))
    found = [example.label for example in derivations._disease(made, TREES)]
    assert found == ([label] if label else [])


def test_small_disease_classes_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(derivations, "load_categories", lambda: {"a": ["C04"], "b": ["C08"], "c": ["C14"]})
    names = ["a"] * 6 + ["b"] * 6 + ["c"]

    def made() -> Iterator[Document]:
        return (document(i, mesh=(MeshHeading(names[i % 13].upper(), "", True),)) for i in range(650))

    task = derive_from("disease-category", made())
    assert task.labels == ("Neoplasms", "Respiratory Tract Diseases")
    assert task.facts["classes_dropped"] == {"Cardiovascular Diseases": 50}
    assert {example.label for example in examples(task)} == set(task.labels)


def test_limits_choose_nested_samples_by_hash() -> None:
    whole, small, smaller = (
        derive_from("sentence-role", many(), max_train=limit, max_eval=limit and limit // 4)
        for limit in (None, 200, 80)
    )
    assert [len(small.splits[split]) for split in SPLITS] == [200, 50, 50]
    for split in SPLITS:
        large, mid, low = ([one.id for one in task.splits[split]] for task in (whole, small, smaller))
        assert set(low) < set(mid) < set(large)
        assert [identity for identity in large if identity in set(mid)] == mid  # in the order of the corpus
    shares = [sum(one.label == role for one in small.splits["train"]) for role in ROLES]
    assert min(shares) > 20  # uniform, not the first documents' sections


def test_pruning_on_the_way_changes_nothing() -> None:
    task = derive_from("sentence-role", many(1600), max_train=5, max_eval=3)
    whole = derive_from("sentence-role", many(1600))
    assert task.facts["examples_available"] == whole.facts["examples_available"]
    smallest = derive_from("sentence-role", many(1600), max_train=6000, max_eval=3000)
    for split, number in (("train", 5), ("dev", 3)):
        draws = {
            one.id: float(rng.uniform(0, "derived sample", text_key(one.id)))
            for one in smallest.splits[split]
        }
        assert {one.id for one in task.splits[split]} == set(sorted(draws, key=draws.__getitem__)[:number])


def test_the_folder_is_the_task_and_is_made_the_same_again(tmp_path: Path) -> None:
    source = tmp_path / "documents.jsonl.zst"
    corpus.write(source, many())
    task = derive("human-animal", source, tmp_path / "one", seed=5, name="human")
    derive("human-animal", source, tmp_path / "two", seed=5, name="human")
    assert read_task(tmp_path / "one").splits == task.splits
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    facts = read_task(tmp_path / "one").facts
    assert facts["derived"] is True and facts["split_seed"] == 5 and facts["documents_read"] == 300
    assert sum(facts["examples_available"].values()) == 300


@pytest.mark.parametrize(
    ("kind", "change", "what"),
    [
        ("sentence-role", {"sections": (Section("", "", "No role at all here."),)}, "structured abstracts"),
        ("human-animal", {"mesh": ()}, "MeSH check tags"),
        ("human-animal", {"mesh": (MeshHeading("Humans"),)}, "of 1 of 2 classes"),
        ("review", {"publication_types": ()}, "publication types"),
        ("roles", {}, "unknown derived task 'roles'"),
    ],
)
def test_a_corpus_that_cannot_give_the_task(kind: str, change: dict, what: str) -> None:
    with pytest.raises(DataError) as caught:
        derive_from(kind, (document(index, **change) for index in range(100)))
    assert what in caught.value.what and caught.value.fix
