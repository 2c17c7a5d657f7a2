"""The arms: what arms.toml says, put together with the recipe and checked as a recipe is."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wellread import recipe
from wellread.errors import RecipeError
from wellread.recipe import Recipe
from wellread.settings import ModelSettings, PretrainSettings

PLAIN = "plain"
KEYS = ("page", "model", "pretrain", "rates", "rate_key", "published", "share")


@dataclass(frozen=True)
class Arm:
    """One way to pre-train.

    Attributes:
        name: in tables and folders.
        page: of the method in docs/methods.
        model, pretrain: keys of [model] and [pretrain] that differ; "@NAME" stands for a folder or file.
        rates: that pilots try, under ``rate_key`` of [pretrain].
        own_rates: whether they are not the file's usual ones.
        published: what the paper says of its gain.
        share: of a source, tokens as a share of the plain arm's.
    """

    name: str
    page: str = ""
    model: dict[str, Any] = field(default_factory=dict)
    pretrain: dict[str, Any] = field(default_factory=dict)
    rates: tuple[float, ...] = ()
    own_rates: bool = False
    rate_key: str = ""
    published: str = ""
    share: float = 1.0

    @property
    def needs(self) -> set[str]:
        """Names after an @ in its settings."""
        return {value[1:] for value in _leaves([self.model, self.pretrain]) if value[:1] == "@"}


@dataclass(frozen=True)
class Arms:
    """All that arms.toml says.

    Attributes:
        arms, sources: by name.
        pilot_share: of an arm's tokens in a pilot.
    """

    arms: dict[str, Arm]
    sources: dict[str, Arm]
    pilot_share: float

    def arm(self, name: str) -> Arm:
        """An arm, or several joined by +.

        Raises:
            RecipeError: there is none of that name.
        """
        parts = [self._one(part) for part in name.split("+")]
        found = parts[0]
        for part in parts[1:]:
            rated = part if part.own_rates else found
            found = Arm(
                name=name,
                page=found.page,
                model=_joined(found.model, part.model),
                pretrain=_joined(found.pretrain, part.pretrain),
                rates=rated.rates,
                own_rates=rated.own_rates,
                rate_key=rated.rate_key,
            )
        return found

    def _one(self, name: str) -> Arm:
        if name in self.arms:
            return self.arms[name]
        near = difflib.get_close_matches(name, self.arms, n=1)
        fix = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(self.arms)}"
        raise RecipeError(f"there is no arm {name!r}", where="--arms", fix=fix)


def load(path: Path) -> Arms:
    """Read a file of arms.

    Raises:
        RecipeError: a key is unknown, or there is no plain arm.
    """
    values = tomllib.loads(path.read_text("utf-8"))
    pilot = values["pilot"]
    usual = {"rates": pilot["rates"], "rate_key": pilot.get("rate_key", "learning_rate")}
    arms = {name: _arm(name, given, usual, path) for name, given in values["arms"].items()}
    sources = {name: _arm(name, given, usual, path) for name, given in values.get("sources", {}).items()}
    if PLAIN not in arms:
        raise RecipeError("there is no plain arm to compare with", where=str(path), fix="add [arms.plain]")
    return Arms(arms, sources, pilot["share"])


def _arm(name: str, given: dict[str, Any], usual: dict[str, Any], path: Path) -> Arm:
    unknown = set(given) - set(KEYS)
    if unknown:
        raise RecipeError(
            f"unknown key {min(unknown)!r}", where=f"{path}: arms.{name}", fix=f"known: {', '.join(KEYS)}"
        )
    values = usual | given
    return Arm(name, **values | {"rates": tuple(values["rates"]), "own_rates": "rates" in given})


def settings(
    base: Recipe, arm: Arm, tokens: int, rate: float | None, places: Mapping[str, Path]
) -> tuple[ModelSettings, PretrainSettings]:
    """The arm's settings, checked as a variant of the recipe.

    Args:
        base: the recipe.
        arm: what differs.
        tokens: to read.
        rate: learning rate, under the arm's own key; None leaves the recipe's or the arm's.
        places: what stands for "@NAME".

    Raises:
        RecipeError: a key is unknown or impossible.
    """
    change = {"tokens": tokens, "epochs": None} | ({arm.rate_key: rate} if rate is not None else {})
    variant = {
        "name": "arm",
        "model": _placed(arm.model, places),
        "pretrain": _joined(_placed(arm.pretrain, places), change),
    }
    values = base.model_dump(exclude_unset=True) | {"variants": [variant]}
    made = recipe.parse(values, f"arms.{arm.name}")
    return made.model_for("arm"), made.pretrain_for("arm")


def _placed(value: Any, places: Mapping[str, Path]) -> Any:
    if isinstance(value, dict):
        return {key: _placed(one, places) for key, one in value.items()}
    return str(places[value[1:]]) if isinstance(value, str) and value[:1] == "@" else value


def _joined(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _joined(base[key], value)
        for key, value in change.items()
        if isinstance(value, dict) and isinstance(base.get(key), dict)
    }
    return {**base, **change, **both}


def _leaves(value: Any) -> list[str]:
    if isinstance(value, dict | list):
        inside = value.values() if isinstance(value, dict) else value
        return [leaf for one in inside for leaf in _leaves(one)]
    return [value] if isinstance(value, str) else []
