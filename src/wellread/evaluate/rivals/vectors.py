"""Static word vectors of the user's own corpus: positive pointwise mutual information, cut down by an SVD.

Levy, Goldberg and Dagan, "Improving distributional similarity with lessons learned from word embeddings"
(TACL 2015): a window that weighs near words more, context counts raised to 0.75, singular vectors times the
root of the singular values.  Two passes over the text, in bounded memory; the same text gives the same bits.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from wellread import files
from wellread.errors import ArtefactError, DataError
from wellread.progress import Progress

WORDS = 20_000  # of the vocabulary, the most frequent ones
DIMENSIONS = 200
WINDOW = 5
SMOOTHING = 0.75
LEAST_COUNT = 3
DISTINCT = 2_000_000  # words counted before those seen once are forgotten
PENDING = 4_000_000  # neighbour pairs gathered before they are added up
MOST_PAIRS = 30_000_000  # distinct pairs kept; past that the rarest go (12 bytes each)
FREQUENT = 1e-3  # words this frequent get half the weight in a mean (Arora et al., 2017: SIF)

_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Vectors:
    """Word vectors.

    Attributes:
        place: row of each word.
        rows: (V + 1, d) float32, centred; the last row, of zeros, stands for any other word.
        weights: (V + 1,) float32 of each word in a mean over a text.
        bytes: of the files.
    """

    place: dict[str, int]
    rows: np.ndarray
    weights: np.ndarray
    bytes: int


def words(text: str) -> list[str]:
    """Lower-cased words and single punctuation marks."""
    return _WORD.findall(text.lower())


def train(texts: Callable[[], Iterable[str]], folder: Path, *, total: int | None = None, quiet: bool) -> None:
    """Learn vectors and write words.txt, counts.npy and vectors.npy.

    Args:
        texts: gives the documents anew for each of two passes.
        folder: where to write.
        total: number of documents, for the progress.
        quiet: say nothing.

    Raises:
        DataError: the texts have fewer than two words that occur often enough.
    """
    counts = _count(_watched(texts(), "static vectors: words", total, quiet))
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:WORDS]
    ranked = [(word, count) for word, count in ranked if count >= LEAST_COUNT]
    if len(ranked) < 2:
        raise DataError("too little text to learn word vectors from", where="corpus", fix="add text")
    place = {word: number for number, (word, _) in enumerate(ranked)}
    pairs = _neighbours(_watched(texts(), "static vectors: neighbours", total, quiet), place)
    frequency = np.array([count for _, count in ranked], dtype=np.int64)
    files.write_bytes(folder / "words.txt", "\n".join(place).encode())
    np.save(folder / "counts.npy", frequency, allow_pickle=False)
    np.save(folder / "vectors.npy", _reduced(_ppmi(pairs), frequency), allow_pickle=False)


def load(folder: Path) -> Vectors:
    """The vectors that :func:`train` wrote.

    Raises:
        ArtefactError: a file is missing or damaged.
    """
    try:
        names = (folder / "words.txt").read_text("utf-8").split("\n")
        counts = np.load(folder / "counts.npy", allow_pickle=False)
        rows = np.load(folder / "vectors.npy", allow_pickle=False)
        size = sum((folder / name).stat().st_size for name in ("words.txt", "vectors.npy"))
    except (OSError, ValueError) as error:
        raise ArtefactError(
            f"the word vectors cannot be read ({type(error).__name__})",
            where=str(folder),
            fix="delete the folder and run again",
        ) from None
    weights = np.append(FREQUENT / (FREQUENT + counts / counts.sum()), 0.0)
    rows = np.concatenate([rows, np.zeros((1, rows.shape[1]), dtype=np.float32)])
    place = {name: number for number, name in enumerate(names)}
    return Vectors(place, rows, weights.astype(np.float32), size)


def _watched(texts: Iterable[str], label: str, total: int | None, quiet: bool) -> Iterator[str]:
    with Progress(label, total, "documents", quiet=quiet) as progress:
        for text in texts:
            yield text
            progress.advance(1)


def _count(texts: Iterable[str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(words(text))
        least = 1
        while len(counts) > DISTINCT:
            counts = Counter({word: count for word, count in counts.items() if count > least})
            least *= 2
    return counts


def _neighbours(texts: Iterable[str], place: dict[str, int]) -> csr_matrix:
    """(V, V) float32: how often words stand near each other, nearer ones weighing more; symmetric."""
    size = len(place)
    pairs = csr_matrix((size, size), dtype=np.float32)
    waiting: list[tuple[np.ndarray, float]] = []
    pending = 0
    for text in texts:
        ids = np.array([place.get(word, -1) for word in words(text)], dtype=np.int64)
        for distance in range(1, WINDOW + 1):
            left, right = ids[:-distance], ids[distance:]
            seen = (left >= 0) & (right >= 0)
            waiting.append((left[seen] * size + right[seen], (WINDOW + 1 - distance) / WINDOW))
            pending += len(waiting[-1][0])
        if pending >= PENDING:
            pairs, waiting, pending = _added(pairs, waiting), [], 0
    pairs = _added(pairs, waiting)
    return csr_matrix(pairs + pairs.T)


def _added(pairs: csr_matrix, waiting: list[tuple[np.ndarray, float]]) -> csr_matrix:
    size = pairs.shape[0]
    if not waiting:
        return pairs
    keys = np.concatenate([keys for keys, _ in waiting])
    weights = np.concatenate([np.full(len(keys), weight) for keys, weight in waiting])
    distinct, where = np.unique(keys, return_inverse=True)
    sums = np.bincount(where, weights=weights, minlength=len(distinct)).astype(np.float32)
    pairs = csr_matrix(pairs + csr_matrix((sums, (distinct // size, distinct % size)), shape=pairs.shape))
    least = 1.0
    while pairs.nnz > MOST_PAIRS:
        pairs.data[pairs.data <= least] = 0
        pairs.eliminate_zeros()
        least *= 2
    return pairs


def _ppmi(pairs: csr_matrix) -> csr_matrix:
    """max(0, log(p(w, c) / (p(w) p(c)))), with the context's probability smoothed."""
    word = np.asarray(pairs.sum(axis=1, dtype=np.float64)).ravel()
    context = word**SMOOTHING
    context /= context.sum()
    found = pairs.tocoo()
    with np.errstate(divide="ignore"):
        values = np.log(found.data.astype(np.float64)) - np.log(word[found.row] * context[found.col])
    values = np.maximum(values, 0.0).astype(np.float32)
    made = csr_matrix((values, (found.row, found.col)), shape=pairs.shape)
    made.eliminate_zeros()
    return made


def _reduced(matrix: csr_matrix, counts: np.ndarray) -> np.ndarray:
    """(V, d) float32: singular vectors times the root of the singular values, less their weighted mean."""
    from sklearn.utils.extmath import randomized_svd
    from threadpoolctl import threadpool_limits

    size = min(DIMENSIONS, matrix.shape[0] - 1)
    with threadpool_limits(1):
        left, values, _ = randomized_svd(matrix, size, n_iter=3, random_state=0)
    rows = left * np.sqrt(values)
    weights = counts * FREQUENT / (FREQUENT + counts / counts.sum())
    return (rows - (weights @ rows) / weights.sum()).astype(np.float32)
