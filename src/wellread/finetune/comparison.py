"""Which label a pair of texts has, from what each of their tokens meets in the other text: a head for pairs.

The two texts are read apart.  Each token of one is laid beside what it resembles in the other: the mean of
the other's states, weighted by a softmax of similarities, as in decomposable attention (Parikh and others,
arXiv 1606.01933).  A small network reads both, their difference and their product (Chen and others, arXiv
1609.06038) and how good the best match is; mean and maximum over the tokens of either text go to a second
one, which gives the logits.  Similarities are those of :mod:`.similarity`, so that the tokens are matched
from the first step on, and labels are not spent on learning what equal words are.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.rnn import pad_sequence

from wellread import rng
from wellread.errors import ArtefactError
from wellread.finetune import batches, classifier, objective, similarity
from wellread.finetune.encode import Encoded
from wellread.finetune.head import INFERENCE_TOKENS, Head, Start, neighbours, precision
from wellread.finetune.objective import Objective, Split
from wellread.models import build, heads
from wellread.models.packed import hidden_states
from wellread.settings import FinetuneSettings
from wellread.tasks.task import Kind
from wellread.tokens.batch import PackedBatch

NAME = "comparison"
ADDED = "comparison.safetensors"  # the two networks, beside a stock checkpoint
SHARPNESS = 3.0  # log of the factor of similarities before the softmax, at first: 20, of cosines


class Comparison(nn.Module):
    """The two networks over matched tokens.

    Args:
        width: d, of the encoder's states.
        labels: C.
        dropout: before each layer.
    """

    def __init__(self, width: int, labels: int, dropout: float) -> None:
        super().__init__()
        self.tokens = nn.Linear(4 * width + 1, width)
        self.pair = nn.Linear(4 * width, width)
        self.classifier = nn.Linear(width, labels)
        self.sharpness = nn.Parameter(torch.tensor(SHARPNESS))
        self.drop = nn.Dropout(dropout)

    def forward(self, states: Tensor, matches: Tensor, seen: Tensor) -> Tensor:
        """(P, C) logits of P pairs of texts of at most L tokens.

        Args:
            states: (P, 2, L, d), normalised.
            matches: (P, L, L) similarities of the first texts' tokens and the second's.
            seen: (P, 2, L) bool, which tokens count; a text without any resembles nothing.
        """
        nothing = torch.finfo(matches.dtype).min
        found = []
        for own in (0, 1):
            table = matches if own == 0 else matches.mT
            x, there, others = states[:, own], seen[:, own, :, None], seen[:, 1 - own, None]
            some = others.any(-1, keepdim=True)
            shares = torch.softmax((self.sharpness.exp() * table).masked_fill(~others, nothing), -1)
            other = shares @ states[:, 1 - own] * some
            best = torch.where(some, table.masked_fill(~others, nothing).amax(-1, keepdim=True), 0)
            each = torch.cat([x, other, x - other, x * other, best], -1)
            each = F.gelu(self.tokens(self.drop(each))).float()
            mean = (each * there).sum(1) / there.sum(1).clamp(min=1)
            found += [mean, each.masked_fill(~there, nothing).amax(1) * there.any(1)]
        return self.classifier(self.drop(F.gelu(self.pair(self.drop(torch.cat(found, -1))))))


def head(
    kind: Kind, labels: tuple[str, ...], tokenizer: Any, _settings: FinetuneSettings | None = None
) -> Head:
    """The head of a task of labelled pairs."""
    special = torch.tensor(sorted(tokenizer.all_special_ids), dtype=torch.int64)
    return Head(
        open=partial(open_model, labels),
        encode=partial(similarity.encode, tokenizer),
        fit=partial(classifier.fit, kind, len(labels)),
        loss=partial(loss, special),
        logits=partial(logits_of, special),
        finish=lambda model, _goal: silence(model),
        notes={"head": NAME, "labels": list(labels)},
        save=save,
    )


def open_model(labels: tuple[str, ...], start: Start, tokenizer: Any, dropout: float, seed: int) -> Any:
    """A stock classifier, whose own layer is not used, with a fresh :class:`Comparison`."""
    model: Any = heads.task_model(start, tokenizer, "classify", labels, dropout, seed)
    with build.seeded(rng.derive(seed, NAME)):
        model.comparison = Comparison(model.config.hidden_size, len(labels), dropout)
    return model


def loss(
    special: Tensor, model: Any, split: Split, index: np.ndarray, goal: Objective, _seed: int = 0
) -> Tensor:
    """Mean cross-entropy of some pairs."""
    device = next(model.parameters()).device
    index = neighbours(split.encoded, index)
    with precision(device):
        found = logits(model, similarity.pairs(split.encoded, index).to(device), special)
    return objective.loss(goal, found.float(), torch.from_numpy(split.targets[index]).to(device))


def logits_of(special: Tensor, model: Any, encoded: Encoded) -> np.ndarray:
    """(N, C) float32, by the model in evaluation mode."""
    result = np.zeros((len(encoded.lengths), model.config.num_labels), np.float32)
    device = next(model.parameters()).device
    with torch.inference_mode(), precision(device):
        for index in batches.by_length(encoded.lengths, INFERENCE_TOKENS):
            pairs = similarity.pairs(encoded, index).to(device)
            result[index] = logits(model, pairs, special).float().cpu().numpy()
    return result


def logits(model: Any, batch: PackedBatch, special: Tensor) -> Tensor:
    """(P, C) logits, differentiable.

    Args:
        model: of :func:`open_model`, with packed attention.
        batch: 2 P texts, the two of a pair next to each other.
        special: ids of tokens that do not count.
    """
    states = hidden_states(model, batch).float()
    joined = similarity.directions(model, batch, states)
    plain = ~torch.isin(batch.input_ids, special.to(batch.input_ids.device))
    states, joined, seen = (
        pad_sequence(each.split(batch.lengths), batch_first=True).unflatten(0, (-1, 2))
        for each in (F.layer_norm(states, states.shape[-1:]), joined, plain)
    )
    with torch.autocast(joined.device.type, enabled=False):  # bfloat16 has two digits for a cosine
        matches = joined[:, 0] @ joined[:, 1].mT
    return model.comparison(states, matches, seen)


@torch.no_grad()
def silence(model: Any) -> None:
    """Have the stock classifier, which nothing trains, prefer no label, whatever it reads."""
    layer = objective.last_layer(model)
    layer.weight.zero_()
    if layer.bias is not None:
        layer.bias.zero_()


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a stock checkpoint, and the networks beside it."""
    added: Comparison = model.comparison
    del model.comparison
    try:
        build.save(model, tokenizer, folder)
    finally:
        model.comparison = added
    save_file({name: weight.contiguous() for name, weight in added.state_dict().items()}, folder / ADDED)


def load(model: Any, folder: Path) -> Any:
    """Give a stock checkpoint the networks that :func:`save` wrote.

    Raises:
        ArtefactError: they are missing, damaged, or of another model.
    """
    added = Comparison(model.config.hidden_size, model.config.num_labels, 0.0)
    try:
        added.load_state_dict(load_file(folder / ADDED))
    except (OSError, RuntimeError, SafetensorError):
        raise ArtefactError(
            "what compares the texts cannot be read",
            where=str(folder / ADDED),
            fix="restore the folder from its source",
        ) from None
    model.comparison = added.eval()
    return model
