"""What a benchmark's runs have given so far, as a table for people or as JSON."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wellread.benchmark.suite import Suite, group_means, mean_of_groups

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class TaskState:
    """One task of a benchmark.

    Attributes:
        task: its name.
        metric: what is reported.
        seeds: the seeds that are to be run; none for a task that is not there.
        values: test scores (0 to 1) by seed, of the runs that are done.
        costs: what they cost (costs.json of a unit), by seed.
        failed: how many of them failed.
        missing: why the task is not there, or "".
        partial: what its files lack, or "".
    """

    task: str
    metric: str = ""
    seeds: tuple[int, ...] = ()
    values: dict[int, float] = field(default_factory=dict)
    costs: dict[int, dict[str, float]] = field(default_factory=dict)
    failed: int = 0
    missing: str = ""
    partial: str = ""

    @property
    def mean(self) -> float | None:
        """Mean over the seeds that are done."""
        return statistics.fmean(self.values.values()) if self.values else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation over them."""
        return statistics.stdev(self.values.values()) if len(self.values) > 1 else None


def results(suite: Suite, model: str, states: list[TaskState]) -> dict[str, Any]:
    """Everything that the table shows, as plain values; scores from 0 to 1, published ones in percent."""
    whole = _whole(states)
    groups = group_means(suite, whole)
    score = mean_of_groups(suite, whole, groups)
    return {
        "benchmark": suite.name,
        "model": model,
        "tasks": {
            state.task: {
                "metric": state.metric,
                "values": {str(seed): value for seed, value in sorted(state.values.items())},
                "costs": {str(seed): costs for seed, costs in sorted(state.costs.items())},
                "mean": state.mean,
                "std": state.std,
                "failed": state.failed,
                "missing": state.missing,
                "partial": state.partial,
            }
            for state in states
        },
        "groups": groups,
        "score": {
            "value": score,
            "complete": len(groups) == len(suite.groups),
            "tasks": len(whole),
            "of": len(suite.tasks),
        },
        "published": suite.published,
    }


def cells(suite: Suite, model: str, states: list[TaskState]) -> list[list[str]]:
    """Head and rows of the table."""
    head = ["group", "task", "metric", model, "seeds", *suite.published, "note"]
    rows = [_row(suite, group, state) for group, state in _by_group(suite, states)]
    return [head, *rows, *(_score_rows(suite, states) if suite.score else [])]


def to_text(suite: Suite, model: str, states: list[TaskState]) -> str:
    """The table in columns of plain text."""
    rows = cells(suite, model, states)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def to_rich(suite: Suite, model: str, states: list[TaskState]) -> Table:
    """The table for a terminal, without groups and metrics, which leaves room for the notes."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    rows = [[row[1] or row[2], *row[3:]] for row in cells(suite, model, states)]
    table = Table(title=escape(suite.title), caption=CAPTION, box=box.SIMPLE_HEAD, pad_edge=False)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, width in zip(rows[0][:-1], widths, strict=False):
        table.add_column(escape(name), justify="left" if name == "task" else "right", min_width=width)
    table.add_column("note", no_wrap=True, overflow="ellipsis")
    for row in rows[1:]:
        table.add_row(*map(escape, row))
    return table


CAPTION = "percent on test: mean ± standard deviation over seeds; published: as reported"


def _whole(states: list[TaskState]) -> dict[str, float]:
    """Means of the tasks that are there in full, with all their seeds."""
    return {
        state.task: state.mean
        for state in states
        if state.mean is not None and not state.partial and len(state.values) == len(state.seeds)
    }


def _by_group(suite: Suite, states: list[TaskState]) -> list[tuple[str, TaskState]]:
    known = {state.task: state for state in states}
    return [(group, known[task]) for group, tasks in suite.groups.items() for task in tasks if task in known]


def _row(suite: Suite, group: str, state: TaskState) -> list[str]:
    notes = [f"{state.failed} failed"] if state.failed else []
    notes += [f"missing: {state.missing}"] if state.missing else []
    notes += [f"partial: {state.partial}"] if state.partial else []
    done = f"{len(state.values)}/{len(state.seeds)}" if state.seeds else "-"
    published = [_percent(scores.get(state.task)) for scores in suite.published.values()]
    return [group, state.task, state.metric, spread(state), done, *published, "; ".join(notes)]


def spread(state: TaskState) -> str:
    """Mean and deviation in percent."""
    if state.mean is None:
        return "-"
    return _percent(100 * state.mean) + (f" ± {_percent(100 * state.std)}" if state.std is not None else "")


def _score_rows(suite: Suite, states: list[TaskState]) -> list[list[str]]:
    """The benchmark's score; where groups are not whole, the mean of those that are, for all columns."""
    whole = _whole(states)
    means = group_means(suite, whole)
    score = mean_of_groups(suite, whole, suite.groups)
    full = [_percent(scores.get("score")) for scores in suite.published.values()]
    ours = "partial" if score is None else _percent(100 * score)
    note = "" if score is not None else f"partial ({len(whole)} of {len(suite.tasks)} tasks)"
    rows = [["", suite.score, "mean of groups", ours, "", *full, note]]
    if score is None and means:
        same = [mean_of_groups(suite, scores, means) for scores in suite.published.values()]
        here = mean_of_groups(suite, whole, means)
        assert here is not None
        columns = [_percent(100 * here), "", *map(_percent, same)]
        rows.append(["", "", "whole groups only", *columns, ", ".join(means)])
    return rows


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
