"""What a command line gives: a model's folder and changes of settings."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from wellread import stages
from wellread.errors import RecipeError


def checkpoint(path: Path) -> Path:
    """The checkpoint folder meant by a path: itself, the main pre-trained model of a run folder, or the known
    model of that name (``wellread data list``).

    Raises:
        ArtefactError: no model there, or none that can be read.
    """
    from wellread import known_models as known
    from wellread.api import open_run
    from wellread.models.build import load_config
    from wellread.tokens import tokenizer

    if not path.exists() and str(path) in known.WHAT:
        path = known.folder_of(str(path), path, "--model")
    elif not (path / "config.json").exists() and (path / stages.STAGES).is_dir():
        path = open_run(path).model()
    load_config(path)
    tokenizer.load(path)
    return path.resolve()


def model_name(folder: Path, given: str | None = None) -> str:
    """A name for tables and folders: the one given, or the checkpoint's ("model" says nothing)."""
    name = given or (folder.name if folder.name != "model" else folder.parent.name)
    return slug(name) or "model"


def slug(text: str) -> str:
    """The text as it may stand in the names of folders."""
    return re.sub(r"[^a-z0-9_.-]+", "-", text.lower()).strip("-.")


def changes(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Settings from "KEY=VALUE", the value as in TOML, or else a string.

    Raises:
        RecipeError: no "=".
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, mark, value = pair.partition("=")
        if not mark:
            raise RecipeError("not KEY=VALUE", where=f"--set {pair}", fix="write --set learning_rate=3e-5")
        try:
            found |= tomllib.loads(f"{key} = {value}")
        except tomllib.TOMLDecodeError:
            found[key.strip()] = value
    return found
