"""What the tables [model], [pretrain] and [texts] of a recipe have to agree on."""

from __future__ import annotations

from wellread.errors import RecipeError
from wellread.settings.corpus import CorpusSettings
from wellread.settings.masking import MaskingSettings
from wellread.settings.model import ModelSettings
from wellread.settings.pretrain import PretrainSettings


def check(
    variant: str, model: ModelSettings, pretrain: PretrainSettings, texts: dict[str, CorpusSettings]
) -> None:
    """Refuse what cannot be built, or cannot be meant.

    Args:
        variant: its name, for errors.
        model: [model] with the variant's changes.
        pretrain: [pretrain] with the variant's changes, and its objective filled in.
        texts: the other texts of the recipe by name.

    Raises:
        ValueError: two tables contradict each other; the message names the keys.
        RecipeError: the window of the local layers is written down and wider than any text.
    """
    if model.causal != (pretrain.objective == "clm"):
        raise ValueError(f"pretrain.objective {pretrain.objective!r} does not fit layout {model.layout!r}")
    if model.causal and (pretrain.masking != MaskingSettings() or pretrain.pairs != "none"):
        key = "masking" if pretrain.pairs == "none" else "pairs"
        raise ValueError(
            f"pretrain.{key} does not fit layout {model.layout!r}, a decoder, which masks nothing: "
            "leave it out, or choose the layout of an encoder"
        )
    _check_window(variant, model)
    _check_stages(model, pretrain)
    if pretrain.tokens == 0 and model.start is None:
        raise ValueError("pretrain.tokens = 0 takes model.start as it is: give model.start")
    _check_continual(model, pretrain, texts)
    if pretrain.batch_tokens < model.max_length:
        raise ValueError(
            f"pretrain.batch_tokens ({pretrain.batch_tokens}) must hold one sequence of "
            f"model.max_length ({model.max_length}) tokens"
        )


def _check_window(variant: str, model: ModelSettings) -> None:
    """A window that is written down and wider than any text is a mistake; the default's is not."""
    written = "local_attention" in model.model_fields_set and model.layout == "modernbert"
    if written and model.local_attention > model.max_length:
        raise RecipeError(
            f"the window of the local layers ({model.local_attention}) is larger than model.max_length "
            f"({model.max_length}) in {variant}: no text is that long",
            where="model.local_attention",
            fix=f"set model.local_attention to {model.max_length} or less, leave it out, or raise "
            "model.max_length",
        )


def _check_stages(model: ModelSettings, pretrain: PretrainSettings) -> None:
    from wellread.schedules.phases import phases

    if pretrain.lengths and pretrain.lengths[-1][0] != model.max_length:
        raise ValueError(
            f"the last of pretrain.lengths ({pretrain.lengths[-1][0]}) must be model.max_length "
            f"({model.max_length}), on which models are compared"
        )
    for phase in phases(pretrain, model.max_length) if pretrain.lengths or pretrain.batches else ():
        if phase.max_length < 16 or phase.batch_tokens < phase.max_length:
            raise ValueError(
                f"pretrain.lengths, batches: a stage of {phase.batch_tokens} tokens a step cannot have "
                f"sequences of {phase.max_length} (16 at least, a step at most)"
            )
    if pretrain.submodels and not 0 < pretrain.submodels < model.layers:
        raise ValueError(
            f"pretrain.submodels ({pretrain.submodels}) must be less than model.layers ({model.layers})"
        )


def _check_continual(
    model: ModelSettings, pretrain: PretrainSettings, texts: dict[str, CorpusSettings]
) -> None:
    wanted = pretrain.continual
    if wanted is None:
        return
    for key, name in (("general", wanted.general), ("reference", wanted.reference)):
        if name is not None and name not in texts:
            raise ValueError(
                f"pretrain.continual.{key}: there is no text {name!r}: add [texts.{name}] with its sources"
            )
    if wanted.max_rise is not None and model.start is None:
        raise ValueError(
            "pretrain.continual.max_rise is measured from a checkpoint: set model.start, or leave it out"
        )
    if wanted.general is not None and not texts[wanted.general].validation:
        raise ValueError(
            f"texts.{wanted.general}.validation must be above 0: pretrain.continual.general is validated on"
        )
