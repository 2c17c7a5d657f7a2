"""JSONL, tables and plain text: the same documents from every format, ids and roles."""

import csv
import json

import pytest

from wellread.corpus.documents import MeshHeading, Section
from wellread.corpus.readers import detect, roles, text
from wellread.errors import DataError

RECORDS = [
    {"id": "a", "title": "T", "text": "First text,\nwith a line.", "language": "en", "year": 1999, "pmid": 5},
    {
        "id": "b",
        "title": "",
        "text": 'Second "quoted" text; with\ttab',
        "language": "deu",
        "year": None,
        "pmid": None,
    },
]


def _jsonl(path):
    path.write_text("\n\n".join(json.dumps(record) for record in RECORDS))


def _csv(path, delimiter=","):
    with open(path, "w", newline="") as stream:
        writer = csv.DictWriter(stream, list(RECORDS[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(RECORDS)


def _parquet(path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist([{**record, "vector": [1.0, 2.0]} for record in RECORDS]), path)


WRITERS = {
    "a.jsonl": _jsonl,
    "a.csv": _csv,
    "a.tsv": lambda path: _csv(path, "\t"),
    "b.csv": lambda path: _csv(path, ";"),
    "a.parquet": _parquet,
}


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_documents_from_every_format(tmp_path, name):
    WRITERS[name](tmp_path / name)
    first, second = detect.read(tmp_path / name)
    assert (first.id, first.title, first.body) == ("a", "T", "First text,\nwith a line.")
    assert (first.language, first.year, first.meta["pmid"]) == ("eng", 1999, "5")
    assert (second.id, second.body) == ("b", 'Second "quoted" text; with\ttab')
    assert (second.language, second.year, "pmid" in second.meta) == ("ger", None, False)


def test_compressed_parquet(tmp_path):
    import gzip

    _parquet(tmp_path / "plain")
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress((tmp_path / "plain").read_bytes()))
    assert [document.id for document in detect.read(tmp_path / "a.parquet.gz")] == ["a", "b"]


@pytest.mark.parametrize(
    ("record", "wanted"),
    [
        ({"id": 7, "text": "x"}, "7"),
        ({"pmid": "12", "text": "x"}, "pmid:12"),
        ({"pmid": 12.0, "text": "x"}, "pmid:12"),
        ({"pmid": float("nan"), "pmcid": "PMC9", "text": "x"}, "pmc:PMC9"),
        ({"id": "own", "pmid": "12", "text": "x"}, "own"),
        ({"pmid": "pmid:12", "text": "x"}, "pmid:12"),
        ({"text": "x"}, "source#2"),
    ],
)
def test_ids(tmp_path, record, wanted):
    path = tmp_path / "a.jsonl"
    path.write_text("\n" + json.dumps(record))
    (document,) = detect.read(path, "source")
    assert document.id == wanted


def test_fields_are_chosen_by_name(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"note": "the text", "key": "k", "text": "not this"}))
    (document,) = detect.read(path, text_field="note", id_field="key")
    assert (document.id, document.text) == ("k", "the text")


def test_of_several_fields_the_first_is_taken_that_a_record_has(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    records = [{"answer": "one", "note": "not this"}, {"answer": None, "note": "two"}, {"answer": "three"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (tmp_path / "a.csv").write_text("note,answer\nnot this,one\ntwo,\n,three\n")
    parquet.write_table(pyarrow.Table.from_pylist(records), tmp_path / "a.parquet")
    for path in tmp_path.iterdir():
        found = [one.text for one in detect.read(path, text_field=("body", "answer", "note"))]
        assert found == ["one", "two", "three"], path
    (tmp_path / "a.jsonl").write_text(json.dumps({"abstract": "this", "note": "not this"}))
    (document,) = detect.read(tmp_path / "a.jsonl", text_field=("body", "text"))
    assert document.text == "this"  # text is named, and its stand-ins with it
    with pytest.raises(DataError, match="no key 'body' \\(nor 'answer'\\)"):
        list(detect.read(tmp_path / "a.jsonl", text_field=("body", "answer")))


def test_a_field_that_is_named_has_no_stand_in(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"note": "the text", "abstract": "not this"}))
    with pytest.raises(DataError, match="there is no key 'nots'; the keys are 'note', 'abstract'"):
        list(detect.read(path, text_field="nots"))
    path.write_text(json.dumps({"note": "", "abstract": "not this"}))
    (document,) = detect.read(path, text_field="note")
    assert not document.text


def test_abstract_sections_and_mesh(tmp_path):
    path = tmp_path / "a.jsonl"
    records = [
        {"abstract": "An abstract.", "mesh": ["Humans", "*Heart/surgery"], "keywords": "a; b"},
        {
            "sections": [
                {"heading": "Aim", "text": "To see."},
                {"heading": "x", "label": "RESULTS", "text": "y"},
            ],
            "mesh": [{"name": "Liver", "ui": "D2", "major": True}],
        },
    ]
    path.write_text("\n".join(map(json.dumps, records)))
    first, second = detect.read(path)
    assert first.sections == (Section("", "", "An abstract."),)
    assert first.mesh == (MeshHeading("Humans"), MeshHeading("Heart", "", True))
    assert first.keywords == ("a", "b")
    assert second.sections == (Section("Aim", "OBJECTIVE", "To see."), Section("x", "RESULTS", "y"))
    assert second.mesh == (MeshHeading("Liver", "D2", True),)


def test_printed_articles_are_split_at_their_headings(tmp_path):
    path = tmp_path / "a.jsonl"
    printed = (
        "TITLE: \nOn things\n\nABSTRACT.METHODS:\nWe did: this.\n\nBODY.RESULTS:\nIt\nworked.\n\nBODY:\n\n"
    )
    path.write_text(json.dumps({"text": printed}))
    (document,) = detect.read(path)
    assert document.title == "On things"
    assert document.sections == (
        Section("METHODS", "METHODS", "We did: this."),
        Section("RESULTS", "RESULTS", "It\nworked."),
    )


def test_surrogate_pairs_in_json_are_joined(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "\\ud83d\\ude00"}')
    assert next(detect.read(path)).text == "\U0001f600"


def test_plain_text_is_cut_at_blank_lines(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\none\ntwo\n\n \n\nthree\n")
    assert [(document.id, document.text) for document in detect.read(path)] == [
        ("a.txt#2", "one\ntwo"),
        ("a.txt#7", "three"),
    ]


def test_a_long_block_of_text_is_cut_at_line_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "MAX_CHARACTERS", 10)
    path = tmp_path / "a.txt"
    path.write_text("\n".join(f"line {number}" for number in range(6)))
    found = list(text.read(path))
    assert "\n".join(document.text for document in found) == path.read_text()
    assert all(len(document.text) <= 10 + 2 * 7 for document in found)
    assert len({document.id for document in found}) == len(found) > 1


@pytest.mark.parametrize(
    ("heading", "role"),
    [
        ("METHODS", "METHODS"),
        ("Materials and Methods:", "METHODS"),
        ("2. Patients & methods", "METHODS"),
        ("Aim", "OBJECTIVE"),
        ("Conclusion.", "CONCLUSIONS"),
        ("Authors\u2019 conclusions", "CONCLUSIONS"),
        ("INTRODUCTION", "BACKGROUND"),
        ("Findings", "RESULTS"),
        ("Trial registration", ""),
        ("AIM AND METHODS", ""),
        ("", ""),
    ],
)
def test_roles(heading, role):
    assert roles.role_of(heading) == role


def test_a_stated_role_counts_more_than_the_heading():
    assert roles.section("METHODS", "x", "OBJECTIVE").label == "OBJECTIVE"
    assert roles.section("METHODS", "x", "UNASSIGNED").label == "METHODS"


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a", b'{"text": "x"}', "jsonl"),
        ("a.txt", b'{"text": "x"}', "text"),
        ("a", b"some words", "text"),
        ("a.dat", b"<?xml version='1.0'?><PubmedArticleSet/>", "pubmed"),
        ("a.xml", b"\xef\xbb\xbf<article/>", "jats"),
        ("a.csv", b"text\nx\n", "table"),
        ("a.json", b'{"text": "x"}', "jsonl"),
    ],
)
def test_formats(tmp_path, name, content, kind):
    (tmp_path / name).write_bytes(content)
    assert detect.format_of(tmp_path / name) == kind


def test_errors_hold_no_text_of_the_document(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "SECRET WORDS"')
    with pytest.raises(DataError) as caught:
        list(detect.read(path))
    assert "SECRET" not in str(caught.value)
