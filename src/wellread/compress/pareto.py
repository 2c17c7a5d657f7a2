"""Size, speed and quality of the forms of a model side by side."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def speed(records: Sequence[Row]) -> float:
    """How many times as fast as plain transformers, the geometric mean over batches and lengths."""
    return statistics.geometric_mean(one["ratio"] for one in records)


def timings(records: Sequence[Row]) -> list[Row]:
    """What the tables show of records of ``wellread bench infer``, in milliseconds."""
    return [
        {
            "batch": one["batch"],
            "length": one["length"],
            "p50_ms": 1e3 * one["seconds"],
            "p95_ms": 1e3 * one["p95_seconds"],
            "ratio": one["ratio"],
        }
        for one in records
    ]


def to_text(found: dict[str, Any]) -> str:
    """The tables for people: quality and size, then latency."""
    lines = [f"{found['task']}, {found['metric']} on {found['examples']} dev examples", ""]
    heads = ["", "score", "interval", "drop", "interval", "agrees", "MB", "speed", "gate"]
    lines += _aligned([heads, *([row["name"], *cells(row)] for row in found["rows"])])
    shapes = [(one["batch"], one["length"]) for one in found["rows"][0]["latency"]]
    heads = ["ms, p50 (p95)", *(f"{batch} x {length}" for batch, length in shapes)]
    lines += ["", *_aligned([heads, *([row["name"], *times(row)] for row in found["rows"])])]
    for one in found["left_out"]:
        lines += ["", f"left out: {one['name']}: {one['why']}"]
    return "\n".join(lines)


def cells(row: Row) -> list[str]:
    """A row of the first table, but its name."""
    return [
        f"{row['score']:.2f}",
        f"{row['interval'][0]:.1f}-{row['interval'][1]:.1f}",
        points(row["drop"]),
        f"{row['drop_interval'][0]:.1f} to {row['drop_interval'][1]:.1f}",
        f"{row['agreement']:.2%}",
        f"{row['bytes'] / 1e6:.2f}",
        f"{row['speed']:.2f}x",
        verdict(row),
    ]


def times(row: Row) -> list[str]:
    """A row of the second table, but its name."""
    return [f"{one['p50_ms']:.2f} ({one['p95_ms']:.2f})" for one in row["latency"]]


def points(value: float) -> str:
    """0.004 and -0.004 as 0.00."""
    return f"{round(value, 2) + 0.0:.2f}"


def verdict(row: Row) -> str:
    """What the gate says, and whether the row was chosen."""
    if row.get("chosen"):
        return "chosen"
    return "-" if row["method"] is None else "passes" if row["why_not"] is None else "fails"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    return [
        "  ".join(
            [name.ljust(first), *(cell.rjust(width) for cell, width in zip(rest, others, strict=True))]
        ).rstrip()
        for name, *rest in rows
    ]
