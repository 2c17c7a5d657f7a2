"""Batches of made-up words: each word is a number, or a tuple of pieces."""

from wellread.tokens.batch import pack


def batch_of(rows, sample_ids=None):
    """Rows of words between two special tokens, 1 and 2."""
    ids, words = [], []
    for row in rows:
        pieces = [(word,) if isinstance(word, int) else word for word in row]
        ids.append([1, *(piece for word in pieces for piece in word), 2])
        words.append([-1, *(number for number, word in enumerate(pieces) for _ in word), -1])
    return pack(ids, words, sample_ids)
