"""How alike two texts are, from how well their tokens match: a head for scored pairs that needs few labels.

The two texts are read apart.  Each token of one is matched with the likest token of the other, by the mean of
two cosines: of the last states and of the input embeddings.  The weighted mean of these, both ways, is the
similarity.  Matching is that of ColBERT (Khattab and Zaharia, arXiv 2004.12832) and BERTScore (Zhang and
others, arXiv 1904.09675); a token weighs log(1 + id), after Zipf, as vocabularies stand in order of frequency
(model2vec).  A line from similarity to score is fitted to the training pairs before the first step; then the
encoder is trained through it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from wellread.errors import DataError
from wellread.finetune import batches, objective
from wellread.finetune import encode as encoding
from wellread.finetune.encode import Encoded
from wellread.finetune.head import INFERENCE_TOKENS, Head, neighbours, precision
from wellread.finetune.objective import Objective, Split
from wellread.models import heads
from wellread.models.packed import hidden_states
from wellread.settings import FinetuneSettings
from wellread.tasks.task import Example, Kind
from wellread.tokens.batch import PackedBatch

NAME = "similarity"


def head(
    _kind: Kind, labels: tuple[str, ...], tokenizer: Any, _settings: FinetuneSettings | None = None
) -> Head:
    """The head of a task of scored pairs."""
    special = torch.tensor(sorted(tokenizer.all_special_ids), dtype=torch.int64)
    return Head(
        open=lambda start, pieces, dropout, seed: heads.task_model(
            start, pieces, "regress", labels, dropout, seed
        ),
        encode=partial(encode, tokenizer),
        fit=partial(fit, special),
        loss=partial(loss, special),
        logits=partial(logits, special),
        finish=finish,
        notes={"head": NAME, "labels": list(labels)},
    )


def encode(tokenizer: Any, examples: Sequence[Example], max_length: int) -> Encoded:
    """Both texts of each pair, one behind the other, each with its own special tokens.

    The "word" of a sequence is the first token of its second text.  Each text may have ``max_length`` tokens.

    Raises:
        DataError: an example has no second text.
    """
    for number, example in enumerate(examples, 1):
        if example.text_pair is None:
            raise DataError(
                "there is no second text to compare with",
                where=f"example {example.id}" if example.id else f"input {number}",
                fix='give "text_pair" (or, to fine-tune on single texts, set finetune.head = "classifier")',
            )
    pair = [
        encoding.texts(tokenizer, texts, None, max_length)
        for texts in (
            [example.text for example in examples],
            [str(example.text_pair) for example in examples],
        )
    ]
    rows = [
        one.input_ids[one.offsets[at] : one.offsets[at + 1]] for at in range(len(examples)) for one in pair
    ]
    first, second = pair
    count = len(examples)
    return Encoded(
        input_ids=np.concatenate([*rows, np.empty(0, np.int64)]),
        offsets=first.offsets + second.offsets,
        inputs=np.arange(count),
        truncated=first.truncated | second.truncated,
        word_offsets=np.arange(count + 1),
        word_positions=first.lengths,
        word_numbers=np.zeros(count, np.int64),
    )


def fit(special: Tensor, model: Any, split: Split, members: np.ndarray, _class_weights: bool) -> Objective:
    """Standardised scores, and in ``model.config.similarity`` the mean and deviation of the similarities.

    Without training pairs the similarity itself is the score.
    """
    model.config.similarity = [0.0, 1.0]
    if not len(members):
        return Objective("regress")
    targets = split.targets[members]
    goal = objective.build("regress", 1, targets, class_weights=False, has_bias=True)
    found = _similarities(special, model, split.encoded, members)
    model.config.similarity = [float(found.mean()), float(found.std()) or 1.0]
    return goal


def loss(
    special: Tensor, model: Any, split: Split, index: np.ndarray, goal: Objective, _seed: int = 0
) -> Tensor:
    """Mean squared error of standardised scores."""
    device = next(model.parameters()).device
    index = neighbours(split.encoded, index)
    with precision(device):
        found = similarities(model, pairs(split.encoded, index).to(device), special)
    mean, deviation = model.config.similarity
    target = torch.from_numpy(split.targets[index]).to(device)
    return objective.loss(goal, ((found - mean) / deviation)[:, None], target)


def logits(special: Tensor, model: Any, encoded: Encoded) -> np.ndarray:
    """(N, 1) float32: standardised scores while it is trained, scores once it is finished."""
    mean, deviation = model.config.similarity
    found = _similarities(special, model, encoded, np.arange(len(encoded.lengths)))
    return ((found - mean) / deviation).astype(np.float32)[:, None]


def finish(model: Any, goal: Objective) -> None:
    """Turn the line from similarity to standardised score into one to scores.

    The stock classifier of the checkpoint, which nothing trains, then says the mean whatever it reads.
    """
    mean, deviation = model.config.similarity
    deviation /= goal.scale
    model.config.similarity = [mean - goal.centre * deviation, deviation]
    layer = objective.last_layer(model)
    with torch.no_grad():
        layer.weight.zero_()
        if layer.bias is not None:
            layer.bias.fill_(goal.centre)


def pairs(encoded: Encoded, index: np.ndarray) -> PackedBatch:
    """Some pairs, of :func:`encode`, each text read without the other."""
    batch, seconds, _ = batches.select(encoded, index)
    return apart(batch, torch.from_numpy(seconds))


def apart(batch: PackedBatch, seconds: Tensor) -> PackedBatch:
    """S pairs as 2 S sequences, each read without the other.

    Args:
        batch: pairs, as :func:`encode` laid them out.
        seconds: (S,) rows at which the second texts begin.
    """
    ends = torch.cat([batch.cu_seqlens, seconds.to(torch.int32)]).sort().values
    lengths = (ends[1:] - ends[:-1]).long()
    begins = torch.repeat_interleave(ends[:-1].long(), lengths)
    return replace(
        batch,
        cu_seqlens=ends,
        position_ids=torch.arange(batch.tokens) - begins,
        sample_ids=torch.arange(len(lengths)),
    )


def similarities(model: Any, batch: PackedBatch, special: Tensor) -> Tensor:
    """(S,) similarities between -1 and 1, differentiable; 0 where a text has no token.

    Args:
        model: an encoder with packed attention.
        batch: 2 S texts, the two of a pair next to each other.
        special: ids of tokens that match nothing.
    """
    joined = directions(model, batch, hidden_states(model, batch).float())
    plain = ~torch.isin(batch.input_ids, special.to(batch.input_ids.device))
    weights = torch.log1p(batch.input_ids.float()) * plain
    texts = [
        (rows[kept], weight[kept])
        for rows, weight, kept in zip(
            *(each.split(batch.lengths) for each in (joined, weights, plain)), strict=True
        )
    ]
    with torch.autocast(joined.device.type, enabled=False):  # bfloat16 has two digits for a cosine
        return torch.stack([_match(*texts[at], *texts[at + 1]) for at in range(0, len(texts), 2)])


def directions(model: Any, batch: PackedBatch, states: Tensor) -> Tensor:
    """(T, 2 d) unit rows whose products are the means of two cosines: of states and of input embeddings.

    Args:
        model: an encoder.
        batch: T tokens.
        states: (T, d) their last states.
    """
    words = model.get_input_embeddings()(batch.input_ids).float()
    return torch.cat([F.normalize(states, dim=-1), F.normalize(words, dim=-1)], dim=-1) / 2**0.5


def _match(first: Tensor, first_weights: Tensor, second: Tensor, second_weights: Tensor) -> Tensor:
    """The similarity of two texts of unit rows; 0 without any."""
    if not len(first) or not len(second):
        return first.sum() * 0.0
    table = first @ second.T
    ways = ((table.max(1).values, first_weights), (table.max(0).values, second_weights))
    found = [(best * weight).sum() / weight.sum().clamp(min=1e-9) for best, weight in ways]
    return (found[0] + found[1]) / 2


def _similarities(special: Tensor, model: Any, encoded: Encoded, index: np.ndarray) -> np.ndarray:
    """(B,) float64 similarities of some pairs, by the model in evaluation mode."""
    device, training = next(model.parameters()).device, model.training
    model.eval()
    found = np.zeros(len(index))
    with torch.inference_mode(), precision(device):
        for part in batches.by_length(encoded.lengths[index], INFERENCE_TOKENS):
            batch = pairs(encoded, index[part]).to(device)
            found[part] = similarities(model, batch, special).double().cpu().numpy()
    model.train(training)
    return found
