import math

import numpy as np
import pytest
from sentences import batch_of

from wellread.objectives import masking
from wellread.objectives.units import phrases, tf_idf

DOCUMENTS = [[1, 1, 2, 3], [1, 4], [1, 2], [1]]


def rarity():
    ids = np.array([word for row in DOCUMENTS for word in row])
    number = np.repeat(np.arange(4), [len(row) for row in DOCUMENTS])
    return tf_idf.learn(phrases.Words(phrases.hash_words(ids, np.arange(len(ids))), number, 4))


def test_scores_are_frequency_in_the_sequence_times_log_of_documents_over_those_with_the_word():
    text = masking.read(batch_of([[2, 2, 1, 3], [2, 9]]), 0, 0)
    wanted = [2 * math.log(2), 2 * math.log(2), 0.0, math.log(4), math.log(2), math.log(4)]
    assert tf_idf.scores(text, rarity()) == pytest.approx(wanted)


def test_units_are_the_top_words_with_all_their_pieces():
    rare = (7, 8, 9)
    text = masking.read(batch_of([[1, rare, 1, 2, 1, 1, 1, 1], [1, 2]]), 0, 0)
    first, size = tf_idf.units(text, rarity(), top=0.25)
    assert [text.tokens[a : a + n].tolist() for a, n in zip(first, size, strict=True)] == [
        [7, 8, 9],
        [2],
        [2],
    ]


def test_masked_words_are_rarer_than_by_chance():
    """In a made-up language after Zipf's law the mean IDF of what is masked doubles at least."""
    draw = np.random.default_rng(0)
    rows = np.minimum(draw.zipf(1.3, (300, 60)), 5000).tolist()
    ids, number = np.concatenate(rows), np.repeat(np.arange(300), 60)
    learnt = tf_idf.learn(phrases.Words(phrases.hash_words(ids, np.arange(len(ids))), number, 300))
    batch = batch_of(rows)

    def mean(kinds):
        chosen = masking.choose(batch, 0.15, 0, 0, kinds)
        text = masking.read(batch, 0, 0)
        rare = tf_idf.idf(phrases.of_text(text)[0], learnt)
        return rare[np.searchsorted(text.index, chosen.positions.numpy())].mean()

    salient = mean([(1.0, lambda text: tf_idf.units(text, learnt, 0.25))])
    assert salient > 2 * mean(masking.PLAIN)
