"""Names for published shapes of models, so that a recipe need not spell them out.  Pure Python, no torch.

The 24 miniatures of Turc et al., "Well-Read Students Learn Better" (arXiv 1908.08962): heads of 64, a
feed-forward block of four times the width.  ``bert-1`` and ``bert-6`` are the shallow and the deep model of
arXiv 2507.14871.
"""

from __future__ import annotations

import difflib
from typing import Any

MINIATURE_LAYERS = (2, 4, 6, 8, 10, 12)
MINIATURE_WIDTHS = (128, 256, 512, 768)


def bert(layers: int, hidden: int) -> dict[str, Any]:
    """The keys of [model] of a BERT with heads of 64 and the layout's own feed-forward width."""
    return {"layout": "bert", "layers": layers, "hidden": hidden, "heads": hidden // 64, "ffn": None}


PRESETS: dict[str, dict[str, Any]] = {
    **{
        f"bert-{layers}-{width}": bert(layers, width)
        for layers in MINIATURE_LAYERS
        for width in MINIATURE_WIDTHS
    },
    "bert-tiny": bert(2, 128),
    "bert-mini": bert(4, 256),
    "bert-small": bert(4, 512),
    "bert-medium": bert(8, 512),
    "bert-base": bert(12, 768),
    "bert-1": bert(1, 768),
    "bert-6": bert(6, 768),
}


def filled(model: Any) -> Any:
    """A table [model] with its preset's keys filled in where it does not give them itself.

    What is no table, or names no preset that there is, comes back as it is: checking it is not done here.
    """
    name = model.get("preset") if isinstance(model, dict) else None
    return PRESETS[name] | model if isinstance(name, str) and name in PRESETS else model


def check(name: str) -> str:
    """The name, if there is such a preset.

    Raises:
        ValueError: there is none; names the nearest.
    """
    if name in PRESETS:
        return name
    near = difflib.get_close_matches(name, PRESETS, n=1, cutoff=0.5)
    meant = (
        f"did you mean `{near[0]}`?" if near else "docs/methods/miniatures.md names them, such as bert-4-256"
    )
    raise ValueError(f"no such preset; {meant}")
