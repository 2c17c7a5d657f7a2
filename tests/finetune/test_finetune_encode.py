"""Encoding: the tokenizer's own template, nothing cut silently, every word exactly once."""

import numpy as np
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st

from wellread.errors import DataError
from wellread.finetune import batches, encode


def rows(encoded):
    return [row.tolist() for row in np.split(encoded.input_ids, encoded.offsets[1:-1])]


@pytest.mark.parametrize("kind", ["tokenizer", "bpe"])
def test_texts_and_pairs_are_what_the_stock_tokenizer_gives(kind, request):
    tokenizer = request.getfixturevalue(kind)
    first = ["aspirin in patients", "", "brca1 études µg", "group " * 30]
    assert rows(encode.texts(tokenizer, first, None, 64)) == tokenizer(first)["input_ids"]
    second = ["dose", "cell effect", "", "the"]
    assert rows(encode.texts(tokenizer, first, second, 64)) == tokenizer(first, second)["input_ids"]


def test_long_texts_are_cut_longest_first_and_marked(tokenizer):
    first, second = ["group " * 40, "group " * 9, "cell"], ["dose " * 10, "dose", "the"]
    encoded = encode.texts(tokenizer, first, second, 16)
    assert encoded.truncated.tolist() == [True, False, False]
    stock = tokenizer(first, second, truncation="longest_first", max_length=16)["input_ids"]
    assert rows(encoded) == stock
    assert len(stock[0]) == 16
    assert max(encoded.lengths) <= 16


def bert_pairs(tokenizer_folder):
    """The toy tokenizer with the template of public BERT checkpoints, which are told the types."""
    from tokenizers import processors
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        tokenizer_folder, model_input_names=["input_ids", "token_type_ids", "attention_mask"]
    )
    ends = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1", special_tokens=ends
    )
    return tokenizer


def test_types_are_those_of_the_stock_tokenizer_for_models_that_are_told(tokenizer_folder, tokenizer):
    first, second = ["aspirin in patients", "group " * 40, ""], ["dose", "cell effect " * 3, "the"]
    told = bert_pairs(tokenizer_folder)
    encoded = encode.texts(told, first, second, 16)
    stock = told(first, second, truncation="longest_first", max_length=16)
    found = [row.tolist() for row in np.split(encoded.type_ids, encoded.offsets[1:-1])]
    assert found == stock["token_type_ids"] and any(1 in row for row in found)
    batch = batches.select(encoded, np.array([2, 0]))[0]
    assert batch.token_type_ids.tolist() == found[2] + found[0]
    assert batch.to("cpu").token_type_ids.tolist() == batch.token_type_ids.tolist()
    assert encode.texts(told, first, None, 16).type_ids is None
    untold = encode.texts(tokenizer, first, second, 16)
    assert untold.type_ids is None and batches.select(untold, np.array([0]))[0].token_type_ids is None


def test_a_pair_through_bert_is_what_the_stock_padded_model_says(tokenizer_folder):
    from wellread.finetune.classifier import logits_of
    from wellread.models import heads, packed

    told = bert_pairs(tokenizer_folder)
    first, second = ["aspirin in patients", "cell", "the dose of warfarin"], ["dose", "cell effect", "the"]
    model = heads.task_model(toy.model("bert"), told, "classify", ("a", "b"), 0.0, 0).eval()
    expected = model(**told(first, second, padding=True, return_tensors="pt")).logits.detach().numpy()
    found = logits_of(packed.enable(model), "classify", encode.texts(told, first, second, 64))
    assert np.abs(found - expected).max() < 1e-5
    padded = told(first, second, padding=True, return_tensors="pt", return_token_type_ids=False)
    assert np.abs(packed.disable(model)(**padded).logits.detach().numpy() - expected).max() > 1e-3


def test_the_tokenizer_is_left_as_it_was(tokenizer):
    before = tokenizer.backend_tokenizer.to_str()
    encode.texts(tokenizer, ["group " * 40], None, 8)
    encode.sentences(tokenizer, [["group"] * 40], 8)
    assert tokenizer.backend_tokenizer.to_str() == before


def test_truncation_in_the_tokenizers_own_file_does_not_cut(tokenizer):
    engine = tokenizer.backend_tokenizer
    engine.enable_truncation(4)
    engine.enable_padding(length=50)
    try:
        assert encode.texts(tokenizer, ["group " * 20], None, 64).lengths.tolist() == [22]
    finally:
        engine.no_truncation()
        engine.no_padding()


@pytest.mark.parametrize("kind", ["tokenizer", "bpe"])
def test_first_pieces_are_those_of_the_words(kind, request):
    tokenizer = request.getfixturevalue(kind)
    words = ["ibuprofen", "xq-7", "\x00", "in", "β2", "", " ", "patients"]
    encoded = encode.sentences(tokenizer, [words], 64)
    pieces = tokenizer.convert_ids_to_tokens(encoded.input_ids)
    found = dict(zip(encoded.word_numbers.tolist(), encoded.word_positions.tolist(), strict=True))
    for number in (0, 1, 3, 7):
        begins = pieces[found[number]].replace("Ġ", "")
        assert words[number].startswith(begins) or begins == "[UNK]"
    assert sorted(found) == encoded.word_numbers.tolist()
    assert not {5, 6} & set(found)
    if kind == "tokenizer":
        assert 2 not in found  # the WordPiece normaliser drops control characters
    assert rows(encoded) == tokenizer([" ".join(words)])["input_ids"]


sentence = st.lists(
    st.sampled_from([*toy.FILLER, *toy.DRUGS, *toy.GENES, "β", "\x07", "α-2b", "x" * 9]), max_size=60
)


@given(st.lists(sentence, min_size=1, max_size=4), st.integers(3, 40), st.sampled_from(["tokenizer", "bpe"]))
@settings(max_examples=60, deadline=None)
def test_windows_cover_every_word_exactly_once(request, sentences, max_length, kind):
    tokenizer = request.getfixturevalue(kind)
    encoded = encode.sentences(tokenizer, sentences, max_length)
    assert encoded.lengths.max() <= max_length
    assert encoded.lengths.min() >= 1
    whole = encode.sentences(tokenizer, sentences, 10_000)
    owner = np.repeat(encoded.inputs, np.diff(encoded.word_offsets))
    seen = sorted(zip(owner.tolist(), encoded.word_numbers.tolist(), strict=True))
    expected = sorted(
        zip(
            np.repeat(whole.inputs, np.diff(whole.word_offsets)).tolist(),
            whole.word_numbers.tolist(),
            strict=True,
        )
    )
    assert seen == expected  # each readable word once, none twice
    # and the labelled piece is the very piece that stands there without windows
    assert _piece_of(encoded) == _piece_of(whole)


def _piece_of(encoded):
    sequence = np.repeat(np.arange(len(encoded.lengths)), np.diff(encoded.word_offsets))
    tokens = encoded.input_ids[encoded.offsets[sequence] + encoded.word_positions]
    keys = zip(encoded.inputs[sequence].tolist(), encoded.word_numbers.tolist(), strict=True)
    return dict(zip(keys, tokens.tolist(), strict=True))


def test_a_word_is_predicted_where_it_has_most_context(tokenizer):
    words = ["group"] * 100
    encoded = encode.sentences(tokenizer, [words], 22)  # 20 words a window
    for sequence in range(len(encoded.lengths)):
        begin, end = encoded.word_offsets[sequence : sequence + 2]
        if 0 < sequence < len(encoded.lengths) - 2:
            assert encoded.word_positions[begin:end].tolist() == list(range(6, 16))
    # the first window also owns its beginning, the last one its end
    assert encoded.word_positions[0] == 1
    assert encoded.word_positions[-1] == 20


def test_an_empty_text_without_special_tokens_still_has_a_token(tokenizer):
    from tokenizers import processors

    bare = type(tokenizer)(tokenizer_object=encode._backend(tokenizer), unk_token="[UNK]", pad_token="[PAD]")
    bare.backend_tokenizer.post_processor = processors.Sequence([])
    assert encode.texts(bare, ["", "cell"], None, 8).lengths.tolist()[0] == 1
    assert encode.sentences(bare, [[], ["cell"]], 8).lengths.tolist()[0] == 1


def test_lone_surrogates_are_refused_without_showing_the_text(tokenizer):
    with pytest.raises(DataError, match="input 2.*surrogate") as caught:
        encode.texts(tokenizer, ["fine", "secret \ud800"], None, 8)
    assert "secret" not in str(caught.value)
    with pytest.raises(DataError, match="input 1"):
        encode.sentences(tokenizer, [["\udfff"]], 8)


def test_a_maximum_length_without_room_for_words_is_refused(tokenizer):
    with pytest.raises(DataError, match="max_length"):
        encode.sentences(tokenizer, [["cell"]], 2)
    with pytest.raises(DataError, match="max_length"):
        encode.texts(tokenizer, ["cell"], None, 2)
