"""Texts in pieces, and where words begin in them."""

from wellread.tokens import encode


def test_a_word_without_end_is_cut(monkeypatch):
    monkeypatch.setattr(encode, "PARCEL_CHARACTERS", 100)
    assert [len(piece) for piece in encode._pieces("x" * 250)] == [100, 100, 50]


def test_several_tokens_of_one_character_are_one_word(tmp_path):
    """Byte tokens share their character's offsets; only the first may begin the word."""
    encoding = type("Encoding", (), {"offsets": [(0, 1), (1, 2), (1, 2), (1, 2), (2, 3)]})
    assert encode._starts_by_offsets(encoding, "a漢 ").tolist() == [True, False, False, False, False]
    encoding.offsets = [(0, 1), (1, 3), (2, 3), (2, 3)]
    assert encode._starts_by_offsets(encoding, "a 漢").tolist() == [True, True, False, False]
    encoding.offsets = []
    assert encode._starts_by_offsets(encoding, "").tolist() == []
