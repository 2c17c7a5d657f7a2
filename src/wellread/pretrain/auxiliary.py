"""Auxiliary losses: what is learnt beside the language model, and dropped or kept apart afterwards.

An objective adds an :class:`Auxiliary` in its own file below ``objectives/``; :func:`make` is the one place
that knows which settings ask for which.  Its module, where it has parameters, hangs on the model as
``model.auxiliary[name]`` while it trains: optimiser, checkpoints and processes treat it as any other part.
Before the model is saved it is taken off again, so a checkpoint stays a stock one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from wellread.objectives import categories, contrastive, ernie_gram, pairs, replaced_tokens
from wellread.objectives.prediction import Prediction
from wellread.objectives.units.lists import NONE, Lists
from wellread.settings import ModelSettings, PretrainSettings
from wellread.tokens.batch import PackedBatch


@dataclass(frozen=True)
class Counts:
    """How much there is of what losses are means over, in a part or in a whole step.

    Attributes:
        predicted: places at which the language model answers.
        samples: sequences.
        tokens: of them, special ones left out.
        ngrams: whole n-grams that are asked for.
    """

    predicted: float = 0.0
    samples: float = 0.0
    tokens: float = 0.0
    ngrams: float = 0.0

    @classmethod
    def of(cls, batch: PackedBatch, prediction: Prediction) -> Counts:
        """Those of a part: its samples before masking, and what is asked of them."""
        ngrams = 0 if prediction.ngrams is None else len(prediction.ngrams[1])
        return cls(prediction.count, batch.sequences, int((batch.word_ids >= 0).sum()), ngrams)

    def __add__(self, other: Counts) -> Counts:
        return Counts(*map(sum, zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Seen:
    """What the language model's pass over a part of the step has left.

    Attributes:
        batch: S samples of T tokens, before anything was masked.
        prediction: what was masked and asked.
        hidden: (T, d) last hidden states of ``prediction.inputs``, to differentiate through.
        epoch: the pass over the data.
        step: of the whole step, all parts and processes.
    """

    batch: PackedBatch
    prediction: Prediction
    hidden: Tensor
    epoch: int
    step: Counts


@dataclass(frozen=True)
class Auxiliary:
    """A loss besides the language model's.

    Attributes:
        name: in the log and in ``model.auxiliary``.
        weight: factor of its mean loss in the sum that is differentiated.
        loss: what a part adds to the step's mean: its sum over a count of ``seen.step``; a scalar to
            differentiate.  Anything random in it must be a pure function of (seed, epoch, sample id).
        module: its own parameters; it finds them at ``model.auxiliary[name]``.
        prepare: changes the samples before they are masked, by (batch, epoch).
        passes: FLOPs that it adds, as a share of the step's own, sparsity not counted.
        accounted: the same with the sparsity of both counted.
        join: given the model before anything is trained, to share weights with it.
    """

    name: str
    weight: float
    loss: Callable[[PreTrainedModel, Seen], Tensor]
    module: nn.Module | None = None
    prepare: Callable[[PackedBatch, int], PackedBatch] | None = None
    passes: float = 0.0
    accounted: float = 0.0
    join: Callable[[Any], None] | None = None


def make(
    model_settings: ModelSettings,
    settings: PretrainSettings,
    tokenizer: PreTrainedTokenizerBase,
    tokens: Path | None,
    seed: int,
    lists: Lists = NONE,
    level: float = 0.0,
) -> tuple[Auxiliary, ...]:
    """The auxiliary losses that a recipe asks for.

    Args:
        model_settings: the architecture.
        settings: of pre-training.
        tokenizer: of the model.
        tokens: folder of the token stores; None where no real data are read (probes of speed).
        seed: the run's.
        lists: made from the corpus before training.
        level: share of zeros in the model's attention and feed-forward matrices.
    """
    found = []
    weights = {str(name): weight for name, weight in settings.besides}
    rate = 1.0 if model_settings.causal else settings.mask_rate
    if settings.pairs != "none":
        found.append(pairs.auxiliary(settings.pairs, model_settings.hidden, tokenizer, tokens, seed))
    if settings.masking.explicit:
        found.append(ernie_gram.auxiliary(model_settings, lists.ngrams, len(tokenizer), rate, seed, level))
    if weight := weights.get(contrastive.NAME):
        found.append(contrastive.auxiliary(weight, model_settings, len(tokenizer), rate, seed, level))
    if weight := weights.get(categories.NAME):
        found.append(categories.auxiliary(weight, model_settings.hidden, lists.categories, seed))
    if weight := weights.get(replaced_tokens.NAME):
        found.append(replaced_tokens.auxiliary(weight, model_settings, tokenizer, rate, seed, level))
    return tuple(found)


def attach(model: Any, auxiliaries: Sequence[Auxiliary]) -> None:
    """Hang the modules of the losses on the model, in place; without modules the model stays as it is."""
    modules = {one.name: one.module for one in auxiliaries if one.module is not None}
    if modules:
        model.auxiliary = nn.ModuleDict(modules)
    for one in auxiliaries:
        if one.join is not None:
            one.join(model)


def detach(model: Any) -> nn.ModuleDict | None:
    """Take the modules off the model again; they are returned."""
    modules = getattr(model, "auxiliary", None)
    if modules is not None:
        del model.auxiliary
    return modules


def prepare(auxiliaries: Sequence[Auxiliary], batch: PackedBatch, epoch: int) -> PackedBatch:
    """The samples as all losses want to see them."""
    for one in auxiliaries:
        if one.prepare is not None:
            batch = one.prepare(batch, epoch)
    return batch


def losses(auxiliaries: Sequence[Auxiliary], model: PreTrainedModel, seen: Seen) -> dict[str, Tensor]:
    """What a part adds to each loss, by name."""
    return {one.name: one.loss(model, seen) for one in auxiliaries}
