"""compress.html and README.md: what was tried, what it costs and what was chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from wellread.compress import pareto
from wellread.compress.pareto import Row
from wellread.report import numbers, scatter, template
from wellread.report.charts import Style
from wellread.report.scatter import Dot

HERE = Path(__file__).parent
Plot = tuple[str, Markup]
COLOURS = {"engine": "s0", "quantise": "s1", "structured": "s2", "magnitude": "s3", "early_exit": "s4"}


def render(found: dict[str, Any]) -> str:
    """The page; the same facts give the same bytes.

    Args:
        found: as :func:`wellread.compress.job.run` returns it.
    """
    environment = template.environment(HERE)
    return environment.get_template("page.html").render(
        style=template.style(),
        facts=found,
        metric=numbers.metric_name(found["metric"]),
        verdict=sentence(found),
        test=test_sentence(found),
        plots=[_by_latency(found), _by_size(found)],
        rows=[
            {
                "number": place,
                "name": row["name"],
                "says": row["says"],
                "cells": pareto.cells(row),
                "times": pareto.times(row),
                "chosen": row["chosen"],
                "seeds": _seeds(row),
            }
            for place, row in enumerate(found["rows"], 1)
        ],
        shapes=[f"{one['batch']} × {one['length']}" for one in found["rows"][0]["latency"]],
    )


def sentence(found: dict[str, Any]) -> str:
    """What was chosen, or that nothing was."""
    if found["chosen"] is None:
        return f"Nothing of the target {found['target']} keeps the quality; the model stays as it is."
    base, row = found["rows"][0], next(row for row in found["rows"] if row["chosen"])
    name = numbers.metric_name(found["metric"]).removesuffix(" (%)")
    return (
        f"{row['name']} ({row['says']}): {row['speed']:.1f} times as fast as transformers in 32-bit floats "
        f"({base['speed']:.1f} times before), {row['bytes'] / 1e6:.2f} MB ({base['bytes'] / 1e6:.2f} MB "
        f"before), {pareto.points(row['drop'])} points of {name} lost on dev."
    )


def test_sentence(found: dict[str, Any]) -> str:
    """The scores on test; nothing where nothing was chosen."""
    if found["chosen"] is None:
        return ""
    base, own = found["test"]["fp32"], found["test"][found["chosen"]]
    low, high = own["drop_interval"]
    return (
        f"On test, read once at the end: {own['score']:.2f}, {base['score']:.2f} before; a difference of "
        f"{pareto.points(own['drop'])} points (95% interval {low:.2f} to {high:.2f}), the same decision in "
        f"{own['agreement']:.2%}."
    )


def readme(found: dict[str, Any]) -> str:
    """What the folder holds."""
    parts = [f"# {found['task']}, compressed", "", sentence(found), test_sentence(found), ""]
    if found["chosen"]:
        parts += ["    wellread predict model --input texts.jsonl", ""]
    parts += [
        f"`wellread compress` judged every form on {found['examples']} dev examples; at most "
        f"{found['max_drop']:g} points of {found['metric']} may be lost (target {found['target']}). Speed is "
        f"on {found['threads']} thread(s) of {found['machine']}, against plain transformers.",
        "",
        "- `model/`: the form that was chosen; nothing where none passed.",
        "- `compress.html`: table and plots. `compress.json`: everything that was measured.",
        "- `units/`: all forms that were tried, each with its model. They make a second run short; "
        "delete them if you do not want one.",
        "",
        "```",
        pareto.to_text(found),
        "```",
    ]
    return "\n".join(parts) + "\n"


def _by_latency(found: dict[str, Any]) -> Plot:
    shapes = [(one["batch"], one["length"]) for one in found["rows"][0]["latency"]]
    place = shapes.index((1, 128)) if (1, 128) in shapes else 0
    batch, length = shapes[place]
    label = f"ms for {numbers.plural(batch, 'text')} of {length} tokens, median (log scale)"
    return _plot(
        found, "Quality against latency", label, [row["latency"][place]["p50_ms"] for row in found["rows"]]
    )


def _by_size(found: dict[str, Any]) -> Plot:
    label = "MB of weights and graphs on disk (log scale)"
    return _plot(found, "Quality against size", label, [row["bytes"] / 1e6 for row in found["rows"]])


def _plot(found: dict[str, Any], title: str, x_label: str, costs: list[float]) -> Plot:
    """(title, picture)."""
    dots = [
        Dot(str(place), row["name"], cost, row["score"], tuple(row["interval"]), _look(row))
        for place, (row, cost) in enumerate(zip(found["rows"], costs, strict=True), 1)
    ]
    floor = found["rows"][0]["score"] - found["max_drop"]
    y_label = f"{numbers.metric_name(found['metric'])} on dev"
    return title, scatter.chart(title, x_label, y_label, dots, floor)


def _look(row: Row) -> Style:
    """Colours tell methods apart, shapes what the gate says."""
    colour = "rival" if row["method"] is None else COLOURS.get(row["method"], "s5")
    return Style(colour, "square" if row["chosen"] else "circle" if row["why_not"] is None else "triangle")


def _seeds(row: Row) -> str:
    scores = [run["score"] for run in row["runs"]]
    shown = ("failed" if score is None else f"{score:.2f}" for score in scores)
    return ", ".join(shown) if len(scores) > 1 else ""
