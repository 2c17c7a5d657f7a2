"""Records as tables for people: plain text, or Markdown for documents."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from wellread.bench.measure import KEYS, Record
from wellread.errors import DataError

Table = tuple[str, list[str], list[list[str]]]  # title, heads, rows
TITLES = {
    "machine": "This machine at its best",
    "layers": "Single layers: times as fast as the dense layer",
    "steps": "Pre-training steps: times as fast as the packed dense step",
    "trainer": "Against the Trainer of transformers: real tokens per second",
    "memory": "Peak memory of training: share of the dense model's",
    "latency": "Predictions, tokenizer included: times as fast as transformers in fp32",
    "file": "A file of documents, tokenizer included: times as fast as transformers in fp32",
}


def to_text(records: list[Record]) -> str:
    """Plain text in columns."""
    lines: list[str] = []
    for title, heads, rows in tables(records):
        widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
        lines += [title, ""]
        for row in (heads, *rows):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            lines.append("  ".join(cells).rstrip())
        lines.append("")
    return "\n".join(lines).rstrip()


def to_markdown(records: list[Record]) -> str:
    """Markdown tables, a heading before each."""
    lines: list[str] = []
    for title, heads, rows in tables(records):
        lines += [f"### {title}", ""]
        for row in (heads, ["---"] * len(heads), *rows):
            lines.append(f"| {' | '.join(row)} |")
        lines.append("")
    return "\n".join(lines).rstrip()


def tables(records: list[Record]) -> list[Table]:
    """One table for each part that has records."""
    makers = {
        "machine": _machine,
        "layers": _layers,
        "steps": _steps,
        "trainer": _trainer,
        "memory": _memory,
        "latency": _latency,
        "file": _file,
    }
    found = []
    for part, maker in makers.items():
        ours = [record for record in records if record["part"] == part]
        if ours:
            found.append((TITLES[part], *maker(ours)))
    return found


def check(records: Any, where: str) -> list[Record]:
    """The records as read from a file.

    Raises:
        DataError: they are not what ``wellread bench train --json`` printed.
    """
    good = isinstance(records, list) and all(
        isinstance(record, dict) and {"part", "name", "ratio"} <= set(record) <= set(KEYS)
        for record in records
    )
    if not good:
        raise DataError(
            "not the records of a benchmark", where=where, fix="give what `wellread bench train` wrote"
        )
    return [dict.fromkeys(KEYS) | record for record in records]  # older ones lack the newer keys


def _machine(records: list[Record]) -> tuple[list[str], list[list[str]]]:
    heads = ["threads", "what", "best", "machine"]
    rows = []
    for one in records:
        speed, width = one["flops_per_second"], one["bytes_per_second"]
        best = f"{speed / 1e9:.1f} GFLOP/s" if speed else f"{width / 1e9:.1f} GB/s"
        rows.append([str(one["threads"]), f"{one['name']}, {one['pass']}", best, one["note"]])
    return heads, rows


def _layers(records: list[Record]) -> tuple[list[str], list[list[str]]]:
    """One row for a layer, its passes side by side."""
    heads = ["threads", "layer", "pattern", "zeros", "forward", "backward", "both", "spread"]
    heads += ["ms", "of peak", "of roofline"]

    def layer(one: Record) -> tuple[Any, ...]:
        return one["threads"], one["shape"], one["sparsity"], one["pattern"]

    order = {key: place for place, key in enumerate(dict.fromkeys(map(layer, records)))}
    rows = []
    for _, group in groupby(sorted(records, key=lambda one: order[layer(one)]), key=layer):
        passes = {one["pass"]: one for one in group}
        both = passes["both"]
        rows.append(
            [
                str(both["threads"]),
                both["shape"],
                both["pattern"],
                _zeros(both),
                *(_times(passes[name]["ratio"]) for name in ("forward", "backward", "both")),
                _spread(both),
                f"{both['seconds'] * 1e3:.2f}",
                _percent(both["share_of_peak"]),
                _percent(both["share_of_roofline"]),
            ]
        )
    return heads, rows


def _steps(records: list[Record]) -> tuple[list[str], list[list[str]]]:
    heads = ["threads", "model", "pattern", "zeros", "ratio", "spread", "pairs"]
    heads += ["tokens", "s a step", "tokens/s", "of peak"]
    return heads, [
        [
            str(one["threads"]),
            one["shape"],
            one["pattern"],
            _zeros(one),
            _times(one["ratio"]),
            _spread(one),
            str(one["repetitions"]),
            f"{one['tokens']:.0f}",
            f"{one['seconds']:.3f}",
            f"{one['tokens_per_second']:.0f}",
            _percent(one["share_of_peak"]),
        ]
        for one in records
    ]


def _trainer(records: list[Record]) -> tuple[list[str], list[list[str]]]:
    heads, rows = _steps(records)
    heads = ["what", "against", *heads, "padding"]
    names = [[one["name"], one["against"] if one["spread"] else "-"] for one in records]
    paddings = ["-" if one["padding"] is None else _percent(one["padding"]) for one in records]
    return heads, [[*name, *row, padding] for name, row, padding in zip(names, rows, paddings, strict=True)]


def _memory(records: list[Record]) -> tuple[list[str], list[list[str]]]:
    heads = ["model", "tokens a step", "pattern", "zeros", "what", "GB", "share"]
    return heads, [
        [
            one["shape"],
            f"{one['tokens']:.0f}",
            one["pattern"],
            _zeros(one),
            f"{one['pass']} ({one['note']})",
            f"{one['bytes'] / 1e9:.2f}",
            _times(one["ratio"]),
        ]
        for one in records
    ]


def _latency(records: list[Record]) -> tuple[list[str], list[list[str]]]:
    heads = ["threads", "model", "batch", "length", "what", "ratio", "spread", "calls", "median ms", "p95 ms"]
    return heads, [
        [
            *(str(one[key]) for key in ("threads", "shape", "batch", "length", "name")),
            _times(one["ratio"]),
            _spread(one),
            str(one["repetitions"]),
            f"{one['seconds'] * 1e3:.2f}",
            f"{one['p95_seconds'] * 1e3:.2f}",
        ]
        for one in records
    ]


def _file(records: list[Record]) -> tuple[list[str], list[list[str]]]:
    heads = ["threads", "model", "what", "ratio", "spread", "passes", "documents/s", "tokens/s"]
    return heads, [
        [
            *(str(one[key]) for key in ("threads", "shape", "name")),
            _times(one["ratio"]),
            _spread(one),
            str(one["repetitions"]),
            f"{one['documents_per_second']:.1f}",
            f"{one['tokens_per_second']:.0f}",
        ]
        for one in records
    ]


def _zeros(one: Record) -> str:
    return "-" if not one["sparsity"] else _percent(one["zeros"], digits=1)


def _times(ratio: float) -> str:
    return f"{ratio:.2f}x"


def _spread(one: Record) -> str:
    return "-" if one["spread"] is None else f"{one['spread'][0]:.2f}-{one['spread'][1]:.2f}"


def _percent(share: float, digits: int = 0) -> str:
    return f"{share:.{digits}%}"
