"""The leakage check: what overlaps, what happens then, and the hold-out."""

import json
import random

import pytest

from wellread.corpus import documents, leakage
from wellread.corpus.documents import Document, Section
from wellread.corpus.leakage import select
from wellread.errors import ArtefactError, DataError

WORDS = [f"w{number}" for number in range(3000)]


def words(count, seed):
    return " ".join(random.Random(seed).choices(WORDS, k=count))


def document(number, text="", **values):
    return Document(
        f"pmid:{number}", f"Title {number}", (Section("", "", text or words(60, number)),), **values
    )


def corpus_of(tmp_path, found):
    path = tmp_path / "documents.jsonl.zst"
    documents.write(path, found)
    return path


def task(tmp_path, name="task", derived=False, **splits):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "task.toml").write_text(f'name = "{name}"\nderived = {str(derived).lower()}\n')
    for split, examples in splits.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(example) + "\n" for example in examples))
    return folder


def choose(tmp_path, corpus, tasks, **settings):
    out = tmp_path / "selection"
    out.mkdir(exist_ok=True)
    values = {"validation": 0.0, "on_overlap": "exclude", "allow_overlap": False, "seed": 1, **settings}
    result = select(corpus, tasks, out, **values)
    ids = {name: (out / f"{name}_ids.txt").read_text().split() for name in ("train", "valid")}
    assert json.loads((out / "leakage.json").read_text()) == result
    return result, ids


TEXT = words(60, 5)
TOKENS = TEXT.split()


@pytest.mark.parametrize(
    ("example", "how"),
    [
        ({"doc": "pmid:5", "text": "short"}, "id"),
        ({"text": TEXT}, "text"),
        ({"text": " ".join(TOKENS[20:28])}, "text"),  # eight words from the middle
        ({"text": " ".join(TOKENS[20:29]).upper().replace(" ", ",  ")}, "text"),
        ({"text": "nothing in common", "text_pair": " ".join(TOKENS[:12])}, "text"),
        ({"tokens": TOKENS[3:20], "tags": []}, "text"),
        (
            {"text": words(30, 77) + " " + TEXT + " " + words(300, 78)},
            "text",
        ),  # the document within the example
        ({"text": " ".join([*TOKENS[:30], "METHODS", *TOKENS[30:]])}, "text"),  # a heading in between
    ],
)
@pytest.mark.parametrize("split", ["dev", "test"])
def test_an_overlap_is_found(tmp_path, example, how, split):
    corpus = corpus_of(tmp_path, [document(number) for number in range(10)])
    result, ids = choose(tmp_path, corpus, {"task": task(tmp_path, **{split: [{"id": "e1", **example}]})})
    assert result["overlaps"] == [
        {"task": "task", "split": split, "example": "e1", "document": "pmid:5", "how": how}
    ]
    assert result["totals"] == result["excluded"] == {"task": {split: 1}}
    assert ids["train"] == [f"pmid:{number}" for number in range(10) if number != 5]
    assert result["documents"] == {"train": 9, "valid": 0, "excluded": 1}


@pytest.mark.parametrize(
    "example",
    [
        {"text": " ".join(TOKENS[20:27])},  # seven words are too few to mean anything
        {"text": " ".join(reversed(TOKENS))},
        {"text": " ".join(TOKENS[:10]) + " " + words(40, 99)},  # a shared phrase, not a shared text
        {"doc": "pmid:55", "text": words(20, 98)},
        {"text": ""},
    ],
)
def test_no_overlap(tmp_path, example):
    corpus = corpus_of(tmp_path, [document(number) for number in range(10)])
    result, ids = choose(tmp_path, corpus, {"task": task(tmp_path, test=[example])}, on_overlap="refuse")
    assert result["overlaps"] == []
    assert len(ids["train"]) == 10


def test_training_examples_may_be_pretrained_on(tmp_path):
    corpus = corpus_of(tmp_path, [document(number) for number in range(10)])
    result, ids = choose(
        tmp_path,
        corpus,
        {"task": task(tmp_path, train=[{"doc": "pmid:5", "text": TEXT}])},
        on_overlap="refuse",
    )
    assert len(ids["train"]) == 10
    assert result["totals"] == {}


@pytest.mark.parametrize("meta", [{"pmid": "5"}, {"pmcid": "PMC5"}])
def test_a_document_is_known_by_its_other_ids_too(tmp_path, meta):
    corpus = corpus_of(
        tmp_path, [document(1), Document("own", "", (Section("", "", words(30, 3)),), meta=meta)]
    )
    examples = [{"doc": "pmid:5", "text": "x"}, {"doc": "pmc:PMC5", "text": "x"}]
    _, ids = choose(tmp_path, corpus, {"task": task(tmp_path, test=examples)})
    assert ids["train"] == ["pmid:1"]


@pytest.mark.parametrize("settings", [{"on_overlap": "refuse"}, {"allow_overlap": True}])
def test_documents_behind_derived_tasks_are_always_left_out(tmp_path, settings):
    corpus = corpus_of(tmp_path, [document(number) for number in range(10)])
    derived = task(
        tmp_path,
        derived=True,
        train=[{"doc": "pmid:1", "text": "x"}],
        dev=[{"doc": "pmid:2", "text": "x"}],
        test=[{"doc": "pmid:3", "text": "x"}, {"doc": "pmid:3", "text": "y"}, {"doc": "pmid:4", "text": "x"}],
    )
    result, ids = choose(tmp_path, corpus, {"role": derived}, **settings)
    assert result["excluded"] == {"role": {"dev": 1, "test": 2}}
    assert result["overlaps"] == []
    assert not {"pmid:2", "pmid:3", "pmid:4"} & {*ids["train"], *ids["valid"]}
    assert "pmid:1" in ids["train"]


def test_refusal_counts_and_names_documents_but_shows_no_text(tmp_path):
    corpus = corpus_of(tmp_path, [document(number) for number in range(10)])
    own = task(
        tmp_path, test=[{"text": TEXT}], dev=[{"doc": "pmid:2", "text": "x"}, {"doc": "pmid:3", "text": "x"}]
    )
    with pytest.raises(DataError) as caught:
        choose(tmp_path, corpus, {"own": own}, on_overlap="refuse")
    assert caught.value.where == "corpus.on_overlap"
    assert "3 documents" in caught.value.what
    assert "own dev 2, own test 1" in caught.value.what
    assert "pmid:2, pmid:3, pmid:5" in caught.value.what
    assert TOKENS[0] not in caught.value.what.split()
    assert "--allow-overlap" in caught.value.fix
    assert 'corpus.on_overlap = "exclude"' in caught.value.fix
    assert list((tmp_path / "selection").iterdir()) == []


def test_allowed_overlaps_are_kept_and_recorded(tmp_path):
    corpus = corpus_of(tmp_path, [document(number) for number in range(10)])
    tasks = {"own": task(tmp_path, test=[{"text": TEXT}])}
    result, ids = choose(tmp_path, corpus, tasks, on_overlap="refuse", allow_overlap=True)
    assert len(ids["train"]) == 10
    assert (result["allowed"], result["overlapping_documents"], result["excluded"]) == (True, 1, {})
    assert result["totals"] == {"own": {"test": 1}}


def test_the_list_of_overlaps_is_short_and_the_totals_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(leakage, "SHOWN", 3)
    corpus = corpus_of(tmp_path, [document(number) for number in range(10)])
    examples = [{"doc": f"pmid:{number}", "text": "x"} for number in range(8)]
    result, _ = choose(tmp_path, corpus, {"own": task(tmp_path, test=examples)})
    assert len(result["overlaps"]) == 3
    assert result["totals"] == {"own": {"test": 8}}


def test_the_hold_out_depends_on_the_id_and_the_seed_alone(tmp_path):
    found = [document(number) for number in range(2000)]
    _, ids = choose(tmp_path, corpus_of(tmp_path, found), {}, validation=0.1)
    assert 150 < len(ids["valid"]) < 250
    assert sorted([*ids["train"], *ids["valid"]]) == sorted(one.id for one in found)
    order = {one.id: number for number, one in enumerate(found)}
    assert ids["train"] == sorted(ids["train"], key=order.get)
    _, again = choose(tmp_path, corpus_of(tmp_path, list(reversed(found[500:]))), {}, validation=0.1)
    assert set(again["valid"]) == set(ids["valid"]) & {one.id for one in found[500:]}
    _, other = choose(tmp_path, corpus_of(tmp_path, found), {}, validation=0.1, seed=2)
    assert set(other["valid"]) != set(ids["valid"])
    _, more = choose(tmp_path, corpus_of(tmp_path, found), {}, validation=0.2)
    assert set(ids["valid"]) <= set(more["valid"])


def test_a_small_corpus_still_holds_one_document_out(tmp_path):
    found = [document(number) for number in range(6)]
    _, ids = choose(tmp_path, corpus_of(tmp_path, found), {}, validation=0.0001)
    assert (len(ids["train"]), len(ids["valid"])) == (5, 1)
    _, again = choose(tmp_path, corpus_of(tmp_path, found[::-1]), {}, validation=0.0001)
    assert again["valid"] == ids["valid"]
    _, none = choose(tmp_path, corpus_of(tmp_path, found), {}, validation=0.0)
    assert none["valid"] == []


def test_nothing_left_to_train_on(tmp_path):
    corpus = corpus_of(tmp_path, [document(1)])
    with pytest.raises(DataError, match="no document is left"):
        choose(tmp_path, corpus, {"own": task(tmp_path, test=[{"doc": "pmid:1", "text": "x"}])})
    assert list((tmp_path / "selection").iterdir()) == []


@pytest.mark.parametrize(
    "damage", ["task.toml missing", "task.toml broken", "test.jsonl broken", "corpus missing"]
)
def test_damaged_inputs(tmp_path, damage):
    corpus = corpus_of(tmp_path, [document(1), document(2)])
    own = task(tmp_path, test=[{"text": TEXT}])
    if damage == "task.toml missing":
        (own / "task.toml").unlink()
    elif damage == "task.toml broken":
        (own / "task.toml").write_text("= ")
    elif damage == "test.jsonl broken":
        (own / "test.jsonl").write_text('{"text"')
    else:
        corpus.unlink()
    with pytest.raises(ArtefactError):
        choose(tmp_path, corpus, {"own": own})
    assert list((tmp_path / "selection").iterdir()) == []


def test_a_tested_article_is_left_out_in_all_its_forms(tmp_path):
    found = [
        Document("pmc:PMC1", "", (Section("", "", words(60, 1)),), meta={"pmid": "11"}),
        Document("pmid:11", "", (Section("", "", words(60, 2)),), meta={"pmcid": "PMC1"}),
        Document("pmid:12", "", (Section("", "", words(60, 3)),), meta={"pmcid": "PMC2"}),
    ]
    assert [one.identity for one in found] == ["pmid:11", "pmid:11", "pmid:12"]
    for tested in ("pmid:11", "pmc:PMC1"):
        folder = tmp_path / tested.replace(":", "-")
        folder.mkdir()
        own = {"own": task(folder, derived=True, test=[{"doc": tested, "text": "x"}])}
        assert choose(folder, corpus_of(folder, found), own)[1]["train"] == ["pmid:12"]


def test_texts_that_are_too_short_to_be_found_are_counted(tmp_path):
    examples = [{"text": "no adverse events occurred"}, {"text": TEXT}, {"text": words(7, 1)}]
    result, _ = choose(tmp_path, corpus_of(tmp_path, [document(1)]), {"own": task(tmp_path, test=examples)})
    assert result["unchecked"] == {"own": {"test": 2}}
