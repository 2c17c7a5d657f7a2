"""Answer with a decoder's own head: the label whose words are the likeliest continuation of the input.

For a label with the answer tokens a_1 ... a_n, the score is the sum of log p(a_k | input, a_1 ... a_(k-1)),
divided by n if the recipe says so; the probability of a label is the softmax over the scores of all labels.
Training minimises -score of the right answer, as BioGPT (Luo and others, arXiv 2210.10341) and MediSwift
(arXiv 2403.00952) are fine-tuned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from wellread.errors import RecipeError
from wellread.finetune import batches, encode, template
from wellread.finetune.answer_mask import fit
from wellread.finetune.encode import Encoded
from wellread.finetune.head import INFERENCE_TOKENS, Head, neighbours, precision
from wellread.finetune.objective import Objective, Split
from wellread.models import heads
from wellread.models.packed import hidden_states
from wellread.settings import FinetuneSettings
from wellread.tasks.task import Example, Kind
from wellread.tokens.batch import PackedBatch, pack

# (model, T tokens in B sequences, (B,) where each input ends) -> (T, d).  What stands at the end of an input
# predicts the answer's first token, so vectors between input and answer leave their last state there.
Reader = Callable[[Any, PackedBatch, Tensor], Tensor]


@dataclass(frozen=True)
class Answers:
    """The answers of a task as tokens.

    Attributes:
        ids: of each label.
        forms: the distinct beginnings that have to be read; a shorter one is part of a longer one.
        form_of: for each label the form that its answer but its last token begins.
        power: scores are divided by (number of tokens) ** power, 0 or 1.
    """

    ids: tuple[tuple[int, ...], ...]
    forms: tuple[tuple[int, ...], ...]
    form_of: tuple[int, ...]
    power: int

    @property
    def longest(self) -> int:
        """Tokens that are read after an input, at most."""
        return max(map(len, self.forms))


def head(
    _kind: Kind,
    labels: tuple[str, ...],
    tokenizer: Any,
    settings: FinetuneSettings,
    *,
    read: Reader | None = None,
    room: int = 0,
) -> Head:
    """The head that answers a classification task by the likelihood of its words.

    Args:
        labels: of the task.
        tokenizer: of the model.
        settings: their template, words and normalisation.
        read: how the hidden states come about; default: of the tokens as they are.
        room: positions that ``read`` adds to each sequence.

    Raises:
        RecipeError: the template cannot be filled in, or two labels have the same words.
    """
    text = settings.answer.template or template.DEFAULT
    template.check(text, last=True)
    words = template.given_words(labels, settings.answer.words) or labels
    options = template.label_options(labels, words)
    answers = tokens_of(words, text, tokenizer, settings.answer.normalise)
    reader = read or _read

    def ask(examples: Sequence[Example], max_length: int) -> Encoded:
        given = [template.fill(text, example, options, None) for example in examples]
        return encode.questions(tokenizer, given, max_length - answers.longest - room)

    return Head(
        open=lambda start, pieces, dropout, seed: heads.language_model(start, pieces, "clm", dropout, seed),
        encode=ask,
        fit=partial(fit, len(labels)),
        loss=partial(loss, answers, reader),
        logits=partial(logits, answers, reader),
        finish=lambda _model, _goal: None,
        notes={
            "head": "lm",
            "labels": list(labels),
            "template": text,
            "words": dict(zip(labels, words, strict=True)),
            "options": options,
            "token_ids": dict(zip(labels, map(list, answers.ids), strict=True)),
            "normalise": settings.answer.normalise,
        },
    )


def tokens_of(words: Sequence[str], text: str, tokenizer: Any, normalise: str) -> Answers:
    """The answers as tokens; where one begins another, all are closed by the end token.

    Raises:
        RecipeError: a word has no token, or two have the same.
    """
    before, gap = template.before_answer(text)
    ids = [tuple(template.continuation(tokenizer, before, gap + word)) for word in words]
    if len(set(ids)) < len(ids) or not all(ids):
        raise RecipeError(
            "two labels have the same words, or one has none that the tokenizer can read",
            where=template.WORDS_KEY,
            fix="give each label words of its own",
        )
    if any(one != other and other[: len(one)] == one for one in ids for other in ids):
        end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
        ids = [(*one, end) for one in ids]
    begun = sorted({one[:-1] for one in ids}, key=lambda form: (-len(form), form))
    forms: list[tuple[int, ...]] = []
    for form in begun:
        if not any(other[: len(form)] == form for other in forms):
            forms.append(form)
    form_of = [
        next(number for number, form in enumerate(forms) if form[: len(one) - 1] == one[:-1]) for one in ids
    ]
    return Answers(tuple(ids), tuple(forms), tuple(form_of), int(normalise == "tokens"))


def loss(
    answers: Answers,
    read: Reader,
    model: Any,
    split: Split,
    index: np.ndarray,
    goal: Objective,
    _seed: int = 0,
) -> Tensor:
    """Mean over the examples of the right answer's negative log-likelihood (normalised if scores are)."""
    device = next(model.parameters()).device
    index = neighbours(split.encoded, index)
    label = split.targets[index]
    right = [answers.ids[number] for number in label]
    batch, ends, rows = lay_out(split.encoded, index, [ids[:-1] for ids in right])
    weight = torch.ones(len(index)) if goal.weights is None else goal.weights[torch.from_numpy(label)]
    sizes = torch.tensor([len(ids) for ids in right])
    each = weight / weight.sum().clamp(min=1e-12) / sizes**answers.power
    with precision(device):
        hidden = read(model, batch.to(device), ends.to(device))[rows.to(device)]
        found = heads.lm_logits(model, hidden)
    wanted = torch.tensor([token for ids in right for token in ids], device=device)
    entropy = F.cross_entropy(found.float(), wanted, reduction="none")
    return (entropy * each.repeat_interleave(sizes).to(device)).sum()


def logits(answers: Answers, read: Reader, model: Any, encoded: Encoded) -> np.ndarray:
    """Score of each label's answer: float32 (S, labels)."""
    result = np.zeros((len(encoded.lengths), len(answers.ids)), dtype=np.float32)
    device = next(model.parameters()).device
    with torch.inference_mode(), precision(device):
        for index in batches.by_length(encoded.lengths, INFERENCE_TOKENS):
            for number, form in enumerate(answers.forms):
                batch, ends, rows = lay_out(encoded, index, [form] * len(index))
                hidden = read(model, batch.to(device), ends.to(device))[rows.to(device)]
                found = heads.lm_logits(model, hidden).float().log_softmax(-1)
                found = found.unflatten(0, (len(index), len(form) + 1))
                for label, ids in enumerate(answers.ids):
                    if answers.form_of[label] == number:
                        score = sum(found[:, place, token] for place, token in enumerate(ids))
                        result[index, label] = (score / len(ids) ** answers.power).cpu().numpy()  # type: ignore[union-attr]
    return result


def lay_out(
    encoded: Encoded, index: np.ndarray, endings: Sequence[Sequence[int]]
) -> tuple[PackedBatch, Tensor, Tensor]:
    """Inputs, each with some tokens after it, as a packed batch.

    Args:
        encoded: all inputs.
        index: (B,) numbers of those that are wanted.
        endings: B lists of tokens.

    Returns:
        The batch; (B,) rows of the last token of each input; and the rows of these and of all the endings'
        tokens, input by input.
    """
    offsets = encoded.offsets
    inputs = [encoded.input_ids[offsets[number] : offsets[number + 1]].tolist() for number in index]
    batch = pack([[*one, *ending] for one, ending in zip(inputs, endings, strict=True)])
    ends = batch.cu_seqlens[:-1].long() + torch.tensor([len(one) - 1 for one in inputs])
    rows = [torch.arange(end, end + len(ending) + 1) for end, ending in zip(ends, endings, strict=True)]
    return batch, ends, torch.cat(rows)


def _read(model: Any, batch: PackedBatch, _ends: Tensor) -> Tensor:
    return hidden_states(model, batch)
