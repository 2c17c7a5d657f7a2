import itertools
import math
import random
from collections import Counter

import numpy as np
import pytest
from sentences import batch_of

from wellread.objectives import masking
from wellread.objectives.units import phrases, pmi


def corpus_of(documents):
    """Words given as small numbers."""
    ids = np.array([word for row in documents for word in row])
    number = np.repeat(np.arange(len(documents)), [len(row) for row in documents])
    return phrases.Words(phrases.hash_words(ids, np.arange(len(ids))), number, len(documents))


def made_up(count=60, seed=0):
    """Documents in which 1 2 and 3 4 5 and 6 7 8 9 come together more often than by chance."""
    draw, rows = random.Random(seed), []
    for _ in range(count):
        row = [draw.randint(1, 14) for _ in range(draw.randint(3, 20))]
        for run in ([1, 2], [3, 4, 5], [6, 7, 8, 9], [6, 7, 8, 9, 10]):
            if draw.random() < 0.5:
                place = draw.randrange(len(row))
                row[place:place] = run
        rows.append(row)
    return rows


def shares(documents):
    """log p of every n-gram, plainly counted."""
    found = {}
    for n in range(1, 6):
        seen = Counter(tuple(row[at : at + n]) for row in documents for at in range(len(row) - n + 1))
        found |= {gram: math.log(count / seen.total()) for gram, count in seen.items()}
        found |= {("count", gram): count for gram, count in seen.items()}
    return found


def splits(gram):
    """All ways to cut a phrase into two parts or more."""
    for cuts in itertools.product((False, True), repeat=len(gram) - 1):
        if any(cuts):
            borders = [0, *(place for place, cut in enumerate(cuts, 1) if cut), len(gram)]
            yield [gram[start:stop] for start, stop in itertools.pairwise(borders)]


def test_pmi_equals_brute_force_over_splits():
    documents = made_up()
    log_share, corpus = shares(documents), corpus_of(documents)
    counted = pmi.count(corpus, 3)
    split = pmi.best_splits(corpus.hashes, counted)
    words = [word for row in documents for word in row]
    seen = 0
    for n in range(2, 6):
        wanted = {gram for gram in log_share if len(gram) == n and gram[0] != "count"}
        wanted = {gram for gram in wanted if log_share["count", gram] >= 3}
        assert len(counted[n].hashes) == len(wanted) > 0
        for place, log_p, best in zip(counted[n].where, counted[n].log_share, split[n], strict=True):
            gram = tuple(words[place : place + n])
            assert gram in wanted
            assert log_p == pytest.approx(log_share[gram])
            parts = [sum(log_share[part] for part in cut) for cut in splits(gram)]
            assert log_p - best == pytest.approx(min(log_share[gram] - total for total in parts))
            seen += 1
    assert seen > 50


def test_of_two_words_it_is_the_usual_pmi():
    documents = [[1, 2, 3], [1, 2, 4], [1, 2], [3, 4], [4, 3]]
    corpus = corpus_of(documents)
    counted = pmi.count(corpus, 3, 2)
    (best,) = pmi.best_splits(corpus.hashes, counted)[2]
    (together,) = counted[2].log_share
    assert together - best == pytest.approx(math.log((3 / 7) / ((3 / 12) * (3 / 12))))


def test_the_list_is_as_long_as_its_coverage_asks_and_shares_out_the_lengths():
    corpus = corpus_of(made_up(400))
    counted = pmi.count(corpus, 5)
    few, covered_few = pmi.learn(corpus, counted, 0.2)
    many, covered_many = pmi.learn(corpus, counted, 0.6)
    assert 0.2 <= covered_few < 0.45 and 0.6 <= covered_many < 0.75
    for listed, covered in ((few, covered_few), (many, covered_many)):
        first, size = phrases.find(corpus.hashes, corpus.document, listed)
        places = {int(start) + inner for start, n in zip(first, size, strict=True) for inner in range(n)}
        assert len(places) / len(corpus.hashes) == pytest.approx(covered)
        sizes = {n: len(found) for n, found in listed.items()}
        assert sizes[3] == sizes[2] // 2 and abs(sizes[4] - sizes[2] / 4) <= 1
    assert all(set(few[n]) <= set(many[n]) for n in few)


def test_what_hangs_together_comes_first():
    corpus = corpus_of(made_up(400))
    listed, _ = pmi.learn(corpus, pmi.count(corpus, 5), 0.6)
    for run in ([1, 2], [6, 7], [3, 4, 5], [6, 7, 8, 9]):
        hashes = phrases.hash_words(np.array(run), np.arange(len(run)))
        assert dict(phrases.grams(hashes, len(run)))[len(run)][0] in listed[len(run)]


def test_units_are_phrases_and_the_words_between_them():
    hashes = phrases.hash_words(np.array([5, 6, 7]), np.arange(3))
    listed = {3: dict(phrases.grams(hashes, 3))[3]}
    text = masking.read(batch_of([[4, 5, 6, 7, (8, 9)], [5, 6]]), 0, 0)
    first, size = pmi.units(text, listed)
    assert [text.tokens[a : a + n].tolist() for a, n in zip(first, size, strict=True)] == [
        [4], [5, 6, 7], [8, 9], [5], [6],
    ]  # fmt: skip
