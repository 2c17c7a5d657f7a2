"""How numbers are written for people: thousands, durations, bytes, operations, scores."""

from __future__ import annotations

from collections.abc import Sequence

# Scores that people quote as they are rather than in percent.
FRACTIONS = frozenset({"pearson", "spearman", "rmse"})
# Everything else is better when higher.
LOWER_IS_BETTER = frozenset({"rmse"})
NAMES = {
    "accuracy": "accuracy",
    "f1": "F1",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "micro_f1_doc": "micro F1 by document",
    "entity_f1": "entity F1",
    "pearson": "Pearson r",
    "spearman": "Spearman ρ",
    "auroc": "AUROC",
    "rmse": "RMSE",
}
PREFIXES = ((1e21, "Z"), (1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"))


def whole(number: float) -> str:
    """18120 as 18,120."""
    return f"{number:,.0f}"


def short(number: float) -> str:
    """3931556 as 3.93 million; below a million exactly."""
    for size, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if abs(number) >= 0.9995 * size:
            value = number / size
            return f"{value:.{2 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f} {word}"
    return whole(number)


def flops(number: float) -> str:
    """1.23e15 as 1.23 PFLOP: a count of floating-point operations, not a rate."""
    for size, letter in PREFIXES:
        if number >= size:
            return f"{number / size:.3g} {letter}FLOP"
    return f"{number:.3g} FLOP"


def duration(seconds: float) -> str:
    """461.8 as 7 min 42 s."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def seconds(value: float) -> str:
    """0.1907 as 0.19 s, 0.0004 as under 0.01 s, from ten on as a duration."""
    if value < 0.01:
        return "under 0.01 s"
    return f"{value:.2g} s" if value < 9.95 else duration(value)


def size(count_bytes: float) -> str:
    """1234567890 as 1.23 GB (decimal units)."""
    for unit, letter in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count_bytes >= unit:
            return f"{count_bytes / unit:.3g} {letter}"
    return f"{count_bytes:.0f} B"


def percent(share: float, digits: int = 1) -> str:
    """0.8412 as 84.1%."""
    return f"{100 * share:.{digits}f}%"


def is_fraction(metric: str) -> bool:
    """Whether people quote the metric as a fraction."""
    return metric in FRACTIONS


def score(value: float | None, metric: str) -> str:
    """0.8412 as 84.1, a correlation as 0.841, nothing as a dash."""
    if value is None:
        return "–"
    return f"{value:.3f}" if is_fraction(metric) else f"{100 * value:.1f}"


def interval(bounds: Sequence[float] | None, metric: str) -> str:
    """[0.83, 0.85] as [83.0, 85.0]; an empty string where there is none."""
    return f"[{score(bounds[0], metric)}, {score(bounds[1], metric)}]" if bounds else ""


def metric_name(metric: str) -> str:
    """A metric's name for people, with its unit."""
    name = NAMES.get(metric, metric.replace("_", " "))
    return name if is_fraction(metric) else f"{name} (%)"


def plural(count: int, noun: str, several: str | None = None) -> str:
    """1 seed, 3 seeds."""
    return f"{whole(count)} {noun if count == 1 else several or noun + 's'}"


def listing(words: list[str], last: str = "and") -> str:
    """a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}" if words else ""
