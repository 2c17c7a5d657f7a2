"""Values checked against settings: an error names the key, and for an unknown one the nearest known."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import ValidationError

from wellread.errors import RecipeError
from wellread.settings.base import Settings


def validate(kind: type[Settings], values: dict[str, Any], where: str) -> Any:
    """Settings of that kind from nested dictionaries.

    Raises:
        RecipeError: keys are unknown, missing or impossible, named below ``where``.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        explained = [_explain(kind, problem, where) for problem in error.errors()]
    first = explained[0]
    if len(explained) > 1:
        others = "; ".join(f"{other.where}: {other.what}" for other in explained[1:])
        raise RecipeError(first.what, where=first.where, fix=f"{first.fix}\nAlso: {others}")
    raise first


def _explain(kind: type[Settings], problem: Any, where: str) -> RecipeError:
    """One of pydantic's findings as an error of ours."""
    keys = [str(part) for part in problem["loc"]]
    dotted = ".".join(keys)
    place = f"{where}: {dotted}" if dotted else where
    if problem["type"] == "extra_forbidden":
        return RecipeError("unknown key", where=place, fix=_did_you_mean(kind, keys))
    if problem["type"] == "missing":
        return RecipeError("this key is required", where=place, fix=f"add `{keys[-1]}`; see docs/recipe.md")
    what = problem["msg"].removeprefix("Value error, ")
    shown = problem.get("input")
    if dotted and isinstance(shown, (str, int, float, bool)):
        what = f"{what} (got {shown!r})"
    return RecipeError(what, where=place, fix="see docs/recipe.md for the key's meaning and bounds")


def _did_you_mean(kind: type[Settings], keys: list[str]) -> str:
    """The nearest known key of the table in which the last of ``keys`` stands, or of a table within it."""
    table = _table(kind, keys[:-1])
    known = sorted(table.model_fields)
    # `mask_rate` is as near to `masking.rate` as if a dot stood in it.
    spelled = {name.replace("_", "."): name for name in (*known, *_within(table))}
    near = difflib.get_close_matches(keys[-1].replace("_", "."), spelled, n=1, cutoff=0.5)
    if near:
        return f"did you mean `{spelled[near[0]]}`?"
    return f"known keys here: {', '.join(known)}"


def _table(kind: type[Settings], keys: list[str]) -> type[Settings]:
    """The nested settings reached by ``keys`` (dictionary and list steps are passed over)."""
    for key in keys:
        field = kind.model_fields.get(key)
        if field is not None:
            kind = settings_within(field.annotation) or kind
    return kind


def _within(table: type[Settings]) -> list[str]:
    """The keys of the tables in a table, with a dot."""
    tables = {name: settings_within(field.annotation) for name, field in table.model_fields.items()}
    return [f"{name}.{key}" for name, inner in tables.items() if inner for key in inner.model_fields]


def settings_within(annotation: Any) -> type[Settings] | None:
    """The kind of settings that a field of this type holds, alone or in a union, tuple or dictionary."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        found = settings_within(part)
        if found:
            return found
    return None
