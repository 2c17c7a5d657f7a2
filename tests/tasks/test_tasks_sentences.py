"""The sentence splitter on the cases that abstracts are full of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellread.tasks.sentences import split_sentences


@pytest.mark.parametrize(
    "text",
    [
        "One ends here. | Two begins.",
        "Was it so? | It was! | Good.",
        "The P value (P < .05) was small. | Then it grew.",
        "It rose by 3.5 mg. | We stopped.",
        "E. coli and S. aureus grew. | B. subtilis did not.",
        "Drugs (e.g. aspirin, i.e. ASA) vs. Placebo were given to Dr. Smith et al. in 1977. | All lived.",
        "We gave vitamin D. | Then we stopped.",
        "Patients had hepatitis B. | Controls had none.",
        "Levels fell (Fig. 2, see ref. 5). | They rose again.",
        "Cells were lysed. | mRNA was extracted. | p53 was absent.",
        "It was 37 degrees C. at night.",
        "Growth was slow. and then it stopped.",
        'He said "no." | She said yes.',
        "We used a test (Abbott Inc. U.S.A. and others). | It worked.",
        "Two of ca. 40 died. | [The rest lived.]",
        "Results were as follows. | 5921 genes were found.",
        "J. A. Smith was there. | He left.",
        "Wait... | What was that?",
        "No end",
        "It took approx. 5 ml i.v. | Then they rested for 30 min. | So it was.",
        "It was no. 5 of ten. | They said no. | We went on.",
    ],
)
def test_sentences(text: str) -> None:
    expected = text.split(" | ")
    assert split_sentences(" ".join(expected)) == expected


def test_line_breaks_end_sentences() -> None:
    assert split_sentences("one\n\n two. Three\r\nfour ") == ["one", "two.", "Three", "four"]
    assert split_sentences("") == [] and split_sentences(" \n ") == []


@given(st.text(alphabet="ab AB.?!()[]\"'12\n", max_size=80))
def test_nothing_is_lost(text: str) -> None:
    found = split_sentences(text)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(sentence == sentence.strip() != "" for sentence in found)
