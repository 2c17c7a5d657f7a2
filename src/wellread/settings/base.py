"""What all groups of settings share: the strict base class, and kinds of numbers."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0.0, le=1.0)]
Weight = Annotated[float, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]


def distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values themselves, unless one stands twice."""
    if len(set(values)) < len(values):
        raise ValueError("a value stands twice")
    return values


def as_pairs(value: Any) -> Any:
    """A table as the pairs that frozen settings keep; anything else as it is."""
    return tuple(value.items()) if isinstance(value, dict) else value


class Settings(BaseModel):
    """A frozen group of settings that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    # Keys that came after the first runs were made.  At their defaults they change nothing, and are left out
    # of what a run is told by, so that it stays the same run.
    later: ClassVar[tuple[str, ...]] = ()

    def idle(self) -> dict[str, Any]:
        """The keys of ``later`` that stand at their defaults, to be excluded from a dump."""
        return {key: True for key in self.later if getattr(self, key) == type(self).model_fields[key].default}
