"""The trigram model against a dictionary, and against what a probability has to be."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from wellread.tokens import trigrams

VOCAB = 7


@pytest.fixture(scope="module")
def texts():
    generator = np.random.default_rng(0)
    return [generator.integers(0, VOCAB - 1, size) for size in (30, 0, 1, 2, 50, 9)]


def joined(texts):
    offsets = np.cumsum([0, *map(len, texts)])
    return np.concatenate(texts).astype(np.int64), offsets


def plain(texts):
    """p(token | two before) by the formula, with dictionaries."""
    seen = defaultdict(Counter)
    for text in texts:
        padded = [VOCAB, VOCAB, *text.tolist()]
        for at in range(2, len(padded)):
            for width in range(3):
                seen[tuple(padded[at - width : at])][padded[at]] += 1

    def probability(context, token):
        lower = 1 / VOCAB if context is None else probability(context[1:] if context else None, token)
        if context is None:
            return lower
        found = seen.get(context, Counter())
        return (found[token] + len(found) * lower) / (found.total() + len(found)) if found else lower

    return probability


def test_probabilities_are_those_of_the_formula(texts):
    model, reference = trigrams.count(*joined(texts), VOCAB), plain(texts)
    other = [np.array([0, 5, 6, 6, 1]), np.array([3])]
    for given in (texts, other):
        found = trigrams.log_probabilities(model, *joined(given))
        wanted = []
        for text in given:
            padded = (VOCAB, VOCAB, *text.tolist())
            wanted += [reference(padded[at - 2 : at], padded[at]) for at in range(2, len(padded))]
        np.testing.assert_allclose(found, np.log(wanted), rtol=1e-12)


def test_probabilities_sum_to_one(texts):
    model = trigrams.count(*joined(texts), VOCAB)
    for start in ([], [2], [4, 1], [6, 6]):
        rows = [np.array([*start, token]) for token in range(VOCAB)]
        last = np.cumsum([len(row) for row in rows]) - 1
        assert np.exp(trigrams.log_probabilities(model, *joined(rows))[last]).sum() == pytest.approx(
            1, abs=1e-12
        )


def test_a_text_is_likelier_after_itself(texts):
    model = trigrams.count(*joined(texts), VOCAB)
    own = trigrams.log_probabilities(model, *joined(texts)).mean()
    shuffled = [np.random.default_rng(1).permutation(text) for text in texts]
    assert own > trigrams.log_probabilities(model, *joined(shuffled)).mean()


def test_documents_are_scored_alike_in_stretches_of_any_size(trained, tmp_path, monkeypatch):
    from made_up import made_up_texts

    train = trained["wordpiece"].build(tmp_path / "train", ["", *made_up_texts(40, seed=2)], shard_tokens=512)
    model = trigrams.learn(trained["wordpiece"].build(tmp_path / "valid", made_up_texts(30, seed=3)))
    whole = trigrams.surprise(model, train)
    assert whole.shape == (train.n_documents,)
    assert np.isinf(whole[0])
    assert np.isfinite(whole[1:]).all()
    monkeypatch.setattr(trigrams, "CHUNK_TOKENS", 100)
    np.testing.assert_allclose(trigrams.surprise(model, train), whole, rtol=1e-9)
