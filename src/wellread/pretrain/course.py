"""Which samples each step of a run reads, through all its stages of length and batch size.

An epoch that lies within one stage is read as ever (tokens/packing.py).  One in which a stage ends is divided
by documents: each belongs to one stage, chosen by a key of (seed, epoch, document), and is cut into
consecutive samples of that stage's length.  So every token is read once in an epoch (but for ends too short
to keep), and which step reads what follows from the step's number alone.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wellread import rng
from wellread.errors import RecipeError
from wellread.schedules.phases import Phase
from wellread.settings import PretrainSettings
from wellread.tokens.mixture import Mixture
from wellread.tokens.packing import Packing, plan
from wellread.tokens.store import Store

NEGLIGIBLE = 1e-6  # of an epoch


@dataclass(frozen=True)
class Leg:
    """Steps in a row that read from one packing.

    Attributes:
        packing: of the whole text, or of an epoch's share of it; or two texts mixed.
        phase: number of the stage.
        first: number of the first step, from 0.
        steps: how many.
        epoch: pass over the text in which it begins.
        whole: whether the packing is of the whole text; it may then be read more than once.
    """

    packing: Packing | Mixture
    phase: int
    first: int
    steps: int
    epoch: int
    whole: bool


@dataclass(frozen=True)
class Course:
    """The legs of a run, in order."""

    legs: tuple[Leg, ...]
    spent: float = 0.0  # FLOPs of choosing what is read

    @property
    def steps(self) -> int:
        """Of the run."""
        return self.legs[-1].first + self.legs[-1].steps

    @property
    def tokens(self) -> int:
        """Expected in all steps, special tokens included."""
        return round(sum(leg.steps * leg.packing.mean_tokens_per_step for leg in self.legs))

    def leg(self, step: int) -> Leg:
        """The leg in which a step (from 0) lies."""
        return self.legs[bisect_right([leg.first for leg in self.legs], step) - 1]

    def at(self, step: int) -> tuple[Packing | Mixture, int, int]:
        """The packing of a step, the step's number in it, and the epoch."""
        leg = self.leg(step)
        place = step - leg.first
        if not leg.whole:
            return leg.packing, place, leg.epoch
        place += leg.epoch * leg.packing.steps_per_epoch
        return leg.packing, place, leg.packing.epoch(place)

    def longer(self, step: int) -> tuple[int, int] | None:
        """(length so far, new length) where sequences grow just before a step; else None."""
        leg = self.leg(step)
        if not step or leg.first != step:
            return None
        before, now = self.leg(step - 1).packing.max_length, leg.packing.max_length
        return (before, now) if now > before else None


def lay(
    store: Store,
    settings: PretrainSettings,
    stages: list[Phase],
    n_special: int,
    seed: int,
    folder: Path,
) -> Course:
    """Plan a run; what has been planned before is reused.

    Args:
        store: the training text.
        settings: how many tokens or epochs.
        stages: in order.
        n_special: special tokens around a sequence.
        seed: of the run.
        folder: where the tables are kept.

    Raises:
        ArtefactError, RecipeError, DataError: as :func:`wellread.tokens.packing.plan`.
    """
    whole = [
        plan(store, one.max_length, one.batch_tokens, n_special, seed, folder / f"{n}" if n else folder)
        for n, one in enumerate(stages)
    ]
    if len(stages) == 1:
        only = whole[0]
        steps = round(settings.tokens / only.mean_tokens_per_step) if settings.tokens is not None else 0
        if settings.tokens is None:
            steps = round((settings.epochs or 1.0) * only.steps_per_epoch)
        steps = 0 if settings.tokens == 0 else max(1, steps)
        return Course((Leg(only, 0, 0, steps, 0, whole=True),))
    ends = _ends(settings, stages, whole)
    legs: list[Leg] = []
    for phase, (begin, end) in enumerate(zip([0.0, *ends], ends, strict=False)):
        one = stages[phase]
        for epoch, first, last in _pieces(begin, end, ends[-1]):
            packing, place = whole[phase], legs[-1].first + legs[-1].steps if legs else 0
            if (first, last) == (0.0, 0.0):  # whole passes, and what is left of the run
                steps = round((end - epoch) * packing.steps_per_epoch)
                if end < ends[-1]:
                    steps = int(end - epoch + NEGLIGIBLE) * packing.steps_per_epoch
            else:
                chosen = _documents(store, seed, epoch, first, last)
                name = folder / f"{phase}-{epoch}"
                packing = plan(store, one.max_length, one.batch_tokens, n_special, seed, name, chosen)
                steps = packing.steps_per_epoch if packing.n_bins else 0
            if steps:
                legs.append(Leg(packing, phase, place, steps, epoch, whole=(first, last) == (0.0, 0.0)))
    if not legs:
        raise RecipeError(
            "the run is shorter than a step of any stage",
            where="pretrain.tokens",
            fix="raise it, or leave out pretrain.lengths and batches",
        )
    return Course(tuple(legs))


def _ends(settings: PretrainSettings, stages: list[Phase], whole: list[Packing]) -> list[float]:
    """After how many epochs each stage ends; short samples have more special tokens, so epochs differ."""
    passes = np.array(
        [one.share / packing.tokens_per_epoch for one, packing in zip(stages, whole, strict=True)]
    )
    tokens = settings.tokens
    scale = (settings.epochs or 1.0) / passes.sum() if tokens is None else tokens
    return np.cumsum(passes * scale).tolist()


def _pieces(begin: float, end: float, last: float) -> list[tuple[int, float, float]]:
    """(epoch, from, to) of the shares of epochs between two places; whole ones in a row as (epoch, 0, 0).

    The run's last epoch is read from its beginning as far as the run goes, like a run of one stage.
    """
    found: list[tuple[int, float, float]] = []
    epoch = int(begin + NEGLIGIBLE)
    if begin - epoch > NEGLIGIBLE:
        found.append((epoch, begin - epoch, min(1.0, end - epoch)))
        epoch += 1
    if end - epoch <= NEGLIGIBLE:
        return found
    if end >= last or end - epoch >= 1 - NEGLIGIBLE:
        found.append((epoch, 0.0, 0.0))
    rest = end - int(end + NEGLIGIBLE)
    if end < last and rest > NEGLIGIBLE:
        found.append((int(end + NEGLIGIBLE), 0.0, rest))
    return found


def _documents(store: Store, seed: int, epoch: int, first: float, last: float) -> np.ndarray:
    """The documents that lie between two shares of an epoch's tokens, in an order of their own; ascending."""
    sizes = np.diff(np.asarray(store.offsets))
    order = np.argsort(rng.bits(seed, "stages", epoch, np.arange(len(sizes))), kind="stable")
    middles = np.cumsum(sizes[order]) - sizes[order] / 2
    total = max(1, int(sizes.sum()))
    # With the middles, neighbours meet without a gap wherever the border lies within a document.
    chosen = (middles >= first * total) & (middles < last * total if last < 1 else True)
    return np.sort(order[chosen])
