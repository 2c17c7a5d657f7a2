"""Continual pre-training: which of the field's text is read how often, and what is replayed beside it.

Guo et al. (arXiv 2406.14833).  The three strategies are a subset read for several epochs, a subset of the
best documents, and a mixture near that of the first pre-training; see ``ContinualSettings``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wellread.errors import RecipeError
from wellread.pretrain import subset
from wellread.pretrain.course import Course, Leg
from wellread.pretrain.validation import HeldOut, held_out
from wellread.settings import PretrainSettings
from wellread.tokens import mixture, packing
from wellread.tokens.store import Store


def text_folder(tokens: Path, name: str) -> Path:
    """Where the stores of a text of [texts] are, below the tokens' folder."""
    return tokens / "texts" / name


def lay(
    tokens: Path, settings: PretrainSettings, max_length: int, tokenizer: Any, seed: int, folder: Path
) -> Course:
    """Plan a run with [pretrain.continual].

    Args:
        tokens: folder of the token stores.
        settings: of pre-training.
        max_length: longest sequence, special tokens included.
        tokenizer: of the stores.
        seed: of the run.
        folder: where tables are kept.

    Raises:
        RecipeError: the general text has too little to replay.
        ArtefactError, DataError: as :func:`wellread.tokens.packing.plan`.
    """
    wanted = settings.continual
    assert wanted is not None
    store, special = Store.open(tokens / "train"), tokenizer.num_special_tokens_to_add(pair=False)
    documents = None
    if wanted.subset < 1:
        trusted = Store.open(text_folder(tokens, wanted.reference) / "train") if wanted.reference else None
        documents = subset.choose(store, wanted.subset, seed, trusted, tokenizer, folder / "subset")
    shape = (max_length, settings.batch_tokens, special, seed)
    field = packing.plan(store, *shape, folder / "field", documents)
    if not wanted.replay:
        steps = round((settings.epochs or 1.0) * field.steps_per_epoch)
        if settings.tokens is not None:
            steps = round(settings.tokens / field.mean_tokens_per_step)
        return Course((Leg(field, 0, 0, max(1, steps), 0, whole=True),))
    other = packing.plan(
        Store.open(text_folder(tokens, str(wanted.general)) / "train"), *shape, folder / "general"
    )
    if not other.n_bins:
        raise RecipeError(
            "the general text has no token to replay",
            where=f"texts.{wanted.general}.sources",
            fix="give more text, or set pretrain.continual.replay = 0",
        )
    mixed = mixture.mix(field, other, wanted.replay, epochs=settings.epochs or 1.0, tokens=settings.tokens)
    return Course((Leg(mixed, 0, 0, mixed.steps, 0, whole=True),))


def general(tokens: Path, settings: PretrainSettings, max_length: int, field: HeldOut) -> HeldOut | None:
    """The general text that is validated on beside the field's; None where there is none.

    Args:
        tokens: folder of the token stores.
        settings: of pre-training.
        max_length: longest sequence, special tokens included.
        field: what is held out of the field.

    Raises:
        RecipeError: nothing is held out of one of the two, so that no rise would ever be seen.
    """
    if settings.continual is None or settings.continual.general is None:
        return None
    name = settings.continual.general
    found = held_out(Store.open(text_folder(tokens, name) / "valid"), max_length, settings.batch_tokens)
    for key, text in (("corpus", field), (f"texts.{name}", found)):
        if not text.batches:
            raise nothing_held_out(key)
    return found


def nothing_held_out(table: str) -> RecipeError:
    """What is said where the text of a table of the recipe is to be validated on, and none is held out."""
    return RecipeError(
        "no text is held out, and pretrain.continual.general is validated on beside the corpus",
        where=f"{table}.validation",
        fix="raise it, or give more text",
    )


def share(settings: PretrainSettings) -> float:
    """Tokens that a pass takes, as a share of a pass over the field's whole text."""
    wanted = settings.continual
    return 1.0 if wanted is None else wanted.subset / (1 - wanted.replay)
