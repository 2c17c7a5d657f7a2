import numpy as np
import pytest

from wellread.objectives import masking
from wellread.objectives.units import ngrams, pmi
from wellread.objectives.units.ngrams import learn, scores, t_statistic
from wellread.objectives.units.phrases import Words, grams, hash_words
from wellread.tokens.batch import pack


def corpus_of(words, document=None):
    hashes = hash_words(np.array(words), np.arange(len(words)))
    return Words(hashes, np.zeros(len(words), np.int64) if document is None else document, 1)


def hash_of(*words):
    return list(grams(corpus_of(words).hashes, len(words)))[-1][1][0]


def test_t_is_zero_where_an_ngram_is_as_frequent_as_its_words_by_chance():
    share = np.array([0.02, 0.02, 0.01])
    found = t_statistic(share, np.array([0.02, 0.01, 0.02]), 400)
    assert found[0] == 0 and found[1] > 0 > found[2]
    assert found[1] == pytest.approx(0.01 / np.sqrt(0.02 * 0.98 / 400))


def test_scores_are_those_of_brute_force():
    generator = np.random.default_rng(0)
    words = generator.integers(0, 6, 500)
    document = np.repeat([0, 1], 250)
    corpus = corpus_of(words, document)
    counted = pmi.count(corpus, least=3, most=3)
    for n in (2, 3):
        found = dict(zip(counted[n].hashes.tolist(), scores(corpus, counted, n).tolist(), strict=True))
        windows = [tuple(words[i : i + n]) for i in range(501 - n) if document[i] == document[i + n - 1]]
        frequent = {gram for gram in windows if windows.count(gram) >= 3}
        assert set(found) == {int(hash_of(*gram)) for gram in frequent}
        for gram in frequent:
            share = windows.count(gram) / len(windows)
            product = np.prod([(words == word).mean() for word in gram])
            expected = (share - product) / np.sqrt(share * (1 - share) / len(windows))
            assert found[int(hash_of(*gram))] == pytest.approx(expected)
        assert len(found) > 5


def test_planted_collocations_rank_first():
    generator = np.random.default_rng(1)
    words = generator.integers(10, 200, 30_000)
    for first, size in ((0, 2), (2, 3)):
        for place in generator.integers(0, len(words) - 3, 600):
            words[place : place + size] = np.arange(first, first + size)
    corpus = corpus_of(words)
    listed = learn(corpus, pmi.count(corpus, 11, 3), 3)
    assert hash_of(2, 3, 4) in listed[3]
    assert set(listed[2].tolist()) <= {int(hash_of(*gram)) for gram in ((0, 1), (2, 3), (3, 4))}


def test_a_text_is_cut_into_ngrams_and_single_tokens():
    # words: 5 | 6 7 | 8 | 9 (the second has two pieces)
    batch = pack([[1, 5, 6, 7, 8, 9, 2]], [[-1, 0, 1, 1, 2, 3, -1]])
    text = masking.read(batch, 0, 0)
    two = hash_words(np.array([6, 7, 8]), np.array([0, 2]))
    listed = {2: np.sort([list(grams(two, 2))[-1][1][0], np.uint64(1)]), 3: np.empty(0, np.uint64)}
    found = ngrams.units(text, listed)
    assert found.first.tolist() == [0, 1, 4] and found.size.tolist() == [1, 3, 1]
    first, size, number = ngrams.spans(text, listed)
    assert (first.tolist(), size.tolist(), number.tolist()) == ([1], [3], [1])


def test_an_empty_list_is_plain_masking():
    batch = pack([[1, *range(10, 60), 2]], [[-1, *np.arange(50) // 2, -1]])
    plain = masking.choose(batch, 0.3, 0, 0)
    found = masking.choose(batch, 0.3, 0, 0, [(1.0, lambda text: ngrams.units(text, {}))])
    assert found.positions.equal(plain.positions)
