"""What a model's predictions cost, beside its scores: columns of the tables, and one picture."""

from __future__ import annotations

from dataclasses import dataclass

from wellread.report import charts, numbers, results
from wellread.report.charts import Frame, Series, Style
from wellread.report.figures import Figure
from wellread.report.gather import RunFacts
from wellread.report.results import Score

LEAST_SECONDS = 1e-3  # for a thousand texts: what is faster stands there on the logarithmic scale
COLUMNS = ("Fit", "1,000 texts", "Memory", "Size")


@dataclass(frozen=True)
class Cost:
    """Of the runs behind one score; None where it was not measured.

    Attributes:
        seconds: of fitting and choosing, mean over the seeds.
        per_1000: seconds for a thousand predictions on one thread, mean over the seeds.
        peak_bytes: memory that fitting added to the process, the largest of the seeds.
        size_bytes: of what is kept to predict.
    """

    seconds: float | None
    per_1000: float | None
    peak_bytes: int | None
    size_bytes: int | None


UNKNOWN = Cost(None, None, None, None)


def cost(facts: RunFacts, score: Score) -> Cost:
    """What the runs behind a score cost."""
    found = [
        unit.get("costs", {})
        for unit in facts.units
        if (unit["task"], unit["model"], unit["start"], unit["labels"])
        == (score.task, *score.key, score.labels)
    ]

    def values(name: str) -> list[float]:
        return [one[name] for one in found if one.get(name) is not None]

    def mean(name: str) -> float | None:
        known = values(name)
        return sum(known) / len(known) if known else None

    def most(name: str) -> int | None:
        return int(max(values(name))) if values(name) else None

    return Cost(mean("seconds"), mean("seconds_per_1000"), most("peak_memory_bytes"), most("size_bytes"))


def cells(facts: RunFacts, score: Score) -> list[str]:
    """The cost in words, one for each of COLUMNS."""
    known = cost(facts, score)
    return [
        "–" if known.seconds is None else numbers.duration(known.seconds),
        "–" if known.per_1000 is None else numbers.seconds(known.per_1000),
        "–" if known.peak_bytes is None else numbers.size(known.peak_bytes),
        "–" if known.size_bytes is None else numbers.size(known.size_bytes),
    ]


def picture(
    facts: RunFacts, by_task: dict[str, list[Score]], looks: dict[tuple[str, str], Style]
) -> Figure | None:
    """Mean score over the tasks, with all labels, against the mean cost of a prediction.

    Models that were not measured on every task are left out and named; None where fewer than two are left.
    """
    top = {
        task: results.at(groups, results.amounts(groups)[-1]) for task, groups in by_task.items() if groups
    }
    keys = dict.fromkeys(one.key for groups in top.values() for one in groups if one.model != "majority")
    points, missing, named = {}, [], {}
    for key in keys:
        own = [one for groups in top.values() for one in groups if one.key == key]
        named[key] = results.name(own[0], facts)
        costs = [cost(facts, one).per_1000 for one in own]
        known = [value for value in costs if value is not None]
        if len(known) == len(top) and all(one.mean is not None for one in own):
            quality = 100 * sum(one.mean or 0.0 for one in own) / len(own)
            points[key] = (max(sum(known) / len(known), LEAST_SECONDS), quality)
        elif known:
            missing.append(named[key])
    if len(points) < 2:
        return None
    words = [f"{named[key]}: {y:.1f} at {numbers.seconds(x)}" for key, (x, y) in points.items()]
    lowest, highest = min(x for x, _ in points.values()), max(x for x, _ in points.values())
    frame = Frame(
        title="Quality against the cost of a prediction",
        description="; ".join(words) + ".",
        x_label="seconds for 1,000 texts on one thread (log scale)",
        y_label="mean score over the tasks (×100)",
        log_x=True,
        x_ticks=charts.log_ticks(lowest, highest),
        width=460,
    )
    series = [Series(named[key], looks[key], [point]) for key, point in points.items()]
    left_out = f" Not on every task, so not shown: {numbers.listing(missing)}." if missing else ""
    return Figure(charts.line_chart(frame, series), "; ".join(words) + "." + left_out, 460)
