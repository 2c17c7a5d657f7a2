"""Documents on the disk: the same back, and damage noticed."""

import json
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellread.corpus import documents
from wellread.corpus.documents import Document, MeshHeading, Section, from_json, to_json
from wellread.errors import ArtefactError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
DOCUMENTS = st.builds(
    Document,
    id=TEXT,
    title=TEXT,
    sections=st.lists(st.builds(Section, TEXT, TEXT, TEXT), max_size=3).map(tuple),
    source=TEXT,
    language=TEXT,
    licence=TEXT,
    year=st.none() | st.integers(1800, 2100),
    mesh=st.lists(st.builds(MeshHeading, TEXT, TEXT, st.booleans()), max_size=3).map(tuple),
    publication_types=st.lists(TEXT, max_size=2).map(tuple),
    keywords=st.lists(TEXT, max_size=2).map(tuple),
    meta=st.dictionaries(TEXT, TEXT, max_size=2),
)


@given(DOCUMENTS)
def test_json_round_trip(document):
    line = to_json(document)
    assert "\n" not in line
    assert json.loads(line) == json.loads(json.dumps(asdict(document)))
    assert from_json(line) == from_json(line.encode()) == document


@given(st.lists(DOCUMENTS, max_size=5))
def test_file_round_trip(tmp_path_factory, found):
    path = tmp_path_factory.mktemp("documents") / "documents.jsonl.zst"
    assert documents.write(path, found) == len(found)
    assert list(documents.read(path)) == found


@pytest.mark.parametrize("damage", ["missing", "cut", "changed", "not a document"])
def test_damage_is_noticed(tmp_path, damage):
    path = tmp_path / "documents.jsonl.zst"
    many = [Document(str(n), f"title {n * 7919 % 1009}", ()) for n in range(3000)]
    documents.write(path, many)
    data = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(data[:-3])
    elif damage == "changed":
        data[:200] = bytes(200)
        path.write_bytes(data)
    else:
        path.write_bytes(b'{"id": 1}\n')
    with pytest.raises(ArtefactError, match="cannot be read") as caught:
        list(documents.read(path))
    assert caught.value.where == str(path)


def test_text_and_body():
    document = Document("a", "T", (Section("H", "", "one"), Section("", "", "two")))
    assert (document.body, document.text) == ("one\ntwo", "T\none\ntwo")
    assert Document("a", "", (Section("", "", "x"),)).text == "x"
    assert Document("a", "T", ()).text == "T"
