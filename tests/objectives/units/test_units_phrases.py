import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sentences import batch_of

from wellread.objectives import masking
from wellread.objectives.units import phrases
from wellread.tokens.store import Store


def hashes_of(*words):
    ids = np.array([piece for word in words for piece in word])
    begins = np.cumsum([0, *(len(word) for word in words)])[:-1]
    return phrases.hash_words(ids, begins)


def phrase(*words):
    hashed = hashes_of(*words)
    return list(phrases.grams(hashed, len(words)))[-1][1][0]


def test_a_word_is_its_pieces_in_order():
    one, other, turned, longer, again = hashes_of((5, 6), (7,), (6, 5), (5, 6, 7), (5, 6))
    assert one == again and len({one, other, turned, longer}) == 4


def test_a_phrase_is_its_words_in_order_wherever_it_stands():
    grams = dict(phrases.grams(hashes_of((9,), (5, 6), (7,), (5, 6), (7,)), 3))
    assert {n: len(found) for n, found in grams.items()} == {1: 5, 2: 4, 3: 3}
    assert grams[2][1] == grams[2][3] == phrase((5, 6), (7,)) != grams[2][2]
    assert grams[2][1] != phrase((5,), (6, 7))


def test_phrases_are_found_within_sequences_only():
    listed = {2: np.array([phrase((5,), (6,))]), 3: np.array([phrase((5,), (6,), (7,))])}
    text = masking.read(batch_of([[5, 6, 7, 5], [6, 7, 5, 6]]), 0, 0)
    first, size = phrases.find(*phrases.of_text(text), listed)
    assert sorted(zip(first.tolist(), size.tolist(), strict=True)) == [(0, 2), (0, 3), (6, 2)]


def test_the_longest_phrase_wins_and_equal_ones_win_in_turn():
    listed = {
        2: np.sort([phrase((5,), (6,)), phrase((6,), (7,)), phrase((8,), (9,)), phrase((9,), (5,))]),
        3: np.array([phrase((6,), (7,), (8,))]),
    }
    winners = set()
    for epoch in range(40):
        text = masking.read(batch_of([[5, 6, 7, 8, 9], [8, 9, 5]]), 0, epoch)
        first, size = phrases.longest(text, listed)
        found = list(zip(first.tolist(), size.tolist(), strict=True))
        assert found[0] == (1, 3) and len(found) == 2
        winners.add(found[1])
    assert winners == {(5, 2), (6, 2)}


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 5)), max_size=60))
def test_disjoint_is_the_greedy_choice(spans):
    first = np.array([start for start, _ in spans], dtype=int)
    size = np.array([length for _, length in spans], dtype=int)
    taken, wanted = set(), []
    for start, length in spans:
        places = set(range(start, start + length))
        wanted.append(not places & taken)
        taken |= places if wanted[-1] else set()
    assert phrases.disjoint(first, size, 50).tolist() == wanted


def test_a_sample_of_a_store(phrased):
    opened = Store.open(phrased / "store")
    whole = phrases.sample(opened, opened.n_tokens)
    assert whole.documents == opened.n_documents == 200
    starts = opened.gather(np.arange(opened.n_tokens))[1]
    assert len(whole.hashes) == starts.sum() and (np.diff(whole.document) >= 0).all()
    third = phrases.sample(opened, -(-opened.n_tokens // 3))
    assert set(third.document) == set(range(0, 200, 3)) and third.documents == 67
    assert third.hashes.tolist() == whole.hashes[whole.document % 3 == 0].tolist()
