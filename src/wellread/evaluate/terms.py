"""Term recall@1: how often a masked language model says a field's term right where all of it is hidden.

Losses of token predictions are ruled by function words; this asks for what a specialist should know.  Terms
that a mask policy was given must not be asked for, so a list is divided by head words: "lung neoplasms" and
"breast neoplasms" lie on the same side.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wellread import rng
from wellread.models import build, packed
from wellread.models.heads import lm_logits
from wellread.objectives import masking, mlm
from wellread.objectives.units import phrases, words
from wellread.objectives.units.phrases import Phrases
from wellread.tokens import tokenizer as tokenizers
from wellread.tokens.packing import assemble, cut
from wellread.tokens.store import Store

MOST = 2_000  # occurrences that are asked for
MOST_OF_ONE = 20  # of them of the same term, lest a few frequent ones decide
BATCH_TOKENS = 4_096


@dataclass(frozen=True)
class Occurrences:
    """Where terms stand in a store's samples, K in all, sample by sample.

    Attributes:
        starts, lengths: (samples,) int64, as :func:`wellread.tokens.packing.cut` gives them.
        sample: (K,) int64 number of the sample.
        position: (K,) int64 first token of the term within it, special tokens counted.
        size: (K,) int64 its tokens.
        terms: number of different terms.
    """

    starts: np.ndarray
    lengths: np.ndarray
    sample: np.ndarray
    position: np.ndarray
    size: np.ndarray
    terms: int


@dataclass(frozen=True)
class Recall:
    """Shares of K occurrences.

    Attributes:
        whole: terms of which every token was right.
        tokens: of their tokens, those that were right.
        count: K.
    """

    whole: float
    tokens: float
    count: int


def divide(terms: list[str]) -> tuple[list[str], list[str]]:
    """Two halves of a list, for masking and for asking; terms with the same head word lie together.

    The head is the last word, of an inverted name ("Arthritis, Rheumatoid") the last before the comma.
    """
    halves: tuple[list[str], list[str]] = ([], [])
    for term in terms:
        head = term.split(",")[0].split()[-1:] or [""]
        halves[rng.derive(0, f"head word {head[0].lower()}") & 1].append(term)
    return halves


def find(
    store: Store, listed: Phrases, max_length: int, most: int = MOST, most_of_one: int = MOST_OF_ONE
) -> Occurrences:
    """Occurrences of listed terms, the longest where they overlap; a fixed random choice of them.

    Args:
        store: the held-out text.
        listed: terms, as :func:`wellread.objectives.units.lexicon.encode` gives them.
        max_length: longest sample in tokens, special tokens included.
        most: occurrences in all.
        most_of_one: occurrences of one term.
    """
    special = len(store.prefix) + len(store.suffix)
    starts, lengths, _ = cut(np.asarray(store.offsets), max_length - special)
    found: list[np.ndarray] = [np.empty((0, 4), np.uint64)]
    for part in np.array_split(np.arange(len(starts)), max(1, len(starts) // 256)):
        if len(part):
            found.append(_in_batch(store, starts, lengths, part, listed))
    rows = np.concatenate(found)
    rows = rows[np.argsort(rng.bits(0, "occurrence", rows[:, 1], rows[:, 2]), kind="stable")]
    # How many of the same term come before each, in this order.
    order = np.argsort(rows[:, 0], kind="stable")
    _, sizes = np.unique(rows[order, 0], return_counts=True)
    rank = np.empty(len(rows), np.int64)
    rank[order] = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    rows = rows[rank < most_of_one][:most]
    rows = rows[np.lexsort((rows[:, 2], rows[:, 1]))]
    sample, position, size = rows[:, 1:].astype(np.int64).T
    return Occurrences(starts, lengths, sample, position, size, len(np.unique(rows[:, 0])))


def _in_batch(
    store: Store, starts: np.ndarray, lengths: np.ndarray, samples: np.ndarray, listed: Phrases
) -> np.ndarray:
    """(K, 4) uint64: hash of the term, sample, position and size of each occurrence in some samples."""
    text = masking.read(assemble(store, starts, lengths, samples), 0, 0)
    first, count = phrases.longest(text, listed)
    term = np.zeros(len(first), np.uint64)
    for n, here in phrases.grams(phrases.of_text(text)[0], max(listed, default=0)):
        term[count == n] = here[first[count == n]]
    units = words.runs(text, first, count)
    columns = (term, text.sample[units.first], text.position[units.first], units.size)
    return np.stack([column.astype(np.uint64) for column in columns], axis=1)


@torch.inference_mode()
def recall(folder: Path, store: Store, asked: Occurrences) -> Recall:
    """Hide each occurrence in turn, alone in its sample, and take the likeliest token at each of its places.

    Args:
        folder: a masked language model with its tokenizer.
        store: the text in which the occurrences were found.
        asked: K occurrences, at least one.
    """
    model: Any = packed.enable(build.load(folder, "mlm")).eval()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    mask = int(tokenizers.load(folder).mask_token_id)
    whole, right = 0, 0
    for part in _batches(store, asked):
        batch = assemble(store, asked.starts, asked.lengths, asked.sample[part])
        first = batch.cu_seqlens[:-1].numpy() + asked.position[part]
        places = torch.from_numpy(masking.ranges(first, asked.size[part]))
        prediction = mlm.predict(batch, places, mask).to(device)
        hidden = packed.hidden_states(model, prediction.inputs)[prediction.positions]
        found = (lm_logits(model, hidden).argmax(-1) == prediction.targets).cpu().numpy()
        whole += int(np.logical_and.reduceat(found, np.cumsum(asked.size[part]) - asked.size[part]).sum())
        right += int(found.sum())
    count = len(asked.sample)
    return Recall(whole / count, right / int(asked.size.sum()), count)


def _batches(store: Store, asked: Occurrences) -> list[np.ndarray]:
    """Numbers of the occurrences, in parcels of about BATCH_TOKENS tokens."""
    special = len(store.prefix) + len(store.suffix)
    ends = np.cumsum(asked.lengths[asked.sample] + special)
    return np.split(np.arange(len(ends)), np.flatnonzero(np.diff(ends // BATCH_TOKENS)) + 1)
