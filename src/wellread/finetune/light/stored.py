"""Model folders of methods that do not merge: a stock checkpoint in ``base/``, and what was added beside it.

    config.json, tokenizer files    as of the stock model
    base/                           the stock checkpoint: the frozen body with the trained head
    light.safetensors               what the method added
    light.json                      {"settings", "base_sha256"}

There is no ``model.safetensors`` at the top, so that nothing loads the folder as if it were a stock model and
silently predicts without what was trained.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerBase

from wellread import files
from wellread.errors import ArtefactError
from wellread.finetune.light import methods
from wellread.models import build, packed
from wellread.settings import LightSettings

FACTS, ADDED, BASE = "light.json", "light.safetensors", "base"


def is_light(folder: Path) -> bool:
    """Whether a folder is such a one."""
    return (Path(folder) / FACTS).exists()


def save(model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path, settings: LightSettings) -> None:
    """Write a fine-tuned model: a stock checkpoint where it is one, else base and additions.

    Args:
        model: as :func:`wellread.finetune.loop.finetune` returns it.
        tokenizer: of the model.
        folder: to write into.
        settings: with which it was trained.
    """
    added = getattr(model, "light", None)
    if added is None:
        build.save(model, tokenizer, folder)
        return
    del model.light
    try:
        build.save(model, tokenizer, folder / BASE)
    finally:
        model.light = added
    for path in sorted((folder / BASE).iterdir()):
        if path.suffix != ".safetensors":
            shutil.copyfile(path, folder / path.name)
    save_file({name: weight.contiguous() for name, weight in added.state_dict().items()}, folder / ADDED)
    facts = {"settings": settings.model_dump(mode="json"), "base_sha256": _hash(folder)}
    files.write_json(folder / FACTS, facts)


def load(folder: Path, head: build.Head) -> Any:
    """A fine-tuned model with packed attention, from a stock checkpoint's folder or one of :func:`save`.

    Or from a folder of binary (:mod:`wellread.compress.binarise.stored`) or of quantised weights
    (:mod:`wellread.compress.quantise.packed`).

    Raises:
        ArtefactError: the folder is incomplete or damaged, or its base is not the one it was trained on.
    """
    folder = Path(folder)
    if (folder / "binary.json").exists():
        from wellread.compress.binarise import stored as binary

        return binary.load(folder, head)
    if (folder / "quantised.json").exists():
        from wellread.compress.quantise import packed as quantised  # which needs what is above

        return quantised.load(folder, head)
    if not is_light(folder):
        return packed.enable(build.load(folder, head))
    facts = files.read_json(folder / FACTS)
    fix = "restore the folder from its source"
    try:
        settings = LightSettings.model_validate(facts["settings"])
        if facts["base_sha256"] != _hash(folder):
            raise ArtefactError("the base is not the one that was trained on", where=str(folder), fix=fix)
        model: Any = packed.enable(build.load(folder / BASE, head))
        methods.equip(model, settings, 0.0, 0)
        model.light.load_state_dict(load_file(folder / ADDED))
    except (KeyError, TypeError, ValidationError, OSError, RuntimeError, SafetensorError, AttributeError):
        raise ArtefactError("base and additions do not fit", where=str(folder), fix=fix) from None
    return model


def positions(folder: Path) -> int:
    """Positions that the method takes from the model's longest input."""
    return methods.added_tokens(settings_of(folder))


def settings_of(folder: Path) -> LightSettings:
    """The method that a model folder was trained with; "full" for a stock checkpoint."""
    if not is_light(folder):
        return LightSettings()
    return LightSettings.model_validate(files.read_json(folder / FACTS)["settings"])


def _hash(folder: Path) -> str:
    return files.sha256_file(folder / BASE / "model.safetensors")
