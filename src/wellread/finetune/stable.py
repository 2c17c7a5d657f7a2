"""Named recipes of fine-tuning: settings picked by the size of the task and of the model.

``standard`` is how BERT was fine-tuned at first, the baseline of the stability study.  ``stable`` follows
Tinn et al. (arXiv 2112.07869), Zhang et al. (2006.05987) and Mosbach et al. (2006.04884);
docs/methods/stable-recipe.md gives the source of each choice, and says which are our own guesses.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wellread.errors import RecipeError
from wellread.settings import FinetuneSettings, ModelSettings
from wellread.tasks.task import Kind

# Three ways to keep what pre-training has taught: who sets one by hand has none of the others picked.
KEEPING = ("freeze_layers", "reinit_layers", "layer_decay")
NOT_KEEPING: dict[str, Any] = {"freeze_layers": None, "reinit_layers": 0, "layer_decay": 1.0}

FEW, SMALL, MEDIUM = 200, 1_000, 5_000  # training examples; each class ends below its number
BASE, LARGE = 10_000_000, 200_000_000  # parameters in the blocks: BERT-base has 85M, BERT-large 302M


@dataclass(frozen=True)
class Size:
    """The size of a start.

    Attributes:
        layers: transformer blocks.
        hidden: width of the residual stream.
        pretrained: whether it begins with learnt weights.
    """

    layers: int
    hidden: int
    pretrained: bool

    @property
    def parameters(self) -> int:
        """About the number of weights in the blocks: 12 for each layer and square of the width."""
        return 12 * self.layers * self.hidden**2


def size_of(start: Path | ModelSettings) -> Size:
    """The size of a checkpoint folder or an architecture.

    Raises:
        ArtefactError: the folder is no checkpoint.
    """
    if isinstance(start, ModelSettings):
        return Size(start.layers, start.hidden, pretrained=False)
    from wellread.models.build import load_config

    config = load_config(start)
    return Size(config.num_hidden_layers, config.hidden_size, pretrained=True)


def resolve(
    settings: FinetuneSettings, kind: Kind, examples: int, size: Size
) -> tuple[FinetuneSettings, dict[str, Any]]:
    """Settings with the choices of their named recipe filled in.

    Args:
        settings: as given; what they state themselves stays.
        kind: of the task.
        examples: number of training examples.
        size: of the start; without pre-training nothing is frozen, decayed by layer or re-initialised,
            whatever the settings say, for there is nothing to keep.

    Returns:
        Settings without a ``recipe``, and what was picked, by key.
    """
    picked: dict[str, Any] = {}
    if settings.recipe is not None:
        chosen = standard(kind, size) if settings.recipe == "standard" else stable(kind, examples, size)
        if settings.head != "classifier" or not examples:
            chosen.pop("reinit_layers", None)  # what is asked there is what the last layers have learnt
        stated = settings.model_fields_set
        # What a light-weight method freezes must not be re-initialised, and has no rates.
        alone = stated & set(KEEPING) or settings.light.keeps_weights
        blocked = stated | (set(KEEPING) if alone else set())
        picked = {key: value for key, value in chosen.items() if key not in blocked}
    changes = {**picked, **({} if size.pretrained else NOT_KEEPING), "recipe": None}
    return settings.model_copy(update=changes), picked


def check(settings: FinetuneSettings, size: Size) -> None:
    """Refuse to freeze and re-initialise more layers than the model has.

    Raises:
        RecipeError: naming the key.
    """
    touched = (settings.freeze_layers or 0) + settings.reinit_layers
    if size.pretrained and touched > size.layers:
        key = "freeze_layers" if settings.freeze_layers else "reinit_layers"
        raise RecipeError(
            f"{settings.freeze_layers or 0} layers to freeze and {settings.reinit_layers} to re-initialise "
            f"are more than the model's {size.layers}",
            where=f"finetune.{key}",
            fix="lower it",
        )


def standard(kind: Kind, size: Size) -> dict[str, Any]:
    """Three epochs of AdamW without bias correction, batch 32, and the weights of the last step."""
    return {
        "epochs": 3,
        "min_steps": 0,
        "batch": 32,
        "learning_rate": rate(kind, size),
        "bias_correction": False,
        "evaluations": 1,
        **_SHARED,
    }


def stable(kind: Kind, examples: int, size: Size) -> dict[str, Any]:
    """Bias correction, more steps the fewer the examples, the moment chosen on dev, and one of KEEPING."""
    return {
        "epochs": 20 if examples < SMALL else 10 if examples < MEDIUM else 5,
        "min_steps": 200,
        "batch": 16 if examples < MEDIUM else 32,
        "learning_rate": rate(kind, size),
        "bias_correction": True,
        "evaluations": 10,
        "patience": 10,  # a run that is stopped never gets where its rate is small
        "base_rates": kind == "multilabel",
        **_SHARED,
        **_keeping(kind, examples, size),
    }


_SHARED = {"warmup": 0.1, "weight_decay": 0.01, "eps": 1e-6, "clip": 1.0, "dropout": 0.1}


def _keeping(kind: Kind, examples: int, size: Size) -> dict[str, Any]:
    if not size.pretrained or kind == "tag" or examples >= MEDIUM or size.parameters < BASE:
        return {}
    if examples < FEW:
        return {"reinit_layers": max(1, size.layers // 6)}
    return {"layer_decay": 0.95} if size.parameters >= LARGE else {"freeze_layers": size.layers // 2}


def rate(kind: Kind, size: Size) -> float:
    """Peak learning rate: 3e-5 at BERT-base's width of 768, falling with its square, two digits of it.

    Very small models that tag take three times as much (docs/results/finetune-rates.md).
    """
    factor = 3 if kind == "tag" and size.parameters < BASE else 1
    return float(f"{min(3e-3, max(1e-5, factor * 3e-5 * (768 / size.hidden) ** 2)):.1e}")


def describe(examples: str, size: Size, settings: FinetuneSettings, picked: dict[str, Any]) -> str:
    """One line about what was picked, for people: what differs from the defaults.

    Args:
        examples: number of training examples, or several.
        size: of the start.
        settings: as given, with their recipe's name.
        picked: from :func:`resolve`.
    """
    usual = FinetuneSettings()
    told = [f"{key} = {value}" for key, value in picked.items() if value != getattr(usual, key)]
    what = ", ".join(told).replace("= True", "= true").replace("= False", "= false")
    model = f"{size.layers} layers x {size.hidden}"
    return f"{settings.recipe} for {examples} examples and {model}: {what or 'the defaults'}"
