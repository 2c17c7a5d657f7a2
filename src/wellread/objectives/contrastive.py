"""Contrastive spans beside the language model: near spans get near embeddings (DeCLUTR).

Giorgi et al., 2021, "DeCLUTR: Deep contrastive learning for unsupervised textual representations" (arXiv
2006.03659).  Of each sample an anchor span and spans near it are read in a pass of their own; the anchor's
embedding (the mean of its last states) is to be nearer to theirs than to those of all other samples of the
part.  Which spans is a pure function of (seed, epoch, sample).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from wellread import rng
from wellread.models.heads import mean_states
from wellread.models.packed import hidden_states
from wellread.objectives.masking import ranges
from wellread.settings import ModelSettings
from wellread.sparsity.flops import step_flops
from wellread.tokens.batch import PackedBatch

if TYPE_CHECKING:
    from wellread.pretrain.auxiliary import Auxiliary, Seen

NAME = "contrastive"
TEMPERATURE = 0.05
POSITIVES = 2  # spans near each anchor
SHORTEST_SAMPLE = 32  # tokens of text in a sample from which spans are taken
SHORTEST = 8  # tokens of a span
LONGEST_SHARE = 2  # a span is at most the sample's text over this
SPREAD = 16  # the longest span over the shortest, in long samples


class Spans(NamedTuple):
    """Spans of S samples, in tokens from the beginning of each sample's text; the anchor comes first.

    Attributes:
        first: (S, 1 + POSITIVES) int64, where each begins.
        size: (S, 1 + POSITIVES) int64, its tokens.
    """

    first: np.ndarray
    size: np.ndarray


def auxiliary(
    weight: float, model: ModelSettings, vocab: int, mask_rate: float, seed: int, level: float = 0.0
) -> Auxiliary:
    """The loss, without parameters of its own.

    Args:
        weight: of the loss.
        model: the architecture.
        vocab: size of the vocabulary.
        mask_rate: share of the tokens that the language model predicts.
        seed: the run's.
        level: share of zeros in the model's matrices.
    """
    from wellread.pretrain.auxiliary import Auxiliary

    def loss(model: Any, seen: Seen) -> Tensor:
        batch, found = cut(seen.batch, seen.prediction.inputs, seed, seen.epoch)
        if not found:
            return seen.hidden.sum() * 0.0
        embeddings = mean_states(hidden_states(model, batch), batch.lengths)
        anchors, near = embeddings[:found], embeddings[found:].unflatten(0, (found, POSITIVES)).mean(1)
        return nt_xent(anchors, near, TEMPERATURE) * (seen.batch.sequences / max(1.0, seen.step.samples))

    dense, accounted = passes(model, vocab, mask_rate, level)
    return Auxiliary(NAME, weight, loss, passes=dense, accounted=accounted)


def passes(model: ModelSettings, vocab: int, mask_rate: float, level: float) -> tuple[float, float]:
    """(dense, accounted) FLOPs of the spans as shares of the language model's, for samples of full length."""
    longest = model.max_length // LONGEST_SHARE
    shortest = min(longest, max(SHORTEST, longest // SPREAD))
    lengths = [round(shortest + share * (longest - shortest)) for share in (4 / 6, *[2 / 6] * POSITIVES)]
    whole = step_flops(model, vocab, [model.max_length], round(mask_rate * model.max_length), level)
    spans = step_flops(model, vocab, lengths, 0, level)
    return spans[0] / whole[0], spans[1] / whole[1]


def draw(sizes: np.ndarray, samples: np.ndarray, seed: int, epoch: int) -> Spans:
    """Spans of samples with ``sizes`` tokens of text, each of SHORTEST_SAMPLE at least.

    Anchors are shortest + Beta(4, 2) x (longest - shortest) tokens long, positives Beta(2, 4) as much, and
    begin anywhere from a positive's length before the anchor to the anchor's end: they overlap it, touch it
    or lie within.

    Args:
        sizes: (S,) int64.
        samples: (S,) identities.
        seed: the run's seed.
        epoch: the pass over the data.
    """
    longest = sizes[:, None] // LONGEST_SHARE
    shortest = np.minimum(longest, np.maximum(SHORTEST, longest // SPREAD))
    spans = np.arange(1 + POSITIVES)
    # The k-th smallest of five uniforms is Beta(k, 6 - k).
    uniforms = rng.uniform(
        seed, "contrastive length", epoch, samples[:, None, None], spans[:, None], np.arange(5)
    )
    uniforms.sort(axis=-1)
    share = np.where(spans == 0, uniforms[..., 3], uniforms[..., 1])
    size = shortest + np.floor(share * (longest - shortest + 1)).astype(np.int64)
    begin = rng.uniform(seed, "contrastive place", epoch, samples[:, None], spans)
    anchor = np.floor(begin[:, :1] * (sizes[:, None] - size[:, :1] + 1)).astype(np.int64)
    low = np.maximum(0, anchor - size)
    high = np.minimum(anchor + size[:, :1], sizes[:, None] - size)
    near = low + np.floor(begin * (high - low + 1)).astype(np.int64)
    return Spans(np.where(spans == 0, anchor, near), size)


def cut(batch: PackedBatch, masked: PackedBatch, seed: int, epoch: int) -> tuple[PackedBatch, int]:
    """The spans of a batch, each between the special tokens of its sample: N anchors, then N x POSITIVES.

    Anchors are read as they were masked, positives as they are.

    Args:
        batch: the samples.
        masked: the same tokens as the language model reads them; where it reads others, anchors are plain.
        seed: the run's seed.
        epoch: the pass over the data.

    Returns:
        the spans, and N, which is 0 where all samples are too short.
    """
    starts = batch.cu_seqlens.cpu().numpy().astype(np.int64)
    text = batch.word_ids.cpu().numpy() >= 0
    before = np.append(0, np.cumsum(text))
    has = before[starts[1:]] > before[starts[:-1]]
    places = np.append(np.flatnonzero(text), 0)
    head = np.where(has, places[before[starts[:-1]]], starts[:-1])
    tail = np.where(has, places[before[starts[1:]] - 1] + 1, starts[:-1])
    used = np.flatnonzero(tail - head >= SHORTEST_SAMPLE)
    if not len(used):
        return batch, 0
    spans = draw((tail - head)[used], batch.sample_ids.cpu().numpy()[used], seed, epoch)
    # (sample, span) of each: all anchors, then the positives of each sample.
    rows = np.concatenate([np.arange(len(used)), np.repeat(np.arange(len(used)), POSITIVES)])
    columns = np.concatenate([np.zeros(len(used), np.int64), np.tile(1 + np.arange(POSITIVES), len(used))])
    owner, size = used[rows], spans.size[rows, columns]
    begin = head[owner] + spans.first[rows, columns]
    parts = np.stack([starts[owner], begin, tail[owner]], 1)  # special tokens, text, special tokens
    sizes = np.stack([head[owner] - starts[owner], size, starts[owner + 1] - tail[owner]], 1)
    index = ranges(parts.reshape(-1), sizes.reshape(-1))
    lengths = sizes.sum(1)
    ends = np.append(0, np.cumsum(lengths))
    device = batch.input_ids.device
    at = torch.from_numpy(index).to(device)
    ids = batch.input_ids[at]
    if masked.tokens == batch.tokens:
        anchors = int(ends[len(used)])
        ids = torch.cat([masked.input_ids[at[:anchors]], ids[anchors:]])
    positions = np.arange(ends[-1]) - np.repeat(ends[:-1], lengths)
    read = replace(
        batch,
        input_ids=ids,
        cu_seqlens=torch.from_numpy(ends.astype(np.int32)).to(device),
        position_ids=torch.from_numpy(positions).to(device),
        word_ids=batch.word_ids[at],
        sample_ids=batch.sample_ids[torch.from_numpy(owner).to(device)],
        token_type_ids=None,
        document_ids=None,
    )
    return read, len(used)


def nt_xent(anchors: Tensor, positives: Tensor, temperature: float) -> Tensor:
    """The normalised, temperature-scaled cross-entropy of N pairs, mean over both directions.

    For vector i of all 2N, with partner j: -log(exp(s_ij / t) / sum over k != i of exp(s_ik / t)), s the
    cosine (Chen et al., 2020, arXiv 2002.05709).

    Args:
        anchors: (N, d).
        positives: (N, d), the partner of each.
        temperature: t.

    Returns:
        a float32 scalar; 0 for a single pair.
    """
    vectors = F.normalize(torch.cat([anchors, positives]).float(), dim=-1)
    number = torch.arange(len(vectors), device=vectors.device)
    logits = vectors @ vectors.T / temperature
    logits = logits.masked_fill(number[:, None] == number, -torch.inf)
    return F.cross_entropy(logits, (number + len(anchors)) % len(vectors))
