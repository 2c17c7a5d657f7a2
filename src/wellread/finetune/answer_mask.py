"""Answer with the masked language model's own head: the word under the mask of a template.

Warner and others, "It's all in the [MASK]", arXiv 2502.03793 (ModernBERT-Large-Instruct).  An example is a
filled-in template whose answer is masked; the loss is the cross-entropy over the whole vocabulary there.  A
share of the examples is plain masked language modelling with the right answer filled in.  The answer is read
from one pass: of the words that stand for labels, the most probable one, with and without a space before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from wellread import rng
from wellread.errors import RecipeError
from wellread.finetune import batches, encode, objective, template
from wellread.finetune.encode import Encoded
from wellread.finetune.head import INFERENCE_TOKENS, Head, neighbours, precision
from wellread.finetune.objective import Objective, Split
from wellread.models import heads
from wellread.models.packed import hidden_states
from wellread.objectives import masking
from wellread.settings import AnswerSettings, FinetuneSettings
from wellread.tasks.task import LETTERS, Example, Kind
from wellread.tokens.batch import PackedBatch


@dataclass(frozen=True)
class Asked:
    """A template with its words.

    Attributes:
        template: with all spaces before {answer} that the tokenizer would not take into the answer's token.
        words: what answers, in the order of the labels.
        options: the list of labels that goes into the template, or "".
        spellings: for each label the token ids of its word, with and without a space before it.
        target: for each label the one that is right under the mask in training.
        mask: the mask token.
        mask_id: its id.
        special: ids that plain examples never mask.
    """

    template: str
    words: tuple[str, ...]
    options: str
    spellings: tuple[tuple[int, ...], ...]
    target: np.ndarray
    mask: str
    mask_id: int
    special: np.ndarray


def head(_kind: Kind, labels: tuple[str, ...], tokenizer: Any, settings: FinetuneSettings) -> Head:
    """The head that answers a classification task under a mask.

    Raises:
        RecipeError: the tokenizer has no mask, the template cannot be filled in, or a word is not
            one token.
    """
    asked = ask(labels, tokenizer, settings.answer)
    words = dict(zip(labels, asked.words, strict=True))
    return Head(
        open=lambda start, pieces, dropout, seed: heads.language_model(start, pieces, "mlm", dropout, seed),
        encode=partial(_encode, asked, tokenizer),
        fit=partial(fit, len(labels)),
        loss=partial(loss, asked, settings.answer.mlm_share, settings.answer.mlm_rate),
        logits=partial(logits, asked),
        finish=lambda _model, _goal: None,
        notes={
            "head": "mlm",
            "labels": list(labels),
            "template": asked.template,
            "words": words,
            "options": asked.options,
            "token_ids": dict(zip(labels, map(list, asked.spellings), strict=True)),
        },
    )


def ask(labels: tuple[str, ...], tokenizer: Any, settings: AnswerSettings) -> Asked:
    """Fit template and words to a tokenizer; errors as in :func:`head`."""
    text, mask = settings.template or template.DEFAULT, tokenizer.mask_token
    template.check(text, last=False)
    if mask is None:
        raise RecipeError(
            "the tokenizer has no mask token", where="finetune.head", fix='use "lm" or "classifier"'
        )
    before, gap = template.before_answer(text)
    count = [len(template.pieces(tokenizer, before + space + mask)) for space in ("", gap)]
    if count[0] != count[1]:  # the space would be a token of its own; in running text it belongs to the word
        place = text.index("{answer}")
        text = text[: place - len(gap)] + text[place:]
    words = _words(labels, tokenizer, before, template.given_words(labels, settings.words))
    spellings = [_spellings(tokenizer, before, word) for word in words]
    return Asked(
        template=text,
        words=words,
        options=template.label_options(labels, words),
        spellings=tuple(tuple(sorted(ids)) for ids in spellings),
        target=np.array([ids[0] for ids in spellings], dtype=np.int64),
        mask=mask,
        mask_id=int(tokenizer.mask_token_id),
        special=np.array(sorted(tokenizer.all_special_ids), dtype=np.int64),
    )


def fit(labels: int, _model: Any, split: Split, members: np.ndarray, class_weights: bool) -> Objective:
    """The objective of some training sequences: class weights, if any."""
    targets = split.targets[members]
    return objective.build("classify", labels, targets, class_weights=class_weights, has_bias=True)


def loss(
    asked: Asked,
    share: float,
    rate: float,
    model: Any,
    split: Split,
    index: np.ndarray,
    goal: Objective,
    seed: int,
) -> Tensor:
    """Mean over the examples of a batch: each its answer's cross-entropy, or the mean over its masked tokens.

    Args:
        asked: template and words.
        share: of the examples that are plain masked language modelling.
        rate: share of their tokens that are masked.
        model: masked language model with packed attention.
        split: the encoded examples.
        index: (B,) of the sequences.
        goal: class weights count for the answered examples.
        seed: of this step.
    """
    device = next(model.parameters()).device
    index = neighbours(split.encoded, index)
    batch, rows, _ = batches.select(split.encoded, index)
    label = split.targets[index]
    plain = rng.uniform(seed, "plain-mlm", index) < share
    batch, at, tokens = _fill_in(asked, rate, batch, rows, asked.target[label], plain, seed)
    weight = np.ones(len(index)) if goal.weights is None else goal.weights.numpy()[label].astype(np.float64)
    weight[plain] = 1.0
    owner = np.searchsorted(batch.cu_seqlens.numpy()[1:], at, side="right")
    each = weight[owner] / np.bincount(owner, minlength=len(index))[owner]
    with precision(device):
        hidden = hidden_states(model, batch.to(device))[torch.from_numpy(at).to(device)]
        found = heads.lm_logits(model, hidden)
    entropy = F.cross_entropy(found.float(), torch.from_numpy(tokens).to(device), reduction="none")
    total = torch.from_numpy((each / max(weight.sum(), 1e-12)).astype(np.float32)).to(device)
    return (entropy * total).sum()


def logits(asked: Asked, model: Any, encoded: Encoded) -> np.ndarray:
    """Log-probability of each label's word under the mask: float32 (S, labels)."""
    result = np.zeros((len(encoded.lengths), len(asked.words)), dtype=np.float32)
    device = next(model.parameters()).device
    with torch.inference_mode(), precision(device):
        for index in batches.by_length(encoded.lengths, INFERENCE_TOKENS):
            batch, rows, _ = batches.select(encoded, index)
            hidden = hidden_states(model, batch.to(device))[torch.from_numpy(rows).to(device)]
            found = heads.lm_logits(model, hidden).float().log_softmax(-1)
            columns = [found[:, list(ids)].logsumexp(-1) for ids in asked.spellings]
            result[index] = torch.stack(columns, dim=1).cpu().numpy()
    return result


def _encode(asked: Asked, tokenizer: Any, examples: Sequence[Example], max_length: int) -> Encoded:
    given = [template.fill(asked.template, example, asked.options, asked.mask) for example in examples]
    return encode.questions(tokenizer, given, max_length)


def _fill_in(
    asked: Asked,
    rate: float,
    batch: PackedBatch,
    rows: np.ndarray,
    answers: np.ndarray,
    plain: np.ndarray,
    seed: int,
) -> tuple[PackedBatch, np.ndarray, np.ndarray]:
    """What the model reads, (M,) where it is asked, and (M,) the tokens that are right there."""
    ids = batch.input_ids.numpy().copy()
    ids[rows[plain]] = answers[plain]
    inside = np.repeat(plain, batch.lengths) & ~np.isin(ids, asked.special)
    given = replace(
        batch, input_ids=torch.from_numpy(ids), word_ids=torch.from_numpy(np.where(inside, 0, -1))
    )
    chosen = masking.choose(given, rate, seed=seed, epoch=0).positions.numpy()
    hidden = ids.copy()
    hidden[chosen] = asked.mask_id
    at = np.concatenate([rows[~plain], chosen])
    right = np.concatenate([answers[~plain], ids[chosen]])
    return replace(batch, input_ids=torch.from_numpy(hidden)), at, right


def _words(labels: Sequence[str], tokenizer: Any, before: str, given: tuple[str, ...]) -> tuple[str, ...]:
    """The recipe's words; else the labels, else the same in small letters, else A, B, ...: what will do."""
    small = tuple(label.lower() for label in labels)
    tried = [given] if given else [tuple(labels), small, LETTERS[: len(labels)]]
    for words in tried:
        found = [_spellings(tokenizer, before, word) for word in words]
        flat = [token for ids in found for token in ids]
        if len(words) == len(labels) and all(found) and len(set(flat)) == len(flat):
            return words
    wrong = next((word for word in tried[-1] if not _spellings(tokenizer, before, word)), None)
    raise RecipeError(
        f"{wrong[:60]!r} is more than one token" if wrong else "the words of two labels are the same token",
        where=template.WORDS_KEY,
        fix="give each label a word of its own that is one token in the model's vocabulary",
    )


def _spellings(tokenizer: Any, before: str, word: str) -> list[int]:
    """Single tokens that spell a word, the one that follows ``before`` and a space first."""
    tried = [
        template.continuation(tokenizer, before, f" {word}"),
        template.continuation(tokenizer, before, word),
        template.pieces(tokenizer, f" {word}"),
        template.pieces(tokenizer, word),
    ]
    single = [ids[0] for ids in tried if len(ids) == 1 and ids[0] != tokenizer.unk_token_id]
    return list(dict.fromkeys(single))
