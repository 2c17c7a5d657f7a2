"""Soft prompts on packed batches give what stock models give for the same embeddings on padded ones."""

import dataclasses

import pytest
import torch
import toy
from equipped import BATCH, LONG, ROWS, logits, made, randomise

from wellread.errors import RecipeError
from wellread.finetune.light import prompts
from wellread.models import packed
from wellread.tokens.batch import pack

SIZE = 3


def padded_reference(model, stock, batch, at):
    """Hidden states of the tokens and of the prompts: each sequence alone in a row of a padded batch."""
    table, vectors = model.get_input_embeddings(), model.light.vectors
    rows = batch.input_ids.split(batch.lengths)
    inputs = [
        torch.cat([table(ids)[:place], vectors, table(ids)[place:]])
        for ids, place in zip(rows, at, strict=True)
    ]
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(one)) for one in inputs], batch_first=True)
    hidden = stock(
        inputs_embeds=torch.nn.utils.rnn.pad_sequence(inputs, batch_first=True), attention_mask=mask
    ).last_hidden_state
    found = []
    for row, ids, place in zip(hidden, rows, at, strict=True):
        end = place + SIZE
        before = row[:place].clone()
        if place and model.light.causal:
            before[-1] = row[end - 1]
        found.append(torch.cat([before, row[end : len(ids) + SIZE]]))
    return torch.cat(found)


@pytest.fixture
def pair(tokenizer):
    """A model with a random prompt, and the stock model that it was made of."""

    def make(layout, **changes):
        model = randomise(made("prompt", layout, tokenizer, vectors=SIZE, **changes))
        return model, packed.disable(made("full", layout, tokenizer)).base_model

    return make


@pytest.mark.parametrize("layout", toy.LAYOUTS)
@pytest.mark.parametrize("batch", [BATCH, LONG], ids=["short", "long"])
def test_before_the_text(layout, batch, pair):
    model, stock = pair(layout)
    expected = padded_reference(model, stock, batch, [0] * batch.sequences)
    assert torch.allclose(packed.hidden_states(model, batch), expected, atol=1e-5)


@pytest.mark.parametrize("layout", toy.LAYOUTS)
def test_after_the_text(layout, pair):
    model, stock = pair(layout, place="after")
    expected = padded_reference(model, stock, BATCH, BATCH.lengths)
    assert torch.allclose(packed.hidden_states(model, BATCH), expected, atol=1e-5)


@pytest.mark.parametrize("layout", toy.LAYOUTS)
def test_between_text_and_answer(layout, pair):
    """As MediSwift: where each answer begins is told; in decoders its first token comes from the prompt."""
    model, stock = pair(layout)
    at = [4, 1, 6, 1, 2]
    found = prompts.read(model, BATCH, BATCH.cu_seqlens[:-1].long() + torch.tensor(at) - 1)
    assert torch.allclose(found, padded_reference(model, stock, BATCH, at), atol=1e-5)
    assert model.light.at is None  # the next call is told anew
    before = padded_reference(model, stock, BATCH, [0] * 5)
    assert torch.allclose(packed.hidden_states(model, BATCH), before, atol=1e-5)


def test_the_head_of_a_decoder_reads_the_end_of_a_prompt_after_the_text(tokenizer):
    model = randomise(made("prompt", "llama", tokenizer, vectors=SIZE, place="after"))
    before = logits(model)
    with torch.no_grad():
        model.light.vectors[-1] += 1
    assert (logits(model) - before).abs().min(1).values.min() > 0


@pytest.mark.parametrize("layout", ["modernbert", "gpt2"])
def test_the_gradient_of_the_prompt(layout, pair):
    model, stock = pair(layout)
    direction = torch.randn(BATCH.tokens, 32, generator=torch.Generator().manual_seed(1))
    (packed.hidden_states(model, BATCH) * direction).sum().backward()
    found, model.light.vectors.grad = model.light.vectors.grad, None
    (padded_reference(model, stock, BATCH, [0] * 5) * direction).sum().backward()
    assert torch.allclose(found, model.light.vectors.grad, atol=1e-4)


def test_the_vectors_begin_as_words(tokenizer):
    model = made("prompt", "bert", tokenizer, vectors=SIZE)
    table = model.get_input_embeddings().weight
    for vector in model.light.vectors:
        assert (table == vector).all(1).any()


def test_a_prompt_that_tags_cannot_see_is_refused(tokenizer):
    with pytest.raises(RecipeError, match="look ahead") as caught:
        made("prompt", "llama", tokenizer, "tag", place="after")
    assert caught.value.where == "finetune.light.place"
    made("prompt", "bert", tokenizer, "tag", place="after")


def test_rows_of_one_token(tokenizer):
    model = made("prompt", "modernbert", tokenizer, vectors=SIZE)
    one = logits(model, pack([ROWS[3]]))
    assert torch.allclose(logits(model)[3:4], one, atol=1e-5)


def test_the_second_text_of_a_pair_stays_the_second(tokenizer, pair):
    model, stock = pair("bert")
    types = torch.cat([(torch.arange(length) >= length // 2).long() for length in BATCH.lengths])
    batch = dataclasses.replace(BATCH, token_type_ids=types)
    found, start = packed.hidden_states(model, batch), 0
    with torch.no_grad():
        for ids, kinds in zip(BATCH.input_ids.split(BATCH.lengths), types.split(BATCH.lengths), strict=True):
            inputs = torch.cat([model.light.vectors, model.get_input_embeddings()(ids)])[None]
            told = torch.cat([torch.zeros(SIZE, dtype=torch.long), kinds])[None]
            expected = stock(inputs_embeds=inputs, token_type_ids=told).last_hidden_state[0, SIZE:]
            assert torch.allclose(found[start : start + len(ids)], expected, atol=1e-5)
            start += len(ids)
