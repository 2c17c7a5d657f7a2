"""The mask of a training step: rate, units and replacement as [pretrain.masking] says."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from wellread.objectives import ernie_gram, masking, mlm, replacement
from wellread.objectives.masking import Kind
from wellread.objectives.prediction import Prediction
from wellread.objectives.units import lexicon, ngrams, pmi, spans, tf_idf, words
from wellread.objectives.units.lists import Lists
from wellread.settings import MaskingSettings
from wellread.tokens.batch import PackedBatch

# A batch, its epoch and how much of the training lies behind (0 to 1) to what is predicted from it.
Policy = Callable[[PackedBatch, int, float], Prediction]

# Kinds that hold every word; beside others alone, words fill the budget when their units run out.
COVERING = {"token", "word", "span", "pmi", "ngram"}


def make(settings: MaskingSettings, lists: Lists, mask_id: int, ordinary: np.ndarray, seed: int) -> Policy:
    """The policy as a function.

    Args:
        settings: of the masking.
        lists: those that its kinds of units need.
        mask_id: id of [MASK].
        ordinary: ids of the tokens that are not special.
        seed: the run's seed.
    """
    mixed = kinds(settings, lists)

    def predict(batch: PackedBatch, epoch: int, progress: float) -> Prediction:
        chosen = masking.choose(batch, rate_at(settings, progress), seed, epoch, mixed)
        if settings.explicit:
            text = masking.read(batch, seed, epoch)
            return ernie_gram.predict(batch, text, chosen, lists.ngrams, mask_id)
        if settings.replace == "mask":
            return mlm.predict(batch, chosen.positions, mask_id)
        text = masking.read(batch, seed, epoch)
        salient = np.empty(0, np.int64)
        if settings.replace == "tf-idf":
            salient = masking.ranges(*tf_idf.units(text, lists.rarity, settings.tf_idf_top))
        ids = replacement.shown(batch, chosen, mask_id, ordinary, text, salient)
        return mlm.predict(batch, chosen.positions, ids)

    return predict


def rate_at(settings: MaskingSettings, progress: float) -> float:
    """The mask rate when a share of the training lies behind: linear from ``rate`` to ``rate_end``."""
    end = settings.rate if settings.rate_end is None else settings.rate_end
    return settings.rate + (end - settings.rate) * progress


def kinds(settings: MaskingSettings, lists: Lists) -> list[tuple[float, Kind]]:
    """The kinds of units that have a weight, in an order that does not depend on the recipe's.

    Raises:
        KeyError: a unit that settings know has no kind here; words would be masked in its place.
    """
    weights = {str(name): weight for name, weight in settings.units}
    known: dict[str, Kind] = {
        "token": masking.tokens,
        "word": words.units,
        "span": spans.units,
        "pmi": partial(pmi.units, phrases=lists.phrases),
        "ngram": partial(ngrams.units, ngrams=lists.ngrams),
        "lexicon": partial(lexicon.units, phrases=lists.terms),
        "tf-idf": partial(tf_idf.units, rarity=lists.rarity, top=settings.tf_idf_top),
    }
    if strange := weights.keys() - known.keys():
        raise KeyError(f"no kind of masking is called {', '.join(sorted(strange))}")
    chosen = [(weights[name], kind) for name, kind in known.items() if weights.get(name)]
    if not any(weights.get(name) for name in COVERING):
        chosen.append((0.0, words.units))
    return chosen
