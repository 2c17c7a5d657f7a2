import numpy as np
from sentences import batch_of

from wellread.objectives import masking
from wellread.objectives.units import words


def test_words_of_any_tokenizer_are_runs_of_pieces_between_the_borders_of_sequences():
    text = masking.read(batch_of([[5, (6, 7, 8), 9], [(4, 4), 4]]), 0, 0)
    first, size = words.units(text)
    assert size.tolist() == [1, 3, 1, 2, 1]
    assert [text.tokens[a : a + n].tolist() for a, n in zip(first, size, strict=True)] == [
        [5], [6, 7, 8], [9], [4, 4], [4],
    ]  # fmt: skip


def test_runs_of_words():
    text = masking.read(batch_of([[5, (6, 7, 8), 9], [(4, 4), 4]]), 0, 0)
    first, size = words.runs(text, np.array([1, 3]), np.array([2, 2]))
    assert [text.tokens[a : a + n].tolist() for a, n in zip(first, size, strict=True)] == [
        [6, 7, 8, 9], [4, 4, 4],
    ]  # fmt: skip
