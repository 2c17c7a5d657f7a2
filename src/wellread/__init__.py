"""Wellread: from a field's raw text to a small, fast, accurate specialist language model.

    import wellread

    run = wellread.run("recipes/quickstart.toml")
    run.predict("role", ["Forty patients were randomised to two groups."])

Importing the package is cheap; torch and transformers are loaded by the first call that needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wellread.errors import ArtefactError, DataError, RecipeError, UserError

if TYPE_CHECKING:
    from wellread.api import Run, load, open_run, run
    from wellread.recipe import Recipe
    from wellread.serve.predict import Predictor

__version__ = "0.1.0"
__all__ = [
    "ArtefactError",
    "DataError",
    "Predictor",
    "Recipe",
    "RecipeError",
    "Run",
    "UserError",
    "load",
    "open_run",
    "run",
]

_HOMES = {
    "Run": "wellread.api",
    "load": "wellread.api",
    "open_run": "wellread.api",
    "run": "wellread.api",
    "Recipe": "wellread.recipe",
    "Predictor": "wellread.serve.predict",
}


def __getattr__(name: str) -> Any:
    """Load the public names on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'wellread' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
