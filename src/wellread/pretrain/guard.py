"""What continual pre-training costs the model that it starts from: gap, forgetting, and a bound on them.

Guo et al. (arXiv 2406.14833): on a new field a model first gets worse and then better.  The loss on general
text is logged beside the field's; where it rises beyond a bound, training stops at the last state within it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wellread.errors import UserError
from wellread.settings import PretrainSettings

KEY = "pretrain.continual.max_rise"


def gap(losses: Sequence[float]) -> dict[str, float]:
    """How a validation loss went.

    Args:
        losses: from the start checkpoint's on, at least one.

    Returns:
        "start", "worst" and "end"; "depth", by how much the worst lies above the start (the stability gap),
        and "rise", by how much the end does (below 0 where the model got better).
    """
    start, worst, end = losses[0], max(losses), losses[-1]
    return {"start": start, "worst": worst, "end": end, "depth": worst - start, "rise": end - start}


def curves(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The gaps of the field's text and of the general one, where it was validated on.

    Args:
        records: the lines of validation.jsonl.
    """
    found = {"field": gap([record["loss"] for record in records])} if records else {}
    general = [record["general"]["loss"] for record in records if "general" in record]
    return found | ({"general": gap(general)} if general else {})


def check(loss: float, start: float, bound: float, step: int, good: int) -> None:
    """Stop where the general loss has risen too far.

    Args:
        loss: on the general text now.
        start: of the start checkpoint.
        bound: by how much it may rise, in nats.
        step: that was just validated.
        good: the step of the checkpoint that is kept: the last within the bound, as it was then.

    Raises:
        UserError: it is beyond it.
    """
    if loss - start <= bound:
        return
    raise UserError(
        f"the loss on the general text rose by {loss - start:.3f} nats to {loss:.3f} at step {step}, beyond "
        f"the bound of {bound:g}; the checkpoint of step {good}, the last before it, is kept",
        where=KEY,
        fix="lower pretrain.learning_rate or raise pretrain.continual.replay, which starts anew; or raise "
        f"the bound, which goes on from step {good}",
    )


def bound(settings: PretrainSettings) -> float | None:
    """By how much the general loss may rise; None where that is not watched."""
    return settings.continual.max_rise if settings.continual else None
