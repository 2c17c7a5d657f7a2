from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from wellread.models import packed
from wellread.models.build import build
from wellread.models.heads import lm_logits
from wellread.objectives import ernie_gram, masking, mlm
from wellread.objectives.units import ngrams
from wellread.objectives.units.phrases import grams, hash_words
from wellread.pretrain.auxiliary import Counts, Seen
from wellread.settings import ModelSettings
from wellread.tokens.batch import pack

VOCAB, MASK = 60, 3


class Tokenizer:
    pad_token_id, bos_token_id, eos_token_id, cls_token_id, sep_token_id = 0, None, None, 1, 2

    def __len__(self):
        return VOCAB


def listed(*of):
    """N-grams of words of one token each."""
    found = {2: [], 3: []}
    for gram in of:
        hashes = hash_words(np.array(gram), np.arange(len(gram)))
        found[len(gram)].append(list(grams(hashes, len(gram)))[-1][1][0])
    return {n: np.sort(np.array(some, np.uint64)) for n, some in found.items()}


LISTED = listed((10, 11), (20, 21, 22))


def text_of(*rows):
    return pack([[1, *row, 2] for row in rows], [[-1, *range(len(row)), -1] for row in rows])


BATCH = text_of([10, 11, 30, 31, 20, 21, 22, 32], [40, 41, 42, 10, 11])


def made(batch=BATCH, rate=1.0, of=LISTED):
    text = masking.read(batch, 0, 0)
    chosen = masking.choose(batch, rate, 0, 0, [(1.0, partial(ngrams.units, ngrams=of))])
    return ernie_gram.predict(batch, text, chosen, of, MASK), chosen


def rows_of(batch, values):
    return [part.tolist() for part in values.split(batch.lengths)]


def test_an_ngram_is_one_mask_and_slots_ask_for_its_tokens_at_their_places():
    asked, _ = made()
    inputs = asked.inputs
    assert rows_of(inputs, inputs.input_ids) == [
        [1, *[MASK] * 5, 2, *[MASK] * 5],
        [1, *[MASK] * 4, 2, *[MASK] * 2],
    ]
    assert rows_of(inputs, inputs.position_ids) == [
        [0, 1, 3, 4, 5, 8, 9, 1, 2, 5, 6, 7],
        [0, 1, 2, 3, 4, 6, 4, 5],
    ]
    assert inputs.slots.tolist() == [5, 2]
    assert asked.targets.tolist() == [30, 31, 32, 10, 11, 20, 21, 22, 40, 41, 42, 10, 11]
    places, numbers = asked.ngrams
    assert places.tolist() == [1, 4, 12 + 4]
    two, three = numbers.tolist()[:2]
    assert (two, three) == (0, 1) and numbers[2] == two


def test_a_text_is_shorter_by_n_less_one_for_each_hidden_ngram():
    for seed_rows in range(5):
        batch = text_of(*[[10, 11, 30 + seed_rows, 20, 21, 22, 33, 10, 11, 34]] * 3)
        asked, chosen = made(batch, rate=0.4)
        hidden = len(asked.ngrams[0]) if asked.ngrams else 0
        slots = 0 if asked.inputs.slots is None else int(asked.inputs.slots.sum())
        assert asked.inputs.tokens - slots == batch.tokens - (slots - hidden)
        assert asked.count == len(chosen.positions)


def test_an_empty_list_reproduces_plain_masking():
    empty = listed()
    asked, _ = made(rate=0.3, of=empty)
    plain = mlm.predict(BATCH, masking.choose(BATCH, 0.3, 0, 0).positions, MASK)
    assert asked.ngrams is None and asked.inputs.slots is None
    for name, value in vars(plain.inputs).items():
        assert value is None or torch.equal(getattr(asked.inputs, name), value), name
    assert torch.equal(asked.positions, plain.positions) and torch.equal(asked.targets, plain.targets)


@pytest.mark.parametrize("layout", ["modernbert", "bert"])
def test_a_slot_changes_no_other_state(layout):
    settings = ModelSettings(layout=layout, layers=3, hidden=16, heads=2, max_length=32, local_attention=4)
    model = packed.enable(build(settings, Tokenizer(), "mlm", 0)).eval()
    inputs = made()[0].inputs
    before = packed.hidden_states(model, inputs)
    slot = 8  # the second of the first sequence
    changed = inputs.input_ids.clone()
    changed[slot] = 50
    after = packed.hidden_states(model, type(inputs)(**(vars(inputs) | {"input_ids": changed})))
    others = torch.arange(inputs.tokens) != slot
    assert torch.equal(before[others], after[others]) and not torch.equal(before[slot], after[slot])
    # Without its slots the text reads the same.
    keep = torch.cat([torch.arange(7), torch.arange(12, 18)])
    alone = type(inputs)(
        input_ids=inputs.input_ids[keep],
        cu_seqlens=torch.tensor([0, 7, 13], dtype=torch.int32),
        position_ids=inputs.position_ids[keep],
        word_ids=inputs.word_ids[keep],
        sample_ids=inputs.sample_ids,
        slots=torch.zeros(2, dtype=torch.int64),
    )
    torch.testing.assert_close(packed.hidden_states(model, alone), before[keep], atol=1e-6, rtol=1e-5)


def test_the_loss_is_over_vocabulary_and_list():
    settings = ModelSettings(layers=1, hidden=16, heads=2, max_length=32)
    model = packed.enable(build(settings, Tokenizer(), "mlm", 0)).eval()
    one = ernie_gram.auxiliary(settings, LISTED, VOCAB, 0.3, 0)
    model.auxiliary = nn.ModuleDict({one.name: one.module})
    asked, _ = made()
    hidden = packed.hidden_states(model, asked.inputs)
    found = one.loss(model, Seen(BATCH, asked, hidden, 0, Counts(ngrams=6)))
    places, numbers = asked.ngrams
    logits = torch.cat([lm_logits(model, hidden[places]), one.module(hidden[places])], 1)
    assert logits.shape == (3, VOCAB + 2)
    torch.testing.assert_close(found, F.cross_entropy(logits, VOCAB + numbers) / 2)  # 3 of 6
    plain = SimpleNamespace(ngrams=None)
    assert one.loss(model, Seen(BATCH, plain, hidden, 0, Counts())).item() == 0
