"""Which tokens make which training step: samples, bins, and batches as a pure function of the step.

A *sample* is a piece of one document of at most ``max_length`` tokens with its special tokens.  A *bin* holds
samples of at most ``bin_tokens`` tokens in all.  A step takes a few bins.  Samples and bins are laid out once
and saved (bins.py fills them); each epoch visits the bins in another order (:func:`wellread.rng.permute`), so
any step of any epoch is found in O(1) and nothing but the step's number is ever saved.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wellread import files, rng
from wellread.errors import ArtefactError, DataError, RecipeError
from wellread.tokens.batch import PackedBatch
from wellread.tokens.bins import fill_bins
from wellread.tokens.store import Store

VERSION = 2
# The end of a long document is left out when fewer tokens than this remain: too little context to learn from.
MIN_TAIL = 8

# File name and type of each table.
_TABLES = {
    "sample_starts": np.int64,
    "sample_lengths": np.int32,
    "bin_offsets": np.int64,
    "bin_samples": np.int64,
}


@dataclass(frozen=True)
class Packing:
    """The order of a store's tokens in training.

    Attributes:
        store: the tokens.
        max_length: longest sequence, special tokens included.
        batch_tokens: most tokens in a step.
        bin_tokens: most tokens in a bin.
        seed: chooses the bins and their order.
        sample_starts: (samples,) int64, first token of each sample in the store.
        sample_lengths: (samples,) int32, tokens of each sample without special tokens.
        bin_offsets: (bins + 1,) int64, where each bin begins in ``bin_samples``.
        bin_samples: (binned,) int64, every sample (of the documents that are read) once, bin after bin.
        dropped_tokens: tokens in ends of documents too short to keep.
        tokens_per_epoch: tokens of all samples, special tokens included.
    """

    store: Store
    max_length: int
    batch_tokens: int
    bin_tokens: int
    seed: int
    sample_starts: np.ndarray
    sample_lengths: np.ndarray
    bin_offsets: np.ndarray
    bin_samples: np.ndarray
    dropped_tokens: int
    tokens_per_epoch: int

    @property
    def n_samples(self) -> int:
        """Number of samples that are read."""
        return len(self.bin_samples)

    @property
    def n_bins(self) -> int:
        """Number of bins."""
        return len(self.bin_offsets) - 1

    @property
    def steps_per_epoch(self) -> int:
        """Steps that visit every bin once; bins are shared out evenly, so no step is a short one.

        Raises:
            DataError: the store holds no token.
        """
        if not self.n_bins:
            raise DataError(
                "the token store holds no token",
                where=str(self.store.folder),
                fix="check corpus.sources, corpus.min_words and corpus.languages",
            )
        return -(-self.n_bins // (self.batch_tokens // self.bin_tokens))

    @property
    def mean_tokens_per_step(self) -> float:
        """Tokens in a step, special tokens included, on average."""
        return self.tokens_per_epoch / self.steps_per_epoch

    @property
    def fill(self) -> float:
        """Share of the bins' room that holds tokens."""
        return self.tokens_per_epoch / max(1, self.n_bins * self.bin_tokens)

    def epoch(self, step: int) -> int:
        """The epoch, from 0, in which a step lies."""
        return step // self.steps_per_epoch

    def samples(self, step: int) -> np.ndarray:
        """(S,) the samples of a step (from 0, counted over all epochs): a pure function of (seed, step)."""
        epoch, place = divmod(step, self.steps_per_epoch)
        first = place * self.n_bins // self.steps_per_epoch
        last = (place + 1) * self.n_bins // self.steps_per_epoch
        positions = np.arange(first, last)
        return self._contents(rng.permute(positions, self.n_bins, self.seed, "order", epoch))

    def sizes(self, samples: np.ndarray) -> np.ndarray:
        """(S,) int64 tokens of each sample, special tokens included."""
        special = len(self.store.prefix) + len(self.store.suffix)
        return self.sample_lengths[samples].astype(np.int64) + special

    def assemble(self, samples: np.ndarray) -> PackedBatch:
        """The given samples end to end."""
        return assemble(self.store, self.sample_starts, self.sample_lengths, samples)

    def batch(self, step: int) -> PackedBatch:
        """The whole batch of a step."""
        return self.assemble(self.samples(step))

    def validation_batches(self) -> Iterator[PackedBatch]:
        """Every sample once, in an order that never changes, in batches of at most ``batch_tokens``."""
        width = self.batch_tokens // self.bin_tokens
        for first in range(0, self.n_bins, width):
            yield self.assemble(self._contents(np.arange(first, min(first + width, self.n_bins))))

    def _contents(self, bins: np.ndarray) -> np.ndarray:
        return np.concatenate(
            [self.bin_samples[self.bin_offsets[number] : self.bin_offsets[number + 1]] for number in bins]
        )


def assemble(store: Store, starts: np.ndarray, lengths: np.ndarray, samples: np.ndarray) -> PackedBatch:
    """Lay the given samples end to end, each between its special tokens.

    Args:
        store: the tokens.
        starts: (N,) first token of every sample in the store.
        lengths: (N,) tokens of every sample, at least 1.
        samples: (S,) numbers of those wanted.
    """
    import torch

    inner = lengths[samples].astype(np.int64)
    head, tail = len(store.prefix), len(store.suffix)
    sizes = inner + head + tail
    ends = np.concatenate([[0], np.cumsum(sizes)])
    position_ids = np.arange(ends[-1]) - np.repeat(ends[:-1], sizes)
    is_text = (position_ids >= head) & (position_ids < np.repeat(head + inner, sizes))
    input_ids = np.empty(ends[-1], np.int64)
    for place, token in enumerate(store.prefix):
        input_ids[ends[:-1] + place] = token
    for place, token in enumerate(store.suffix):
        input_ids[ends[1:] - tail + place] = token
    index = np.repeat(starts[samples] - head, sizes)[is_text] + position_ids[is_text]
    input_ids[is_text], begins = store.gather(index)
    words = np.cumsum(begins)
    documents = np.searchsorted(store.offsets, starts[samples], side="right") - 1
    firsts = np.cumsum(inner) - inner
    word_ids = np.full(ends[-1], -1, np.int64)
    # A sample may begin within a word; its first token then belongs to word 0 all the same.
    word_ids[is_text] = words - np.repeat(words[firsts], inner)
    return PackedBatch(
        input_ids=torch.from_numpy(input_ids),
        cu_seqlens=torch.from_numpy(ends.astype(np.int32)),
        position_ids=torch.from_numpy(position_ids),
        word_ids=torch.from_numpy(word_ids),
        sample_ids=torch.from_numpy(np.asarray(samples, np.int64)),
        document_ids=torch.from_numpy(documents),
    )


def plan(
    store: Store,
    max_length: int,
    batch_tokens: int,
    n_special: int,
    seed: int,
    folder: Path,
    documents: np.ndarray | None = None,
) -> Packing:
    """Cut a store into samples, put them into bins, and save the tables; saved ones that fit are reused.

    Args:
        store: the tokens.
        max_length: longest sequence in tokens, special tokens included.
        batch_tokens: most tokens in a step; it is divided into as many bins of at least 2 x max_length as
            it can hold.
        n_special: special tokens that the tokenizer puts around a sequence.
        seed: of the run.
        folder: where the tables are kept.
        documents: ascending numbers of those that are read; default all.  Samples keep their numbers.

    Raises:
        ArtefactError: the store was made with a tokenizer that puts other special tokens around a sequence.
        RecipeError: a sequence has no room for text, or a step none for a sequence.
    """
    folder = Path(folder)
    if n_special != len(store.prefix) + len(store.suffix):
        raise ArtefactError(
            f"the store puts {len(store.prefix) + len(store.suffix)} special tokens around a sequence, the "
            f"tokenizer {n_special}",
            where=str(store.folder),
            fix="tokenise the text again with this tokenizer",
        )
    wanted = {
        "version": VERSION,
        "store_sha256": store.sha256,
        "max_length": max_length,
        "batch_tokens": batch_tokens,
        "seed": seed,
    }
    if documents is not None:
        wanted["documents_sha256"] = files.sha256_bytes(documents.astype(np.int64).tobytes())
    saved = _load(store, wanted, folder)
    if saved is not None:
        return saved
    if max_length <= n_special or batch_tokens < max_length:
        raise RecipeError(
            f"no room: max_length {max_length}, {n_special} special tokens, batch_tokens {batch_tokens}",
            where="model.max_length, pretrain.batch_tokens",
            fix="raise max_length, or batch_tokens to max_length at least",
        )
    tables, facts = _lay(store, max_length, batch_tokens, seed, documents)
    _save(tables, wanted | facts, folder)
    packing = _load(store, wanted, folder)
    if packing is None:
        raise ArtefactError("the packing just written cannot be read", where=str(folder))
    return packing


def _lay(
    store: Store, max_length: int, batch_tokens: int, seed: int, documents: np.ndarray | None
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """The tables of a packing, and the counts that are saved beside them."""
    n_special = len(store.prefix) + len(store.suffix)
    bin_tokens = batch_tokens // max(1, batch_tokens // (2 * max_length))
    starts, lengths, dropped = cut(np.asarray(store.offsets), max_length - n_special)
    chosen = _samples_of(documents, np.asarray(store.offsets), starts)
    bin_offsets, places = fill_bins(lengths[chosen] + n_special, bin_tokens, seed)
    tables = {
        "sample_starts": starts,
        "sample_lengths": lengths,
        "bin_offsets": bin_offsets,
        "bin_samples": chosen[places],
    }
    facts = {
        "bin_tokens": bin_tokens,
        "samples": len(starts),
        "binned": len(chosen),
        "bins": len(bin_offsets) - 1,
        "dropped_tokens": dropped,
        "tokens_per_epoch": int(lengths[chosen].sum()) + n_special * len(chosen),
    }
    return tables, facts


def cut(offsets: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Cut documents into consecutive samples of at most ``longest`` tokens.

    The rest of a document that was cut is left out when it is shorter than MIN_TAIL; a whole document is kept
    however short it is, unless it has no token.

    Returns:
        (samples,) int64 starts, (samples,) int64 lengths, and the number of tokens left out.
    """
    sizes = np.diff(offsets)
    counts = -(-sizes // longest)
    first_of = np.cumsum(counts) - counts
    within = np.arange(counts.sum()) - np.repeat(first_of, counts)
    starts = np.repeat(offsets[:-1], counts) + within * longest
    lengths = np.minimum(np.repeat(sizes, counts) - within * longest, longest)
    kept = (within == 0) | (lengths >= min(MIN_TAIL, longest))
    return starts[kept], lengths[kept], int(lengths[~kept].sum())


def _samples_of(documents: np.ndarray | None, offsets: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Numbers of the samples that begin in the given documents."""
    if documents is None:
        return np.arange(len(starts))
    owner = np.searchsorted(offsets, starts, side="right") - 1
    return np.flatnonzero(np.isin(owner, documents))


def _save(tables: dict[str, np.ndarray], facts: dict[str, Any], folder: Path) -> None:
    """Write the tables, and last packing.json, without which they are none."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "packing.json").unlink(missing_ok=True)
    for name, kind in _TABLES.items():
        np.save(folder / f"{name}.npy", tables[name].astype(kind))
    files.write_json(folder / "packing.json", facts)


def _load(store: Store, wanted: dict[str, Any], folder: Path) -> Packing | None:
    """The packing saved in ``folder`` if it is whole and is the one wanted."""
    try:
        facts = files.read_json(folder / "packing.json")
        if any(facts.get(key) != value for key, value in wanted.items()):
            return None
        tables = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _TABLES
        }
    except (ArtefactError, OSError, ValueError, AttributeError):
        return None
    sizes = {
        "sample_starts": facts["samples"],
        "sample_lengths": facts["samples"],
        "bin_offsets": facts["bins"] + 1,
        "bin_samples": facts["binned"],
    }
    if any(
        tables[name].shape != (size,) or tables[name].dtype != _TABLES[name] for name, size in sizes.items()
    ):
        return None
    return Packing(
        store=store,
        max_length=facts["max_length"],
        batch_tokens=facts["batch_tokens"],
        bin_tokens=facts["bin_tokens"],
        seed=facts["seed"],
        dropped_tokens=facts["dropped_tokens"],
        tokens_per_epoch=facts["tokens_per_epoch"],
        **tables,
    )
