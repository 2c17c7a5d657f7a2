"""Cleaning: what is repaired, what stays, and that a clean text stays as it is."""

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wellread.corpus.clean import clean, clean_text
from wellread.corpus.documents import Document, MeshHeading, Section, from_json, to_json


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        ("  plain  text ", "plain text"),
        ("patients\u00e2\u20ac\u2122 age", "patients\u2019 age"),
        ("caf\u00c3\u00a9", "caf\u00e9"),
        ("5 \u00c2\u00b0C", "5 \u00b0C"),
        ("\u00ce\u00b1-synuclein", "\u03b1-synuclein"),
        ("p \u00e2\u2030\u00a4 0.05", "p \u2264 0.05"),
        ("\u00c3\u00a2\u00e2\u201a\u00ac\u00e2\u201e\u00a2", "\u2019"),  # damaged twice
        ("it\x92s", "it\u2019s"),
        ("bio\u00adpsy", "biopsy"),
        ("D-\u200bgluco", "D-gluco"),
        ("\ufeffstart", "start"),
        ("a\u00a0b\u2009c\td", "a b c d"),
        ("a\r\nb\rc\x0bd\u2028e", "a\nb\nc\nd\ne"),
        ("a \n b", "a\nb"),
        ("a\n\n\n\nb", "a\n\nb"),
        ("nul\0l", "null"),
        ("e\u0301", "\u00e9"),
        ("lone \ud800 here", "lone \ufffd here"),
        ("a\u200cb", "ab"),
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        ),
        ("", ""),
        (" \n\t ", ""),
    ],
)
def test_known_damage(raw, wanted):
    assert clean_text(raw) == wanted


@pytest.mark.parametrize(
    "sound",
    [
        "1.5 \u00c5\u20132.0 \u00c5",  # Angstrom before a dash
        "TNF-\u00df\u2013induced",
        "na\u00efve \u00e2ge, S\u00c3O, \u00c0 la",
        "\u201e\u00c4\u201c",
        "10 \u00b5m, 3 \u00d7 4, \u00b12",
        "\u03b2-catenin \u2265 2",
        "\u65e5\u672c\u8a9e\u306e\u8981\u65e8",
    ],
)
def test_sound_text_stays(sound):
    assert clean_text(sound) == sound


PIECES = st.sampled_from(
    [
        *"ab \t\n\r\0\x85\x92",
        "\u00c3",
        "\u00a9",
        "\u00e2",
        "\u20ac",
        "\u2122",
        "\u00c2",
        "\u00a0",
        "\u00ad",
        "\u200b",
    ]
    + [
        "\u200c",
        "\u200d",
        "\u0301",
        "\ud800",
        "\udc00",
        "\ufeff",
        "\ufffd",
        "\u2028",
        "\u06cc",
        "e",
        "\u212b",
    ]
)


@settings(max_examples=500)
@given(st.one_of(st.lists(PIECES, max_size=25).map("".join), st.text(max_size=40)))
def test_cleaning_is_idempotent_and_leaves_nothing_unclean(raw):
    once = clean_text(raw)
    assert clean_text(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert not re.search(
        "[\x00-\x09\x0b-\x1f\x7f-\x9f\u00a0\u00ad\u200b\ufeff\ud800-\udfff]|  | \n|\n |\n\n\n", once
    )
    assert once == once.strip()
    once.encode()


LETTERS = [
    chr(code) for code in range(0xC0, 0x100) if chr(code) not in "\u00c2\u00c3\u00ce\u00cf\u00e2\u00ef"
]


@given(
    st.lists(st.sampled_from(LETTERS), min_size=1, max_size=20).map("".join),
    st.sampled_from(["latin-1", "cp1252"]),
)
def test_letters_read_in_the_wrong_encoding_come_back(text, encoding):
    damaged = "".join(
        bytes([byte]).decode(encoding)
        if encoding == "latin-1" or byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
        else chr(byte)
        for byte in text.encode()
    )
    assert clean_text(damaged) == text


def test_every_string_of_a_document_is_cleaned():
    document = Document(
        id="a\nb\ud800",
        title=" T\n1 ",
        sections=(Section("H\u00a01", "METHODS", "x\r\ny"), Section("empty", "", " \u200b ")),
        source="s\ud800",
        licence="\u00c2\u00a9 2020",
        mesh=(MeshHeading(" Humans ", "D1", True),),
        keywords=("k\0",),
        meta={"journal": "J\t1", "n": 3},
    )
    cleaned = clean(document)
    assert cleaned == Document(
        id="a b\ufffd",
        title="T 1",
        sections=(Section("H 1", "METHODS", "x\ny"),),
        source="s\ufffd",
        licence="\u00a9 2020",
        mesh=(MeshHeading("Humans", "D1", True),),
        keywords=("k",),
        meta={"journal": "J 1", "n": 3},
    )
    assert clean(cleaned) == cleaned
    assert from_json(to_json(cleaned).encode()) == cleaned


CODE = "def f(x):\n\tif x:\n        return  x + 1\n\n\n    # why\n    return 0"


def test_layout_stays_where_it_is_kept():
    assert clean_text(CODE, keep_layout=True) == CODE
    assert clean_text("\n\n" + CODE.replace("\n", " \t\r\n") + "  \n", keep_layout=True) == CODE
    assert clean_text("a\u200b  b\x00", keep_layout=True) == "a  b"  # the rest is cleaned as ever
    assert clean_text("    indented", keep_layout=True) == "    indented"
    assert clean_text(CODE) != CODE


def test_code_comes_back_from_the_tokens(tmp_path):
    from wellread.settings import TokenizerSettings
    from wellread.tokens import store, tokenizer

    settings = TokenizerSettings(kind="bpe", vocab_size=300, min_frequency=1)
    tokenizer.train([CODE] * 3, settings, tmp_path / "t", causal=True, max_length=64, quiet=True)
    store.build([("a", CODE)], tmp_path / "t", tmp_path / "s", processes=1, quiet=True)
    opened = store.Store.open(tmp_path / "s")
    loaded = tokenizer.load(tmp_path / "t")
    ids = opened.tokens(0, opened.n_tokens)
    assert loaded.decode(ids, clean_up_tokenization_spaces=False) == CODE
