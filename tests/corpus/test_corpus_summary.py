"""The corpus report's numbers against plain ones."""

import json
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellread.corpus.documents import Document, Section, to_json
from wellread.corpus.summary import Summary, licence_group


def added(documents):
    summary = Summary()
    for document in documents:
        summary.add(json.loads(to_json(document)))
    return summary.report()


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60))
def test_lengths(lengths):
    documents = [
        Document(str(n), "t", (Section("", "", "w " * (length - 1)),)) for n, length in enumerate(lengths)
    ]
    report = added(documents)
    spread, ordered = report["words_per_document"], sorted(lengths)
    assert (spread["min"], spread["max"]) == (ordered[0], ordered[-1])
    assert spread["median"] == statistics.median_low(ordered)
    assert spread["mean"] == pytest.approx(statistics.mean(lengths), abs=0.006)
    assert report["words"] == sum(lengths)
    assert sum(entry["documents"] for entry in report["lengths"]) == len(lengths)
    for entry in report["lengths"]:
        high = entry["to"] or 10**9
        assert entry["documents"] == sum(entry["from"] <= length < high for length in lengths)


def test_characters_are_those_of_the_training_text():
    documents = [
        Document("a", "Title", (Section("H", "", "two words"), Section("", "METHODS", "x\ufffd"))),
        Document("b", "", (Section("", "", "body"),)),
        Document("c", "only a title", ()),
    ]
    report = added(documents)
    assert report["characters"] == sum(len(document.text) for document in documents)
    assert report["words"] == sum(len(document.text.split()) for document in documents)
    assert report["replacement_characters"] == 1
    assert report["sections"] == {"none": 2, "METHODS": 1}


@pytest.mark.parametrize(
    ("line", "group"),
    [
        ("Copyright \u00a9 2020 Elsevier Ltd. All rights reserved.", "Elsevier Ltd. All rights reserved"),
        ("(c) 2019 The Authors.", "The Authors"),
        ("CC BY", "CC BY"),
        ("", "not stated"),
        ("Copyright \u00a9 2020.", "copyright line without a name"),
        ("x" * 200, "x" * 80),
    ],
)
def test_licence_groups(line, group):
    assert licence_group(line) == group


def test_values_without_end_are_counted_together():
    documents = (Document(str(n), "t", (), source=f"s{n}") for n in range(10_050))
    sources = added(documents)["sources"]
    assert sources["(others)"] == 50
    assert sum(sources.values()) == 10_050
