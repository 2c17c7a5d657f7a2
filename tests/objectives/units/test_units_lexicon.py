import json

import pytest

from wellread.errors import DataError
from wellread.objectives import masking
from wellread.objectives.units import lexicon
from wellread.tokens import tokenizer as tokenizers
from wellread.tokens.batch import pack


def terms_in(folder, tmp_path, terms, text):
    """The terms that are found in a text, as their pieces spell them."""
    loaded = tokenizers.load(folder / "tokenizer")
    listed = lexicon.encode(terms, folder / "tokenizer", tmp_path / "terms")
    encoding = loaded.backend_tokenizer.encode(text)
    words = [-1 if word is None else word for word in encoding.word_ids]
    found = masking.read(pack([encoding.ids], [words]), 0, 0)
    first, size = lexicon.units(found, listed)
    return [
        loaded.decode(found.tokens[start : start + count]).strip()
        for start, count in zip(first, size, strict=True)
    ]


TERMS = ["Myocardial Infarction", "Arthritis, Rheumatoid", "vein", "deep vein thrombosis"]


@pytest.mark.parametrize("kind", ["phrased", "phrased_bpe"])
def test_terms_are_found_as_the_corpus_spells_them_the_longest_first(kind, request, tmp_path):
    folder = request.getfixturevalue(kind)
    text = "the myocardial infarction with deep vein thrombosis and vein of rheumatoid arthritis"
    assert terms_in(folder, tmp_path, TERMS, text) == [
        "myocardial infarction", "deep vein thrombosis", "vein", "rheumatoid arthritis",
    ]  # fmt: skip


def test_parts_of_words_and_unknown_or_very_long_terms_are_not_terms(phrased, tmp_path):
    terms = ["the", "☃", " ".join(["of"] * (lexicon.LONGEST + 1))]
    text = "theme " + "of " * 30 + "the ☂"
    assert terms_in(phrased, tmp_path, terms, text) == ["the"]


def test_a_list_is_read_line_by_line(tmp_path):
    path = tmp_path / "terms.txt"
    path.write_text("\ufeff# diseases\nasthma\n\n gout \nasthma\n", "utf-8")
    assert lexicon.read_terms(str(path)) == ["asthma", "gout"]


def test_names_of_diseases(tmp_path, monkeypatch):
    from wellread.tasks import mesh

    monkeypatch.setattr(mesh, "load_categories", lambda: json.loads('{"gout": ["C05"], "asthma": ["C08"]}'))
    assert lexicon.read_terms("mesh") == ["asthma", "gout"]


@pytest.mark.parametrize("content", [None, b"", b"# nothing\n\n", b"\xff\xfe\xff"])
def test_a_missing_empty_or_unreadable_list_is_refused(content, tmp_path):
    path = tmp_path / "terms.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        lexicon.read_terms(str(path))
    assert caught.value.where.startswith("pretrain.masking.lexicon") and caught.value.fix
