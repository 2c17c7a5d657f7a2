"""A benchmark: its tasks in groups, its score, and what others have published on it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Suite:
    """A benchmark.

    Attributes:
        name: blurb or general.
        title: for people.
        groups: names of known tasks by group.
        score: what the mean of the group means is called; "" where nobody computes one.
        published: scores of published models in percent, by model and task, with "score" for the whole.
    """

    name: str
    title: str
    groups: dict[str, tuple[str, ...]]
    score: str
    published: dict[str, dict[str, float]]

    @property
    def tasks(self) -> tuple[str, ...]:
        """All tasks, in the order of the groups."""
        return tuple(task for tasks in self.groups.values() for task in tasks)


def load(name: str) -> Suite:
    """The benchmark of this name."""
    told = tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    groups = {group: tuple(tasks) for group, tasks in told["groups"].items()}
    return Suite(name, told["title"], groups, told.get("score", ""), told.get("published", {}))


def group_means(suite: Suite, values: Mapping[str, float]) -> dict[str, float]:
    """Mean of the tasks of each group, of the groups whose tasks are all there."""
    return {
        group: sum(values[task] for task in tasks) / len(tasks)
        for group, tasks in suite.groups.items()
        if all(task in values for task in tasks)
    }


def mean_of_groups(suite: Suite, values: Mapping[str, float], groups: Iterable[str]) -> float | None:
    """Mean of the means of some groups (BLURB's score is that of all); None where one is not whole."""
    means, wanted = group_means(suite, values), list(groups)
    if not wanted or any(group not in means for group in wanted):
        return None
    return sum(means[group] for group in wanted) / len(wanted)
