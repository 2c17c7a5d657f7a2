"""What a pre-training reads: the course of its steps, the held-out texts, the units that it masks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from wellread.objectives import categories, distillation
from wellread.objectives.units import lists
from wellread.objectives.units.lists import Lists
from wellread.pretrain import continual, taught
from wellread.pretrain.course import Course, lay
from wellread.pretrain.parts import make_objective
from wellread.pretrain.validation import HeldOut, held_out
from wellread.schedules.phases import phases
from wellread.settings import ModelSettings, PretrainSettings
from wellread.tokens.store import Store


@dataclass(frozen=True)
class Data:
    """What is trained and what is validated on."""

    train: Course
    valid: HeldOut
    general: HeldOut | None  # text like that of an earlier pre-training


def open_data(
    model_settings: ModelSettings,
    settings: PretrainSettings,
    tokenizer: PreTrainedTokenizerBase,
    tokens: Path,
    scratch: Path,
    seed: int,
) -> Data:
    """Open the stores and plan every step; what has to be chosen beforehand is chosen here.

    Args:
        model_settings: the architecture.
        settings: of pre-training.
        tokenizer: of the stores.
        tokens: folder of the token stores ``train`` and ``valid``.
        scratch: where tables are kept.
        seed: of the run.

    Raises:
        RecipeError, ArtefactError, DataError: there is too little text, a store is damaged, or the teacher
            does not fit.
    """
    special = tokenizer.num_special_tokens_to_add(pair=False)
    length = model_settings.max_length
    if settings.continual:
        train = continual.lay(tokens, settings, length, tokenizer, seed, scratch)
    elif settings.teacher and settings.teacher.keep < 1 and settings.teacher.share * settings.teacher.weight:
        teacher = distillation.open_teacher(settings, tokenizer, model_settings)
        ask = make_objective(model_settings, settings, tokenizer, seed, teacher=teacher)
        store = Store.open(tokens / "train")
        shape = (length, special)
        train = taught.lay(
            store, settings, shape, seed, scratch, teacher, lambda batch: ask(batch, None, 0.0)
        )
    else:
        stages = phases(settings, length)
        train = lay(Store.open(tokens / "train"), settings, stages, special, seed, scratch)
    valid = held_out(Store.open(tokens / "valid"), length, settings.batch_tokens)
    return Data(train, valid, continual.general(tokens, settings, length, valid))


def open_lists(data: Data, settings: PretrainSettings, tokenizer: Path, folder: Path, quiet: bool) -> Lists:
    """The lists of phrases and terms, and the categories of documents, that the objectives ask for.

    Args:
        data: what is trained on.
        settings: of pre-training.
        tokenizer: folder of the tokenizer.
        folder: of the run; lists are kept in its scratch folder.
        quiet: say nothing.
    """
    store = data.train.legs[0].packing.store
    masked = lists.prepare(settings.masking, store, tokenizer, folder / "scratch" / "lists", quiet=quiet)
    if settings.categories:
        masked = replace(masked, categories=categories.load(folder, store))
    return masked
