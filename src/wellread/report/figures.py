"""Which charts a run's report shows, drawn from its facts."""

from __future__ import annotations

import bisect
import re
from dataclasses import dataclass, replace

from markupsafe import Markup

from wellread.report import charts, numbers, results
from wellread.report.charts import Frame, Series, Style
from wellread.report.gather import Record, RunFacts, Variant
from wellread.report.results import Score

START_CUT = 0.04  # the loss axis leaves out what lies above the curve after this share of the run


@dataclass(frozen=True)
class Figure:
    """A picture with the sentence below it, and the width in pixels at which its text reads best."""

    picture: Markup
    caption: str
    width: int = 400


def variant_styles(facts: RunFacts) -> dict[str, Style]:
    """The look of each variant, the same as in the learning curves."""
    looks = results.styles(facts, [])
    return {variant.title: looks[variant.name, "pretrained"] for variant in facts.variants}


def loss_curves(facts: RunFacts) -> list[Figure]:
    """Training and validation loss against tokens, accounted FLOPs and seconds."""
    variants = [variant for variant in facts.variants if variant.log or variant.validation]
    if not variants:
        return []
    points = [
        row for variant in variants for row in (*variant.log, *variant.validation, *general_rows(variant))
    ]
    most = max(row["tokens"] for row in points)
    settled = [row["loss"] for row in points if row["tokens"] >= START_CUT * most]
    low, high = min(row["loss"] for row in points), max(settled)
    limits = (low - 0.05 * (high - low), high + 0.05 * (high - low)) if high > low else None
    found = []
    for axis, words, unit in (
        ("tokens", "tokens read", _unit(most, ((1e9, "billions"), (1e6, "millions"), (1e3, "thousands")))),
        ("flops", "accounted floating-point operations", _flop_unit(points)),
        ("seconds", "seconds of training", _time_unit(variants)),
    ):
        series = _loss_series(facts, variants, axis, unit[0])
        if not series:
            continue
        label = {"tokens": "tokens", "flops": "accounted", "seconds": "training time,"}[axis]
        frame = Frame(
            title=f"Loss against {words}",
            description=_loss_words(variants),
            x_label=f"{label} {unit[1]}" if axis != "tokens" else f"tokens, {unit[1]}",
            y_label="loss, nats per predicted token",
            y_range=limits,
            width=300,
        )
        found.append(Figure(charts.line_chart(frame, series), f"against {words}"))
    return found


def _loss_series(facts: RunFacts, variants: list[Variant], axis: str, unit: float) -> list[Series]:
    looks = variant_styles(facts)
    series = []
    for variant in variants:
        general = general_rows(variant)
        named = (("training", variant.log), ("validation", variant.validation), ("general text", general))
        for name, rows in named:
            faint = name == "training"
            places = [_place(row, axis, variant.timing) for row in rows]
            points = [(x / unit, row["loss"]) for x, row in zip(places, rows, strict=True) if x is not None]
            if points:
                kept = charts.thin(points) if faint else points
                look = looks[variant.title]
                if rows is general:
                    look = replace(look, dash="2 3")
                series.append(Series(f"{variant.title}, {name}", look, kept, markers=not faint, faint=faint))
    return sorted(series, key=lambda one: not one.faint)


def general_rows(variant: Variant) -> list[Record]:
    """The validations on a general text, where continual pre-training made some."""
    return [row | {"loss": row["general"]["loss"]} for row in variant.validation if "general" in row]


def _place(row: Record, axis: str, timing: list[Record]) -> float | None:
    """Where a logged step stands on an axis; seconds are interpolated between the noted ones."""
    if axis != "seconds":
        return row.get(axis)
    if not timing:
        return None
    steps = [entry["step"] for entry in timing]
    right = bisect.bisect_left(steps, row["step"])
    if right == len(steps):
        return timing[-1]["seconds"]
    before = timing[right - 1] if right else {"step": 0, "seconds": 0.0}
    after = timing[right]
    share = (row["step"] - before["step"]) / ((after["step"] - before["step"]) or 1)
    return before["seconds"] + share * (after["seconds"] - before["seconds"])


def _loss_words(variants: list[Variant]) -> str:
    ends = [
        f"{variant.title} ends at a validation loss of {variant.validation[-1]['loss']:.3f}"
        for variant in variants
        if variant.validation
    ]
    return numbers.listing(ends) + "." if ends else "Training loss only."


def _unit(most: float, units: tuple[tuple[float, str], ...]) -> tuple[float, str]:
    return next(((size, name) for size, name in units if most >= size), (1.0, ""))


def _flop_unit(points: list[Record]) -> tuple[float, str]:
    most = max((row.get("flops") or 0 for row in points), default=0)
    size, letter = _unit(most, numbers.PREFIXES)
    return size, f"{letter}FLOP"


def _time_unit(variants: list[Variant]) -> tuple[float, str]:
    most = max((variant.timing[-1]["seconds"] for variant in variants if variant.timing), default=0)
    # From one and a half hours, and from two and a half minutes on.
    return (3600.0, "hours") if most >= 5400 else (60.0, "minutes") if most >= 150 else (1.0, "seconds")


def learning_curve(
    facts: RunFacts, groups: list[Score], looks: dict[tuple[str, str], Style]
) -> Figure | None:
    """Score against number of labels; None where there is one budget only (0 stands in the tables alone)."""
    groups = [one for one in groups if one.labels]
    amounts = sorted({one.labels for one in groups})
    if len(amounts) < 2:
        return None
    metric = groups[0].metric
    lines = _curves(facts, groups, looks)
    floor = [one for one in lines if one.name == results.RIVALS["majority"]]
    shown = [one for one in lines if one not in floor]
    note = ""
    if floor and shown:
        lowest = min(y for one in shown for _, y in one.points)
        highest = max(y for one in shown for _, y in one.points)
        level = max(y for _, y in floor[0].points)
        if level >= lowest - 0.4 * (highest - lowest):
            shown = lines
        else:
            note = (
                f" The majority class ({numbers.score(level / _scale(metric), metric)}) lies below the frame."
            )
    task = groups[0].task
    frame = Frame(
        title=f"{task}: {numbers.metric_name(metric)} against number of labels",
        description="; ".join(
            f"{one.name}: " + ", ".join(f"{y:.3g} with {x:g}" for x, y in one.points) for one in lines
        ),
        x_label="training labels (log scale)",
        y_label=numbers.metric_name(metric),
        width=400,
        log_x=True,
        x_ticks=amounts,
    )
    return Figure(charts.line_chart(frame, shown or lines), f"Bands are 95% intervals.{note}")


def _scale(metric: str) -> float:
    return 1.0 if numbers.is_fraction(metric) else 100.0


def _curves(facts: RunFacts, groups: list[Score], looks: dict[tuple[str, str], Style]) -> list[Series]:
    lines = []
    for key in dict.fromkeys(one.key for one in groups):
        own = [one for one in groups if one.key == key and one.mean is not None]
        if not own:
            continue
        scale = _scale(own[0].metric)
        lines.append(
            Series(
                name=results.name(own[0], facts),
                style=looks[key],
                points=[(one.labels, scale * (one.mean or 0.0)) for one in own],
                band=[
                    (one.labels, scale * one.interval[0], scale * one.interval[1])
                    for one in own
                    if one.interval
                ],
            )
        )
    return lines


def confusion(facts: RunFacts, main: Score | None, labels: list[str]) -> Figure | None:
    """The main model's confusion matrix, where the task has one."""
    if main is None or not main.confusion:
        return None
    names = labels if len(labels) == len(main.confusion) else [str(i + 1) for i in range(len(main.confusion))]
    title = f"{main.task}: confusion matrix of {results.name(main, facts)}"
    over = f", counts over {numbers.plural(len(main.seeds), 'seed')}" if len(main.seeds) > 1 else ""
    caption = (
        f"{results.name(main, facts)} with {numbers.plural(main.labels, 'label')}{over}. Rows: true labels, "
        f"columns: predicted; shares are of the row.{_worst(names, main.confusion)}"
    )
    picture = charts.confusion(title, names, main.confusion)
    natural = re.search(r'viewBox="0 0 ([\d.]+)', picture)
    return Figure(picture, caption, round(1.06 * float(natural.group(1))) if natural else 400)


def _worst(names: list[str], counts: list[list[int]]) -> str:
    """The commonest confusion as a share of its row, in words."""
    shares = [
        (row[column] / sum(row), names[place], names[column])
        for place, row in enumerate(counts)
        for column in range(len(names))
        if column != place and any(row)
    ]
    share, gold, taken = max(shares, default=(0.0, "", ""))
    return f" {numbers.percent(share, 0)} of {gold} is taken for {taken}." if share else ""


def reliability(facts: RunFacts, groups: list[Score], looks: dict[tuple[str, str], Style]) -> Figure | None:
    """Reliability of the main model and, where it has probabilities, of TF-IDF beside it."""
    labels = results.amounts(groups)[-1] if groups else 0
    main = results.main_score(facts, groups, labels)
    rival = next((one for one in results.at(groups, labels) if one.model == "tfidf"), None)
    shown = [one for one in (main, rival) if one and one.calibration and one.calibration.get("bins")]
    if not shown or shown[0] is not main:
        return None
    words = [
        f"{results.name(one, facts)}: ECE {numbers.percent((one.calibration or {})['ece'])}" for one in shown
    ]
    curves = [(looks[one.key], (one.calibration or {})["bins"]) for one in shown]
    title = f"{shown[0].task}: reliability"
    return Figure(charts.reliability(title, "; ".join(words) + ".", curves), "; ".join(words) + ".", 300)
