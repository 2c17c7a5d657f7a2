"""Runs side by side: each score with its interval, and differences between equal seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from wellread.errors import UserError
from wellread.report import accounting, numbers, results
from wellread.report.gather import RunFacts, gather
from wellread.report.results import Score

LEVEL = 0.95
Key = tuple[str, int, str, str]  # task, labels, model, start


def compare(runs: Sequence[Path], price: float | None = None) -> dict[str, Any]:
    """The scores of several runs, row by row.

    A difference is to the first run, as the mean over the seeds that both have, with the 95% t interval over
    these pairs (none with fewer than two); pairs are made only where the test sets are the same file.

    Args:
        runs: their folders.
        price: of an hour of the machine.

    Returns:
        {"runs": names, "rows": [{"task", "metric", "labels", "model", "start", "cells": [one per run: None or
        {"mean", "interval", "seeds", "failed"}], "differences": [one per run but the first: None or
        {"mean", "interval", "pairs"}]}], "notes": sentences, "costs": {run: bills of accounting.account}}.

    Raises:
        UserError: fewer than two runs.
        ArtefactError, RecipeError: as :func:`wellread.report.gather.gather`.
    """
    if len(runs) < 2:
        raise UserError("two runs or more can be compared", fix="`wellread compare RUN RUN`")
    facts = [gather(run) for run in runs]
    table = [{_key(one): one for groups in results.scores(each).values() for one in groups} for each in facts]
    names = [_name(each, facts) for each in facts]
    notes = _notes(facts, names)
    keys = list(dict.fromkeys(key for scores in table for key in scores))
    costs = {name: accounting.account(each, price) for name, each in zip(names, facts, strict=True)}
    body = [_row(key, facts, table) for key in sorted(keys, key=_place(keys))]
    return {"runs": names, "rows": body, "notes": notes, "costs": costs}


def rows(table: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells for a printed table."""
    names = table["runs"]
    heads = ["task", "labels", "model", *names, *(f"{name} − {names[0]}" for name in names[1:])]
    body = []
    for row in table["rows"]:
        model = (
            row["model"]
            if row["start"] != "random" or row["model"] == "random"
            else f"{row['model']} (random)"
        )
        cells = [_cell(cell, row["metric"]) for cell in row["cells"]]
        differences = [_difference(one, row["metric"]) for one in row["differences"]]
        body.append(
            [f"{row['task']} {row['metric']}", numbers.whole(row["labels"]), model, *cells, *differences]
        )
    return heads, body


def to_text(table: dict[str, Any]) -> str:
    """The table for a terminal, as plain text as wide as it needs to be."""
    bills = [row for run, costs in table["costs"].items() for row in accounting.rows(run, costs)]
    lines = [*_laid_out(*rows(table)), "", *_laid_out(accounting.HEADS, bills)]
    notes = [
        "Scores: mean over seeds [95% interval over test examples] (seeds).",
        "Differences: mean over equal seeds [95% t interval] (pairs).",
        "* marks a difference whose interval leaves out 0; it speaks of seeds, not of other test sets.",
        *table["notes"],
    ]
    return "\n".join(line.rstrip() for line in [*lines, "", *notes])


def _laid_out(heads: list[str], body: list[list[str]]) -> list[str]:
    """Columns as wide as they need to be."""
    widths = [max(len(row[place]) for row in [heads, *body]) for place in range(len(heads))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in [heads, *body]
    ]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def _key(one: Score) -> Key:
    return one.task, one.labels, one.model, one.start


def _place(keys: list[Key]) -> Callable[[Key], tuple[int, int, int]]:
    """Tasks as they first appear, then labels, then models as they first appear."""
    tasks = list(dict.fromkeys(key[0] for key in keys))
    models = list(dict.fromkeys(key[2:] for key in keys))
    return lambda key: (tasks.index(key[0]), key[1], models.index(key[2:]))


def _name(one: RunFacts, every: list[RunFacts]) -> str:
    """The folder's name; with its parent's where two share it."""
    shared = [each for each in every if each.folder.name == one.folder.name]
    resolved = one.folder.resolve()
    return resolved.name if len(shared) == 1 else f"{resolved.parent.name}/{resolved.name}"


def _row(key: Key, facts: list[RunFacts], table: list[dict[Key, Score]]) -> dict[str, Any]:
    task, labels, model, start = key
    scores = [scores.get(key) for scores in table]
    first = next(one for one in scores if one)
    values = [_values(each, key, first.metric) for each in facts]
    return {
        "task": task,
        "metric": first.metric,
        "labels": labels,
        "model": model,
        "start": start,
        "cells": [_facts_of(one, first.metric) for one in scores],
        "differences": [
            _paired(values[0], other) if _same_test(facts[0], each, task) else None
            for other, each in zip(values[1:], facts[1:], strict=True)
        ],
    }


def _facts_of(one: Score | None, metric: str) -> dict[str, Any] | None:
    if one is None or one.metric != metric:
        return None
    return {
        "mean": one.mean,
        "interval": list(one.interval) if one.interval else None,
        "seeds": len(one.seeds),
        "failed": one.failed,
    }


def _values(facts: RunFacts, key: Key, metric: str) -> dict[int, float]:
    """Test score by seed."""
    task, labels, model, start = key
    found: dict[int, float] = {}
    for record in facts.metrics:
        same = (record["task"], record["labels"], record["model"], record["start"]) == (
            task,
            labels,
            model,
            start,
        )
        if same and record["split"] == "test" and record["metric"] == metric:
            found.setdefault(record["seed"], record["value"])
    return found


def _paired(left: dict[int, float], right: dict[int, float]) -> dict[str, Any] | None:
    """By how much ``right`` is higher, over the seeds of both."""
    seeds = sorted(set(left) & set(right))
    if not seeds:
        return None
    differences = [right[seed] - left[seed] for seed in seeds]
    middle, bounds = mean(differences), None
    told_once = all(max(side.values()) - min(side.values()) <= 1e-9 for side in (left, right))
    if len(seeds) > 1 and not told_once:  # rivals without chance give one result for all seeds
        half = _t_quantile(len(seeds) - 1) * stdev(differences) / len(seeds) ** 0.5
        bounds = [middle - half, middle + half]
    return {"mean": middle, "interval": bounds, "pairs": len(seeds)}


def _t_quantile(freedom: int) -> float:
    """Student's t at the upper edge of a 95% interval."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.5 + LEVEL / 2))


def _same_test(left: RunFacts, right: RunFacts, task: str) -> bool:
    """Whether the task's test set is the same file in both runs."""
    hashes = {each.tasks[task].test_hash if task in each.tasks else "" for each in (left, right)}
    return len(hashes) == 1 and "" not in hashes


def _notes(facts: list[RunFacts], names: list[str]) -> list[str]:
    """Which test sets differ, so that scores of these tasks do not compare."""
    found = []
    for task in dict.fromkeys(task for each in facts for task in each.summary):
        groups = defaultdict(list)
        for each, name in zip(facts, names, strict=True):
            if task in each.tasks:
                groups[each.tasks[task].test_hash].append(name)
        if len(groups) > 1:
            sides = " | ".join(", ".join(members) for members in groups.values())
            found.append(f"{task}: the test sets differ ({sides}); these scores do not compare.")
    return found


def _cell(cell: dict[str, Any] | None, metric: str) -> str:
    if cell is None:
        return "–"
    failed = f", {cell['failed']} failed" if cell["failed"] else ""
    text = f"{numbers.score(cell['mean'], metric)} {numbers.interval(cell['interval'], metric)}".strip()
    return f"{text} ({cell['seeds']}{failed})"


def _difference(one: dict[str, Any] | None, metric: str) -> str:
    if one is None:
        return "–"
    sign = "+" if one["mean"] >= 0 else "−"
    bounds = one["interval"]
    clear = "*" if bounds and (bounds[0] > 0 or bounds[1] < 0) else ""
    text = f"{sign}{numbers.score(abs(one['mean']), metric)}{clear}"
    return f"{text} {numbers.interval(bounds, metric)}".strip() + f" ({one['pairs']})"
