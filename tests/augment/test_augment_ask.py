"""Requests and what is read from answers."""

import pytest

from wellread.augment import ask
from wellread.errors import DataError
from wellread.tasks.task import Example

SOURCE = Example("7", "Does {label} aspirin reduce pain?", "yes", text_pair="One two three four.", doc="d")


def test_requests_name_their_source_and_show_its_context():
    made = list(ask.requests([SOURCE], ("rewrite", "new"), 2, 3))
    assert [one.id for one in made] == ["7-rewrite-0", "7-rewrite-1", "7-new-0", "7-new-1"]
    assert "Question: Does {label} aspirin reduce pain?" in made[0].prompt
    assert "One two three" not in made[0].prompt
    assert "One two three\n" in made[2].prompt
    assert "four" not in made[2].prompt
    assert made[2].lead == 'Another question, with the answer "yes":'
    assert all(one.source is SOURCE for one in made)


def test_a_new_question_needs_a_context():
    with pytest.raises(DataError, match="needs a context"):
        list(ask.requests([Example("1", "Is it?", "no")], ("new",), 1, 9))


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("Is pain lowered by aspirin?", "Is pain lowered by aspirin?"),
        ('\n "Is pain lowered by aspirin?" \nYes.', "Is pain lowered by aspirin?"),
        ("Question in other words: Is pain lowered by aspirin ? It is", "Is pain lowered by aspirin?"),
        ("Here is the rewritten question: Is pain lowered by it?", "Is pain lowered by it?"),
        ("1. Is pain lowered by aspirin?", "Is pain lowered by aspirin?"),
        ("Aspirin lowers pain in most people.", None),
        ("Is it so?", None),
        ("word " * 40 + "?", None),
        ("", None),
        ("\n\n", None),
    ],
)
def test_questions_are_found_or_refused(answer, found):
    assert ask.question(answer, "Does aspirin reduce pain?") == found


def test_what_is_answered_with_yes_or_no_begins_with_no_question_word():
    source = "Does aspirin reduce pain?"
    assert ask.question("What is the effect of aspirin?", source) == "What is the effect of aspirin?"
    assert ask.question("What is the effect of aspirin?", source, closed=True) is None
    assert ask.question("Whatever the dose, is it safe?", source, closed=True) is not None


def test_copies_of_the_worked_example_are_seen():
    request = next(ask.requests([SOURCE], ("new",), 1, 9))
    hip = "Does early mobilisation after hip surgery increase the risk of dementia and aphasia?"
    assert ask.copies_example(hip, request)
    assert ask.copies_example("Does early mobilisation after hip surgery shorten the stay?", request)
    assert not ask.copies_example("Is pain lowered by aspirin?", request)
    assert not ask.copies_example("Why so?", request)
    own = Example(
        "8", "Is hip surgery safe?", "yes", text_pair="We saw early mobilisation after hip surgery."
    )
    assert not ask.copies_example(
        "Is early mobilisation after hip surgery safe for the old?", next(ask.requests([own], ("new",), 1, 9))
    )


def test_statements_stay_statements():
    assert (
        ask.question("Pain is lowered by aspirin.", "Aspirin reduces pain.") == "Pain is lowered by aspirin."
    )
