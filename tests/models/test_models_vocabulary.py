"""Extension leaves all other text as it was; new rows are the means of the old pieces' rows, by hand."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from wellread.errors import RecipeError
from wellread.models import vocabulary

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
OLD = [*SPECIALS, "hepa", "##titis", "##tis", "liver", "cardio", "##logy", "##s", "-", "b", "a", "##a", "##b"]
NEW = ["[MASK]", "[PAD]", "[CLS]", "[SEP]", "[UNK]", "hepatitis", "liver", "##titiss", "cardiology", "zzz"]


def word_piece(pieces: list[str]) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordPiece({p: n for n, p in enumerate(pieces)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [(name, pieces.index(name)) for name in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=ends
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, **dict(zip(names, SPECIALS, strict=True)), model_max_length=64
    )


def encoder(vocab: int) -> BertForMaskedLM:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = BertForMaskedLM(BertConfig(vocab_size=vocab, pad_token_id=0, **shape)).eval()
    torch.nn.init.normal_(model.cls.predictions.bias)
    return model


def extended() -> PreTrainedTokenizerFast:
    new = word_piece(OLD)
    vocabulary.extend(new, ["hepatitis", "cardiology"])
    return new


def test_new_words_are_pieces_and_all_else_is_as_before() -> None:
    old, new = word_piece(OLD), extended()
    assert new.tokenize("Hepatitis-B, livers") == ["hepatitis", "-", "b", "[UNK]", "liver", "##s"]
    assert old.tokenize("Hepatitis-B, livers")[:2] == ["hepa", "##titis"]
    # Inside a longer word it is no word.
    assert new("hepatitiss bhepatitis cardiologyb") == old("hepatitiss bhepatitis cardiologyb")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(alphabet="hepatitis livcardogyb-.,Ä\n\t", max_size=40))
def test_text_without_the_new_words_encodes_identically(text: str) -> None:
    old, new = word_piece(OLD), extended()
    split = old.backend_tokenizer.pre_tokenizer.pre_tokenize_str(
        old.backend_tokenizer.normalizer.normalize_str(text)
    )
    if not {word for word, _ in split} & {"hepatitis", "cardiology"}:
        assert new(text)["input_ids"] == old(text)["input_ids"]


def test_the_extended_model_reads_old_text_alike_and_new_rows_are_means() -> None:
    old, new, model = word_piece(OLD), extended(), encoder(len(OLD))
    ids = torch.tensor([old("liver-b livers cardiob")["input_ids"]])
    before = model(ids).logits
    rows, bias = model.get_input_embeddings().weight.clone(), model.cls.predictions.bias.clone()
    vocabulary.carry(model, old, new)
    after = model(ids).logits
    assert model.config.vocab_size == len(new) == len(OLD) + 2
    assert torch.equal(after[..., : len(OLD)], before)
    place = OLD.index
    by_hand = (rows[place("hepa")] + rows[place("##titis")]) / 2
    assert torch.allclose(model.get_input_embeddings().weight[len(OLD)], by_hand)
    assert torch.allclose(
        model.cls.predictions.bias[len(OLD)], (bias[place("hepa")] + bias[place("##titis")]) / 2
    )
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_replacement_goes_by_part_by_name_and_by_cut() -> None:
    old, new = word_piece(OLD), word_piece(NEW)
    place = OLD.index
    assert vocabulary.origins(old, new) == [
        [place("[MASK]")],
        [place("[PAD]")],
        [place("[CLS]")],
        [place("[SEP]")],
        [place("[UNK]")],
        [place("hepa"), place("##titis")],
        [place("liver")],
        [place("##titis"), place("##s")],  # a continuation stays one
        [place("cardio"), place("##logy")],
        [place("[UNK]")],
    ]
    model = encoder(len(OLD))
    rows = model.get_input_embeddings().weight.clone()
    vocabulary.carry(model, old, new)
    assert model.get_input_embeddings().weight.shape[0] == model.config.vocab_size == len(NEW)
    assert torch.equal(model.get_input_embeddings().weight[6], rows[place("liver")])
    assert model.config.pad_token_id == 1


def test_the_same_tokenizer_changes_nothing() -> None:
    model = encoder(len(OLD))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    vocabulary.carry(model, word_piece(OLD), word_piece(OLD))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_words_are_chosen_by_the_pieces_they_save() -> None:
    words = Counter({"hepatitis": 5, "liver": 100, "cardiology": 5, "hepatitiss": 3, "b-a": 50, "livers": 1})
    chosen = vocabulary.words_to_add(word_piece(OLD), words, 9, 2)
    assert chosen == ["hepatitiss", "cardiology", "hepatitis"]  # 3 x 2 pieces saved, then 5 each by name
    unread = Counter({"zürich": 2, "hepatitis": 9})
    assert vocabulary.words_to_add(word_piece(OLD), unread, 2, 1) == ["zürich", "hepatitis"]  # 2 x 5, 9 x 1
    assert vocabulary.words_to_add(word_piece(OLD), words, 1, 2) == ["hepatitiss"]


def test_another_kind_of_tokenizer_is_refused() -> None:
    backend = Tokenizer(models.BPE(vocab={"a": 0, "[UNK]": 1}, merges=[], unk_token="[UNK]"))
    other = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")
    with pytest.raises(RecipeError) as caught:
        vocabulary.extend(other, ["aa"])
    assert caught.value.where == "tokenizer.add_words"
