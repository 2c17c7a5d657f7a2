"""A part of the field's documents to train on for several passes: drawn at random, or the best ones.

Guo et al., "Efficient Continual Pre-training by Mitigating the Stability Gap" (arXiv 2406.14833): a smaller
text read several times disturbs a model less than a single pass over a large one, and a better text less.
The best are those that a trigram model of a trusted text finds likely.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from wellread import files, rng
from wellread.errors import ArtefactError
from wellread.tokens import trigrams
from wellread.tokens.store import Store

# Short or symbol-laden boilerplate is likely under any model; such documents come after all others.
SHORTEST = 32  # tokens
MOST_SYMBOLS = 0.5  # share of tokens without a letter
VERSION = 1


def choose(
    store: Store, share: float, seed: int, reference: Store | None, tokenizer: Any, folder: Path
) -> np.ndarray:
    """Choose whole documents; a choice made before is read again.

    Args:
        store: all documents.
        share: of their tokens that is kept; the document that reaches it is the last.
        seed: of a random choice.
        reference: trusted text by which documents are ranked; None draws them at random.
        tokenizer: of both stores.
        folder: where the choice is kept.

    Returns:
        Ascending numbers of documents.
    """
    wanted = {
        "version": VERSION,
        "store_sha256": store.sha256,
        "share": share,
        "seed": seed,
        "reference_sha256": reference.sha256 if reference else None,
    }
    try:
        if files.read_json(folder / "subset.json") == wanted:
            return np.load(folder / "subset.npy", allow_pickle=False)
    except (ArtefactError, OSError, ValueError):
        pass
    order = np.argsort(rng.bits(seed, "subset", np.arange(store.n_documents)), kind="stable")
    if reference is not None:
        order = ranked(store, reference, tokenizer)
    chosen = first_tokens(order, np.asarray(store.offsets), share)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "subset.npy", chosen)
    files.write_json(folder / "subset.json", wanted)
    return chosen


def ranked(store: Store, reference: Store, tokenizer: Any) -> np.ndarray:
    """(documents,) numbers of all documents, the likeliest after the reference text first."""
    surprise = trigrams.surprise(trigrams.learn(reference), store)
    return np.lexsort((surprise, _boilerplate(store, tokenizer)))


def first_tokens(order: np.ndarray, offsets: np.ndarray, share: float) -> np.ndarray:
    """The first documents of an order that hold a share of all tokens, as ascending numbers."""
    sizes = np.diff(offsets)[order]
    before = np.cumsum(sizes) - sizes
    return np.sort(order[before < share * sizes.sum()])


def _boilerplate(store: Store, tokenizer: Any) -> np.ndarray:
    """(documents,) whether each is too short, or has too many symbols, to be judged."""
    pieces = tokenizer.batch_decode([[number] for number in range(len(tokenizer))])
    symbol = np.array([not any(letter.isalpha() for letter in piece) for piece in pieces])
    found = []
    for start, stop in zip(store.offsets[:-1].tolist(), store.offsets[1:].tolist(), strict=True):
        short = stop - start < SHORTEST
        found.append(short or symbol[store.tokens(start, stop)].mean() > MOST_SYMBOLS)
    return np.array(found, bool)
