"""What each pre-trained model took: tokens, steps, batch, FLOPs, time and money, to stand beside its scores.

As Mukherjee and Hellendoorn do for SOBert (arXiv 2306.03268): a score without them says little.
"""

from __future__ import annotations

from typing import Any

from wellread.report import numbers
from wellread.report.gather import RunFacts

HEADS = ["run", "model", "parameters", "tokens", "per parameter", "steps", "batch", "FLOPs", "time", "price"]


def account(facts: RunFacts, price: float | None = None) -> list[dict[str, Any]]:
    """The bill of every variant of a run; what it started from is not in it.

    Args:
        facts: of the run.
        price: of an hour of the machine, in any currency.

    Returns:
        [{"model", "parameters", "tokens", "tokens_per_parameter", "steps", "batch_tokens" (on average; times
        steps they are the tokens), "flops", "seconds", "money" (None without a price or a time)}]
    """
    found = []
    for variant in facts.variants:
        known = variant.facts
        seconds = variant.timing[-1]["seconds"] if variant.timing else None
        found.append(
            {
                "model": variant.name,
                "parameters": known["parameters"],
                "tokens": known["tokens"],
                "tokens_per_parameter": known["tokens"] / max(1, known["parameters"]),
                "steps": known["steps"],
                "batch_tokens": known["tokens"] / max(1, known["steps"]),
                "flops": known["flops"]["accounted"],
                "seconds": seconds,
                "money": None if price is None or seconds is None else price * seconds / 3600,
            }
        )
    return found


def rows(run: str, bills: list[dict[str, Any]]) -> list[list[str]]:
    """Cells below HEADS."""
    return [
        [
            run,
            bill["model"],
            numbers.whole(bill["parameters"]),
            numbers.whole(bill["tokens"]),
            f"{bill['tokens_per_parameter']:.1f}",
            numbers.whole(bill["steps"]),
            numbers.whole(round(bill["batch_tokens"])),
            numbers.flops(bill["flops"]),
            numbers.duration(bill["seconds"]) if bill["seconds"] is not None else "–",
            f"{bill['money']:.2f}" if bill["money"] is not None else "–",
        ]
        for bill in bills
    ]
