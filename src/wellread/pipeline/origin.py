"""What a variant starts from, and what its recipe leaves to that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wellread.recipe import Recipe
from wellread.settings import ModelSettings

if TYPE_CHECKING:
    from wellread.models.grow.shapes import Shape


def origin(recipe: Recipe, variant: str, base: Path) -> Shape | None:
    """The shape of what a variant starts from; None where its weights are random.

    Args:
        recipe: with the variant.
        variant: its name.
        base: where relative paths of the recipe start.

    Raises:
        UserError: the checkpoint is not here, or cannot be read.
    """
    before, start = recipe.forebear(variant), recipe.model_for(variant).start
    if not before and start is None:
        return None
    from wellread import known_models as known
    from wellread.models import build
    from wellread.models.grow.shapes import Shape

    if before:
        return Shape.wanted(settled(recipe, before, base))
    return Shape.of(build.load_config(known.folder_of(str(start), base, "model.start")))


def settled(recipe: Recipe, variant: str, base: Path) -> ModelSettings:
    """[model] of a variant with what it leaves to its origin filled in; errors as in :func:`origin`."""
    model, small = recipe.model_for(variant), origin(recipe, variant, base)
    if small is None:
        return model
    from wellread.models.grow.shapes import adopted

    return adopted(small, model)
