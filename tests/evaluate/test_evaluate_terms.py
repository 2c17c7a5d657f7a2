"""Term recall@1: the right occurrences, and one by one the same answer."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM

from wellread.evaluate import terms
from wellread.models import build
from wellread.objectives.units import lexicon
from wellread.settings import ModelSettings, TokenizerSettings
from wellread.tokens import store, tokenizer

TEXTS = [
    "heart failure and renal failure were seen after acute renal failure",
    "no asthma here but asthma there and asthma again",
    "nothing of the kind stands in this text",
    "renal failure with asthma",
]


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A store, its tokenizer's folder, and terms of it."""
    folder = tmp_path_factory.mktemp("terms")
    settings = TokenizerSettings(vocab_size=300, min_frequency=1)
    tokenizer.train(TEXTS, settings, folder / "tokenizer", causal=False, max_length=32, quiet=True)
    store.build(
        ((str(number), text) for number, text in enumerate(TEXTS)),
        folder / "tokenizer",
        folder / "store",
        processes=1,
        quiet=True,
    )
    names = ["renal failure", "acute renal failure", "asthma"]
    listed = lexicon.encode(names, folder / "tokenizer", folder / "encoded")
    return store.Store.open(folder / "store"), folder / "tokenizer", listed


def told(opened, place, asked):
    """(sample, text) of every occurrence."""
    loaded, found = tokenizer.load(place), []
    for sample, position, size in zip(asked.sample, asked.position, asked.size, strict=True):
        first = asked.starts[sample] + position - len(opened.prefix)
        found.append((int(sample), loaded.decode(opened.tokens(first, first + size))))
    return found


def test_every_occurrence_is_found_once_and_the_longest_term_wins(toy):
    opened, place, listed = toy
    asked = terms.find(opened, listed, 32)
    assert told(opened, place, asked) == [
        (0, "renal failure"),
        (0, "acute renal failure"),
        *[(1, "asthma")] * 3,
        (3, "renal failure"),
        (3, "asthma"),
    ]
    assert asked.terms == 3


def test_a_frequent_term_is_asked_for_so_often_and_no_more(toy):
    opened, place, listed = toy
    few = terms.find(opened, listed, 32, most_of_one=2)
    names = [name for _, name in told(opened, place, few)]
    assert sorted(names) == ["acute renal failure", *["asthma"] * 2, *["renal failure"] * 2]
    assert len(terms.find(opened, listed, 32, most=3).sample) == 3


def test_recall_is_that_of_one_occurrence_after_the_other_in_stock_transformers(toy, tmp_path, monkeypatch):
    opened, place, listed = toy
    loaded = tokenizer.load(place)
    shape = ModelSettings(layout="bert", layers=1, hidden=32, heads=2, max_length=32)
    model = build.build(shape, loaded, "mlm", 3)
    # A random model is never right: so tie its answers to what stands in the text.
    learn(model, loaded)
    build.save(model.eval(), loaded, tmp_path / "model")
    asked = terms.find(opened, listed, 32)
    monkeypatch.setattr(terms, "BATCH_TOKENS", 24)  # several batches
    found = terms.recall(tmp_path / "model", opened, asked)

    stock = AutoModelForMaskedLM.from_pretrained(tmp_path / "model").eval()
    rights = []
    for sample, position, size in zip(asked.sample, asked.position, asked.size, strict=True):
        ids = torch.tensor([loaded(TEXTS[sample])["input_ids"]])
        target = ids[0, position : position + size].clone()
        ids[0, position : position + size] = loaded.mask_token_id
        with torch.no_grad():
            best = stock(input_ids=ids).logits[0].argmax(-1)[position : position + size]
        rights.append((best == target).numpy())
    assert found.count == 7
    assert found.whole == np.mean([right.all() for right in rights])
    assert found.tokens == np.concatenate(rights).mean()
    assert 0 < found.whole < 1, "the toy must be able to be right and wrong"


def learn(model, loaded):
    """A few steps on two of the texts: right there, wrong elsewhere."""
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    ids = torch.tensor([loaded(TEXTS[1])["input_ids"]])
    asthma = ids == loaded(" asthma")["input_ids"][1]
    for _ in range(40):
        hidden = ids.masked_fill(asthma, loaded.mask_token_id)
        model(input_ids=hidden, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def test_terms_with_one_head_lie_on_one_side_and_none_is_lost():
    names = [f"{kind} {head}" for kind in ("lung", "breast", "skin") for head in "abcdefghijklmnop"]
    names += [f"{head}, Rheumatoid" for head in "ABCDEFGH"]
    masked, asked = terms.divide(names)
    assert sorted(masked + asked) == sorted(names) and masked and asked
    heads = [{name.split(",")[0].split()[-1].lower() for name in half} for half in (masked, asked)]
    assert not heads[0] & heads[1]


def test_nothing_is_found_where_nothing_stands(toy):
    opened, _, listed = toy
    assert len(terms.find(opened, {}, 32).sample) == 0
