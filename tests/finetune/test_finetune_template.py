"""Templates: what is filled in, what is cut, and that the answer never is."""

import pytest
import toy

from wellread.errors import DataError, RecipeError
from wellread.finetune import encode, template
from wellread.tasks.task import Example

LONG = Example("x", "aspirin extract in patients " * 6, "", text_pair="the dose of the study group " * 9)


@pytest.fixture(scope="module")
def masked_bpe(tmp_path_factory):
    return toy.make_tokenizer(tmp_path_factory.mktemp("toy") / "bpe", kind="bpe")


def test_lines_of_which_nothing_is_filled_in_are_left_out():
    text = "Read:\n{text}\nBeside: {text_pair}\n{options}\nAnswer: {answer}."
    alone = template.fill(text, Example("x", " one ", ""), "", "[MASK]")
    assert alone.text == "Read:\none\nAnswer: [MASK]."
    assert [alone.text[a:b] for a, b in alone.fields] == ["one"]
    assert alone.text[slice(*alone.answer)] == "[MASK]"
    pair = template.fill(text, Example("x", "one", "", "two"), "- A: yes\n- B: no", "[MASK]")
    assert pair.text == "Read:\none\nBeside: two\n- A: yes\n- B: no\nAnswer: [MASK]."
    assert [pair.text[a:b] for a, b in pair.fields] == ["one", "two"]
    own = template.fill(text, Example("x", "one", "", options=("a cat", "a dog")), "- A: yes", "[MASK]")
    assert "- A: a cat\n- B: a dog" in own.text
    assert "yes" not in own.text


def test_a_decoder_s_question_ends_before_the_answer():
    question = template.fill(template.DEFAULT, Example("x", "one", ""), "", None)
    assert question.text == "one\nAnswer:"
    assert question.answer is None


def test_braces_in_texts_are_text():
    question = template.fill(template.DEFAULT, Example("x", "{answer} {text} {0}", ""), "", "[MASK]")
    assert question.text == "{answer} {text} {0}\nAnswer: [MASK]"


@pytest.mark.parametrize(
    ("text", "last", "what"),
    [
        ("{text} {anser}", False, "unknown field"),
        ("Answer: {answer}", False, "needs"),
        ("{text}", False, "needs"),
        ("{text} {answer} {answer}", False, "needs"),
        ("{answer}: {text}", True, "at the end"),
    ],
)
def test_templates_that_cannot_be_filled_in_are_refused(text, last, what):
    with pytest.raises(RecipeError, match=what) as caught:
        template.check(text, last=last)
    assert caught.value.where == "finetune.answer.template"
    template.check("{answer}: {text}", last=False)


def test_the_text_before_the_answer():
    assert template.before_answer("{text}\nAnswer: {answer}") == ("Answer:", " ")
    assert template.before_answer("{text}{answer}") == ("", "")
    assert template.before_answer("So {text} is {answer}") == (" is", " ")


def test_every_label_needs_a_word_and_every_word_a_label():
    assert template.given_words(("a", "b"), (("b", "no"), ("a", "yes"))) == ("yes", "no")
    assert template.given_words(("a", "b"), ()) == ()
    with pytest.raises(RecipeError, match="'b' has no word"):
        template.given_words(("a", "b"), (("a", "yes"),))
    with pytest.raises(RecipeError, match="'c' is no label"):
        template.given_words(("a", "b"), (("a", "yes"), ("b", "no"), ("c", "maybe")))


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
@pytest.mark.parametrize("text", [template.DEFAULT, "It is {answer}: {text} of {text_pair}."])
def test_no_length_cuts_the_answer_or_the_template(kind, text, tokenizer, masked_bpe):
    chosen = tokenizer if kind == "wordpiece" else masked_bpe
    question = template.fill(text, LONG, "", chosen.mask_token)
    whole = chosen(question.text)["input_ids"]
    bare = encode.Question(question.text, (), question.answer)
    limits = list(range(1, len(whole) + 2))
    fitting = []
    for limit in limits:
        try:
            fitting.append((limit, encode.questions(chosen, [question], limit)))
        except DataError as error:
            assert not fitting, "what fits a shorter limit fits a longer one"
            assert error.where == "finetune.answer.template"
    # The shortest limit leaves the template, whose tokens are all there in their order; see next test.
    assert fitting[0][1].lengths[0] == fitting[0][0]
    template_only = fitting[0][1].input_ids.tolist()
    for limit, encoded in fitting:
        ids = encoded.input_ids.tolist()
        assert len(ids) == min(limit, len(whole))
        assert ids.count(chosen.mask_token_id) == 1
        assert ids[encoded.word_positions[0]] == chosen.mask_token_id
        assert (ids[0], ids[-1]) == (whole[0], whole[-1])
        assert bool(encoded.truncated[0]) == (len(whole) > limit)
        rest = iter(ids)
        assert all(token in rest for token in template_only)
        rest = iter(whole)
        assert all(token in rest for token in ids)  # in the order of the whole text
    assert fitting[-1][1].input_ids.tolist() == whole
    with pytest.raises(DataError, match="without its texts"):
        encode.questions(chosen, [bare], len(whole) - 1)


def test_the_longer_text_gives_way_first_and_from_its_end(tokenizer):
    question = template.fill(template.DEFAULT, LONG, "", tokenizer.mask_token)
    count = [len(template.pieces(tokenizer, text)) for text in (LONG.text, LONG.text_pair)]
    whole = encode.questions(tokenizer, [question], 10_000)
    begin = whole.input_ids[1 : 1 + count[0]].tolist()
    pair = whole.input_ids[1 + count[0] : 1 + sum(count)].tolist()
    for cut in (1, count[1] - count[0], count[1] - count[0] + 5):
        ids = encode.questions(tokenizer, [question], int(whole.lengths[0]) - cut).input_ids.tolist()
        left = [count[0], count[1] - cut]
        if left[1] < left[0]:
            left = [sum(left) // 2, sum(left) - sum(left) // 2]
        assert ids[1 : 1 + left[0]] == begin[: left[0]]
        assert ids[1 + left[0] : 1 + sum(left)] == pair[: left[1]]


@pytest.mark.parametrize("name", ["tokenizer", "bpe"])
def test_a_decoder_s_input_keeps_the_words_before_its_answer(name, tokenizer, bpe):
    chosen = tokenizer if name == "tokenizer" else bpe
    question = template.fill(template.DEFAULT, LONG, "", None)
    tail = template.pieces(chosen, "Answer:")
    whole = chosen(question.text)["input_ids"][:-1]  # without the closing token
    for limit in range(len(tail) + 4, len(whole) + 2):
        encoded = encode.questions(chosen, [question], limit)
        ids = encoded.input_ids.tolist()
        assert ids[-len(tail) :] == tail
        assert ids[0] == whole[0]
        assert len(ids) == min(limit, len(whole))
        assert encoded.word_positions.tolist() == [len(ids) - 1]
    assert ids == whole


def test_a_mask_inside_a_text_is_not_where_the_answer_is(tokenizer):
    example = Example("x", f"aspirin {tokenizer.mask_token} extract", "")
    question = template.fill(template.DEFAULT, example, "", tokenizer.mask_token)
    encoded = encode.questions(tokenizer, [question], 64)
    masks = [i for i, token in enumerate(encoded.input_ids) if token == tokenizer.mask_token_id]
    assert len(masks) == 2
    assert encoded.word_positions.tolist() == [masks[1]]


def test_the_longest_give_way_first():
    assert encode._shares([5, 9, 2], 16) == [5, 9, 2]
    assert encode._shares([5, 9, 2], 12) == [5, 5, 2]
    assert encode._shares([5, 9, 2], 7) == [2, 3, 2]
    assert encode._shares([], 3) == []
    assert encode._shares([4, 4], 0) == [0, 0]


def test_words_behind_other_words_keep_their_space(bpe, tokenizer):
    behind = template.continuation(bpe, "Answer:", " dose")
    assert bpe.decode(behind) == " dose"
    assert template.pieces(bpe, "Answer:") + behind == template.pieces(bpe, "Answer: dose")
    assert template.continuation(tokenizer, "Answer:", " dose") == template.pieces(tokenizer, "dose")
