"""Writes docs/recipe.md from the schema of recipes: ``python -m wellread.reference [--check]``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from wellread.recipe import Recipe
from wellread.settings import Settings
from wellread.settings.explain import settings_within

PAGE = Path(__file__).parents[2] / "docs" / "recipe.md"
INTRODUCTION = """\
# Recipe reference

Generated from `src/wellread/settings/` by `make docs`.  A recipe is a TOML file; every key but those marked
*required* has a default.  Unknown keys are errors.  `wellread plan RECIPE` checks a recipe and its data.
"""


def page() -> str:
    """The whole page in Markdown."""
    parts = [INTRODUCTION, _table("Top level", Recipe)]
    for name, field in Recipe.model_fields.items():
        kind = settings_within(field.annotation)
        if kind is not None:
            parts.append(_table(_heading(name, field), kind))
            for inner_name, inner in kind.model_fields.items():
                inner_kind = settings_within(inner.annotation)
                if inner_kind is not None:
                    parts.append(_table(f"[{name}.{inner_name}]", inner_kind))
    return "\n".join(parts)


def _heading(name: str, field: FieldInfo) -> str:
    origin = get_origin(field.annotation)
    return f"[[{name}]]" if origin is tuple else f"[{name}.NAME]" if origin is dict else f"[{name}]"


def _table(title: str, kind: type[Settings]) -> str:
    lines = [f"## `{title}`" if title.startswith("[") else f"## {title}", "", kind.__doc__ or "", ""]
    lines += ["| key | values | default | meaning |", "|---|---|---|---|"]
    for name, field in kind.model_fields.items():
        if settings_within(field.annotation) is None:
            lines.append(f"| `{name}` | {_values(field)} | {_default(field)} | {field.description} |")
    return "\n".join([*lines, ""])


def _values(field: FieldInfo) -> str:
    return _bounded(_type(field.annotation), field.metadata)


def _bounded(kind: str, metadata: Any) -> str:
    """The type's name with its bounds, for instance "integer >= 1"."""
    bounds = []
    for part in metadata:
        for name, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<")):
            if getattr(part, name, None) is not None:
                bounds.append(f"{sign} {getattr(part, name):g}")
    return " ".join([kind, " and ".join(bounds)]).strip()


def _type(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f'"{part}"' for part in parts)
    if origin is tuple:
        return _tuple(parts)
    if origin is dict:
        return "table"
    if hasattr(annotation, "__metadata__"):
        metadata = [m for part in annotation.__metadata__ for m in getattr(part, "metadata", [part])]
        return _bounded(_type(parts[0]), metadata)
    if parts:
        return " or ".join(_type(part) for part in parts if part is not type(None))
    return {"str": "text", "int": "integer", "float": "number", "bool": "true or false"}.get(
        annotation.__name__, annotation.__name__
    )


def _tuple(parts: tuple[Any, ...]) -> str:
    """A table, a list of fixed kinds, or one of any length."""
    if parts[-1] is not Ellipsis:
        return f"[{', '.join(map(_type, parts))}]"
    if _is_table(parts):
        return f"table from {' to '.join(map(_type, get_args(parts[0])))}"
    return f"list of {_type(parts[0])}"


def _is_table(parts: tuple[Any, ...]) -> bool:
    """Whether the parts of a tuple are pairs that begin with a name, which a recipe writes as a table."""
    pair = get_args(parts[0]) if parts and get_origin(parts[0]) is tuple else (None,)
    return pair[0] is str or get_origin(pair[0]) is Literal


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "*required*"
    value = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined:
        return "-"
    if _is_table(get_args(field.annotation)):
        return f"`{{{', '.join(f'{name} = {held}' for name, held in value)}}}`"
    if isinstance(value, tuple):
        value = list(value)
    return f"`{json.dumps(value)}`"


def main() -> int:
    """Write the page, or with ``--check`` say whether it is up to date."""
    if "--check" in sys.argv:
        if PAGE.read_text("utf-8") == page():
            return 0
        print("docs/recipe.md is not up to date: run `make docs`", file=sys.stderr)
        return 1
    PAGE.write_text(page(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
