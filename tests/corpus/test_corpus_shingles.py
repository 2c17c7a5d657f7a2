"""Runs of words against the plain way of making them."""

import re

from hypothesis import given
from hypothesis import strategies as st

from wellread.corpus.shingles import _UNSPACED, hashes, words


@given(st.text(max_size=80))
def test_words_equal_the_regular_expression(text):
    text = _UNSPACED.sub(r" \1 ", text)
    plain = re.sub("_", " ", text.lower().encode("utf-8", "replace").decode())
    assert [word.decode() for word in words(text)] == re.findall(r"\w+", plain)


@given(st.lists(st.sampled_from("abcd"), max_size=30), st.integers(1, 6))
def test_equal_hashes_are_equal_runs(letters, size):
    runs = (
        [tuple(letters[at : at + size]) for at in range(max(len(letters) - size + 1, 1))] if letters else []
    )
    found = hashes(" ".join(letters), size).tolist()
    assert len(found) == len(runs)
    assert [found.index(value) for value in found] == [runs.index(run) for run in runs]


def test_punctuation_case_and_spaces_do_not_count():
    assert (hashes("The p-value, (0.05)!", 3) == hashes("the P VALUE  0 05", 3)).all()
    assert (hashes("a\u2013b \u201cc\u201d", 3) == hashes("a b c", 3)).all()


def test_hashes_are_the_same_everywhere():
    assert hashes("one two three four", 3).tolist() == [18144157274838443963, 11130972179174415634]


def test_scripts_without_spaces_have_a_word_a_character():
    text = "患者接受了手术治疗。"
    assert len(words(text)) == len(text) - 1
    assert len(words("ผู้ป่วยได้รับการรักษา")) > 8
    assert len(set(hashes(text, 8)) & set(hashes(f"前言{text}后语", 8))) == len(hashes(text, 8))
