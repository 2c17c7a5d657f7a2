"""Which documents a subset holds."""

import numpy as np
import pytest
from made_language import markov_texts

from wellread.pretrain import subset
from wellread.tokens import store, tokenizer
from wellread.tokens.store import Store


@pytest.fixture
def train(language):
    return Store.open(language.tokens / "train")


def held(train, chosen):
    return np.diff(train.offsets)[chosen].sum() / train.n_tokens


def test_a_random_subset_has_its_share_and_is_chosen_once(language, train, tmp_path, monkeypatch):
    loaded = tokenizer.load(language.tokenizer)
    chosen = subset.choose(train, 0.3, 1, None, loaded, tmp_path)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert 0.3 <= held(train, chosen) < 0.3 + 60 / train.n_tokens + 0.02
    other = subset.choose(train, 0.3, 2, None, loaded, tmp_path / "other")
    assert chosen.tolist() != other.tolist()
    monkeypatch.setattr(subset, "first_tokens", None)  # it is read again, not made again
    assert subset.choose(train, 0.3, 1, None, loaded, tmp_path).tolist() == chosen.tolist()


def test_the_best_are_those_like_the_trusted_text(language, tmp_path):
    """Half of the documents have their words shuffled; the trusted text is of the language."""
    generator = np.random.default_rng(3)
    texts = [text for text in markov_texts(120, seed=5) if len(text.split()) > 33]
    mixed = [
        text if number % 2 else " ".join(generator.permutation(text.split()))
        for number, text in enumerate(texts)
    ]
    # Likely under any model, but boilerplate: one is too short, one has no letters.
    mixed += [texts[1][:20], ". - " * 60]
    pairs = [(str(number), text) for number, text in enumerate(mixed)]
    store.build(pairs, language.tokenizer, tmp_path / "mixed", processes=1, quiet=True)
    opened, trusted = Store.open(tmp_path / "mixed"), Store.open(language.tokens / "train")
    order = subset.ranked(opened, trusted, tokenizer.load(language.tokenizer))
    half = len(texts) // 2
    assert sum(number % 2 for number in order[:half]) > 0.95 * half
    assert set(order[-2:].tolist()) == {len(texts), len(texts) + 1}
    share = 0.25
    chosen = subset.choose(opened, share, 0, trusted, tokenizer.load(language.tokenizer), tmp_path / "s")
    assert set(chosen.tolist()) <= set(order[:half].tolist())
