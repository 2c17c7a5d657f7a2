"""What a command line gives: a model's folder, changes of settings, changes of a recipe's text."""

from __future__ import annotations

import contextlib
import json
import re
import tomllib
from pathlib import Path
from typing import Any

from wellread import files, stages
from wellread.errors import RecipeError
from wellread.recipe import overlaid


def checkpoint(path: Path) -> Path:
    """The checkpoint folder meant by a path: itself, the main pre-trained model of a run folder, or the known
    model of that name (``wellread data list``).

    Raises:
        ArtefactError: no model there, none that can be read, or one that differs from its manifest.
    """
    from wellread import known_models as known
    from wellread.api import open_run
    from wellread.models.build import load_config
    from wellread.tokens import tokenizer

    if not path.exists() and str(path) in known.WHAT:
        path = known.folder_of(str(path), path, "--model")  # which has compared its hashes
    else:
        if not (path / "config.json").exists() and (path / stages.STAGES).is_dir():
            path = open_run(path).model()
        files.check_part(path)
    load_config(path)
    tokenizer.load(path)
    return path.resolve()


def model_name(folder: Path, given: str | None = None) -> str:
    """A name for tables and folders: the one given, or the checkpoint's ("model" says nothing).

    A model of a run has the run's name, and the variant's where that is not "main".
    """
    name = given or (folder.name if folder.name != "model" else folder.parent.name)
    if given is None and folder.parts[-4:-2] == (stages.STAGES, "pretrain"):
        run, variant = folder.parts[-5] if len(folder.parts) > 4 else "", folder.parts[-2]
        name = run if variant == "main" else f"{run}-{variant}"
    return slug(name) or "model"


def slug(text: str) -> str:
    """The text as it may stand in the names of folders."""
    return re.sub(r"[^a-z0-9_.-]+", "-", text.lower()).strip("-.")


# Keys of [finetune] that the commands set themselves, and what to give instead.
ELSEWHERE = {
    "seeds": "say how many with --seeds",
    "starts": "compare with a random start in a recipe: finetune.starts",
}


def changes(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Settings from "KEY=VALUE", the value as in TOML, or else a string; "TABLE.KEY" sets one key of a table.

    Raises:
        RecipeError: no "=", or a key that a command has an option for.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, mark, value = pair.partition("=")
        if not mark:
            raise RecipeError("not KEY=VALUE", where=f"--set {pair}", fix="write --set learning_rate=3e-5")
        if key.strip() in ELSEWHERE:
            raise RecipeError("cannot be set here", where=f"--set {pair}", fix=ELSEWHERE[key.strip()])
        found = overlaid(found, _parsed(key.strip(), value.strip(), pair))
    return found


def _parsed(key: str, value: str, pair: str) -> dict[str, Any]:
    for written in (value, json.dumps(value)):
        with contextlib.suppress(tomllib.TOMLDecodeError):
            return tomllib.loads(f"{key} = {written}")
    raise RecipeError("a key that cannot be read", where=f"--set {pair}", fix="write --set light.rank=4")


def start_from(text: bytes, model: str, where: str) -> bytes:
    """A recipe's text changed to begin with a model that has been pre-trained already.

    Its tokenizer and shape replace the recipe's, and nothing is pre-trained (``pretrain.tokens = 0``): tasks,
    rivals and the start without pre-training stay what they are.

    Args:
        text: a valid recipe.
        model: folder of a checkpoint, or a known model.
        where: the recipe, for errors.

    Raises:
        ArtefactError: there is no such model, or a damaged one.
        RecipeError: the recipe builds several models side by side, or grows one.
    """
    from wellread import known_models as known
    from wellread.models.build import load_config

    folder = checkpoint(Path(model))
    config = load_config(folder)
    values = tomllib.loads(text.decode("utf-8-sig"))
    if values.get("variants"):
        raise RecipeError(
            "a recipe with variants builds its models itself",
            where=f"{where}: variants",
            fix="leave out --from, or add the model as a [[checkpoints]] table beside them",
        )
    length = min(int(config.max_position_embeddings), values.get("model", {}).get("max_length", 512))
    named = model if model in known.WHAT else str(folder)
    values["tokenizer"] = {"path": named}
    values["model"] = {
        "start": named,
        "layout": config.model_type,
        "layers": config.num_hidden_layers,
        "hidden": config.hidden_size,
        "heads": config.num_attention_heads,
        "max_length": length,
    }
    batch = values.get("pretrain", {}).get("batch_tokens", 8192)
    values["pretrain"] = {"tokens": 0, "batch_tokens": max(batch, length)}
    head = f"# Written by --from {model}: nothing is pre-trained.\n"
    return (head + to_toml(values)).encode()


def name_finetune(text: bytes, name: str, where: str) -> bytes:
    """A recipe's text with ``recipe = NAME`` in its [finetune], as if its author had written so.

    Args:
        text: a valid recipe.
        name: of the settings of fine-tuning.
        where: the recipe, for errors.

    Raises:
        RecipeError: [finetune] is written in a way that cannot be added to.
    """
    given, line = text.decode("utf-8-sig"), f'recipe = "{name}"\n'
    head = re.search(r"^\[finetune\][^\n]*(\n|\Z)", given, re.MULTILINE)
    if head is None:
        changed = f"{given.rstrip()}\n\n[finetune]\n{line}"
    else:
        table = re.split(r"^(?=\s*\[)", given[head.end() :], maxsplit=1, flags=re.MULTILINE)
        kept = re.sub(r"^\s*recipe\s*=[^\n]*\n?", "", table[0], flags=re.MULTILINE)
        changed = f"{given[: head.end()].rstrip()}\n{line}{kept}{''.join(table[1:])}"
    wanted = tomllib.loads(given)
    try:
        wanted["finetune"] = {**wanted.get("finetune", {}), "recipe": name}
        right = tomllib.loads(changed) == wanted
    except tomllib.TOMLDecodeError:
        right = False
    if not right:
        raise RecipeError(
            "--recipe cannot be written into this recipe",
            where=where,
            fix=f"put {line.strip()} into [finetune]",
        )
    return changed.encode()


def to_toml(values: dict[str, Any]) -> str:
    """Nested dictionaries, lists, strings, numbers and booleans as TOML."""
    plain = {key: value for key, value in values.items() if not _is_table(value)}
    lines = [f"{_key(key)} = {_value(value)}" for key, value in plain.items()]
    for key, value in values.items():
        if isinstance(value, dict):
            lines += ["", f"[{_key(key)}]", *(f"{_key(name)} = {_value(one)}" for name, one in value.items())]
        elif _is_table(value):
            for row in value:
                lines += [
                    "",
                    f"[[{_key(key)}]]",
                    *(f"{_key(name)} = {_value(one)}" for name, one in row.items()),
                ]
    return "\n".join(lines) + "\n"


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(name)} = {_value(one)}" for name, one in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)
