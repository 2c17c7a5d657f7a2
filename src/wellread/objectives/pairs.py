"""Two segments in a sample, and whether they belong so: sentence order and next sentence, as ablations.

Next-sentence prediction (NSP): does the second segment follow the first, or does it come from elsewhere in
the corpus (Devlin et al., 2019, arXiv 1810.04805)?  Sentence-order prediction (SOP): are two consecutive
segments in their order (Lan et al., 2020, arXiv 1909.11942)?  Half of the samples are changed.

A sample [CLS] text [SEP] becomes [CLS] first [SEP] second [SEP].  It stays as long as it was: the text loses
its last token.  All is a pure function of (seed, epoch, sample).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from wellread import rng
from wellread.errors import RecipeError
from wellread.models.build import seeded
from wellread.objectives.masking import ranges
from wellread.tokens.batch import PackedBatch
from wellread.tokens.store import Store

if TYPE_CHECKING:
    from wellread.pretrain.auxiliary import Auxiliary

SHORTEST = 16  # tokens of text in a sample that is made a pair
NAME = "pairs"


def auxiliary(
    kind: Literal["sop", "nsp"], hidden: int, tokenizer: Any, tokens: Path | None, seed: int
) -> Auxiliary:
    """The loss: from the first token's last state, whether a pair was changed.

    Args:
        kind: which of the two.
        hidden: width of the model.
        tokenizer: of the model.
        tokens: folder of the token stores; None leaves pairs unchanged (probes of speed).
        seed: the run's.

    Raises:
        RecipeError: the tokenizer puts no [CLS] before and [SEP] after a text.
    """
    from wellread.pretrain.auxiliary import Auxiliary, Seen

    if tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
        raise RecipeError(
            "the tokenizer has no [CLS] and [SEP], between which pairs stand",
            where="pretrain.pairs",
            fix="leave it out, or take a tokenizer that has them",
        )
    store = Store.open(Path(tokens) / "train") if tokens is not None else None
    stops = [number for piece, number in tokenizer.get_vocab().items() if piece in (".", "?", "!")]
    with seeded(rng.derive(seed, "pairs head")):
        head = nn.Linear(hidden, 2)

    def prepare(batch: PackedBatch, epoch: int) -> PackedBatch:
        return pair(batch, kind, tokenizer.sep_token_id, np.array(stops), store, seed, epoch)

    def loss(model: Any, seen: Seen) -> Tensor:
        answers = torch.from_numpy(labels(seen.batch, seed, seen.epoch)).to(seen.hidden.device)
        first = seen.hidden[seen.batch.cu_seqlens[:-1].long()]
        logits = model.auxiliary[NAME](first).float()
        total = F.cross_entropy(logits, answers, ignore_index=-1, reduction="sum")
        return total / max(1.0, seen.step.samples)

    return Auxiliary(NAME, 1.0, loss, head, prepare)


def labels(batch: PackedBatch, seed: int, epoch: int) -> np.ndarray:
    """(S,) int64: 1 where a sample's pair is changed, 0 where it is not, -1 where it is too short for one."""
    text = np.array(batch.lengths) - 2
    drawn = rng.bits(seed, "pairs", epoch, batch.sample_ids.cpu().numpy()) & np.uint64(1)
    return np.where(text >= SHORTEST, drawn.astype(np.int64), -1)


def pair(
    batch: PackedBatch,
    kind: Literal["sop", "nsp"],
    sep: int,
    stops: np.ndarray,
    store: Store | None,
    seed: int,
    epoch: int,
) -> PackedBatch:
    """Cut each sample in two, with [SEP] between, and change those that are drawn.

    The cut is after the full stop nearest to the middle, or at the word nearest to it.

    Args:
        batch: samples between [CLS] and [SEP], on the CPU.
        kind: "sop" swaps the segments, "nsp" takes the second from elsewhere in the store.
        sep: id of [SEP].
        stops: ids of the tokens that end sentences.
        store: the corpus; without it the second segment stays.
        seed: the run's seed.
        epoch: the pass over the data.
    """
    ids, words = batch.input_ids.numpy().copy(), batch.word_ids.numpy().copy()
    types = np.zeros(batch.tokens, np.int64)
    changed, samples = labels(batch, seed, epoch), batch.sample_ids.numpy()
    for number, (start, stop) in enumerate(
        zip(batch.cu_seqlens.tolist(), batch.cu_seqlens.tolist()[1:], strict=False)
    ):
        if changed[number] < 0:
            continue
        inside = slice(start + 1, stop - 2)  # without the last token, in whose place [SEP] comes
        text, word = ids[inside].copy(), words[inside].copy()
        cut = _cut(text, word, stops)
        parts = [(text[:cut], word[:cut]), (text[cut:], word[cut:])]
        if changed[number] and kind == "sop":
            parts.reverse()
        elif changed[number] and store is not None:
            parts[1] = _elsewhere(store, len(text) - cut, seed, epoch, int(samples[number]))
        first, second = (np.unique(part, return_inverse=True)[1] for _, part in parts)
        ids[start + 1 : stop - 1] = np.concatenate([parts[0][0], [sep], parts[1][0]])
        words[start + 1 : stop - 1] = np.concatenate([first, [-1], second + first[-1] + 1])
        types[start + len(first) + 2 : stop] = 1
    return replace(
        batch,
        input_ids=torch.from_numpy(ids),
        word_ids=torch.from_numpy(words),
        token_type_ids=torch.from_numpy(types),
    )


def _cut(text: np.ndarray, word: np.ndarray, stops: np.ndarray) -> int:
    """Where the second segment begins: the word nearest to the middle, if possible after a full stop."""
    begins = np.flatnonzero(word[1:] != word[:-1]) + 1
    ends = begins[np.isin(text[begins - 1], stops)]
    options = ends if len(ends) else begins
    if not len(options):
        return len(text) // 2
    return int(options[np.argmin(np.abs(options - len(text) / 2))])


def _elsewhere(store: Store, size: int, seed: int, epoch: int, sample: int) -> tuple[np.ndarray, np.ndarray]:
    """So many tokens from a random place of the corpus, and numbers of their words."""
    place = int(rng.bits(seed, "pairs elsewhere", epoch, sample) % np.uint64(max(1, store.n_tokens - size)))
    index = ranges(np.array([place]), np.array([size])) % store.n_tokens
    ids, begins = store.gather(index)
    return ids, np.cumsum(begins)
