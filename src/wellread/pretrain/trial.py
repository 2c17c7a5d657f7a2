"""One pre-training of a comparison: made once, continued after an interruption, told if it diverged."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wellread import files
from wellread.errors import UserError
from wellread.progress import say
from wellread.settings import ModelSettings, PretrainSettings


@dataclass(frozen=True)
class Trial:
    """What a finished pre-training says of itself.

    Attributes:
        folder: where it lies; ``model`` in it is the checkpoint.
        loss: in nats per predicted token, of the last validation under the one fixed mask.
        seconds: in steps, not in validation or in making lists.
        tokens: read.
        flops: accounted, its own.
        source_flops: accounted, of what it started from, where that is known.
    """

    folder: Path
    loss: float
    seconds: float
    tokens: int
    flops: float
    source_flops: float


def trial(
    model: ModelSettings,
    settings: PretrainSettings,
    prepared: Path,
    folder: Path,
    seed: int,
    *,
    quiet: bool = False,
) -> Trial | None:
    """Pre-train into ``folder`` unless it has been done.

    Args:
        model: the architecture, ``start`` a folder where there is one.
        settings: of the pre-training, the objective filled in.
        prepared: the ``stages`` folder of a run that went as far as its tokens; its corpus is read for
            the documents' categories only.
        folder: for this trial alone.
        seed: of weights, masks and order.
        quiet: say nothing.

    Returns:
        None where the loss or the gradient was not finite; ``failed.json`` there says at which step.

    Raises:
        UserError: anything else that :func:`wellread.pretrain.loop.pretrain` refuses.
    """
    from wellread.objectives import categories
    from wellread.pretrain.loop import pretrain

    failed = folder / "failed.json"
    if failed.exists():
        return None
    folder.mkdir(parents=True, exist_ok=True)
    if settings.categories:
        corpus, train = prepared / "corpus" / "documents.jsonl.zst", prepared / "tokens" / "train"
        categories.prepare(corpus, train, settings.categories, folder)
    try:
        pretrain(
            model,
            settings,
            tokens=prepared / "tokens",
            tokenizer=prepared / "tokenizer",
            folder=folder,
            seed=seed,
            quiet=quiet,
        )
    except UserError as error:
        if "not finite" not in error.what:
            raise
        say(f"{folder.name}: {error.what}")
        files.write_json(failed, {"seed": seed, "what": error.what})
        return None
    return read(folder)


def read(folder: Path) -> Trial:
    """What a finished trial says."""
    facts: dict[str, Any] = files.read_json(folder / "pretrain.json")
    seconds = json.loads((folder / "timing.jsonl").read_text().splitlines()[-1])["seconds"]
    before = (facts.get("start") or {}).get("flops") or {}
    return Trial(
        folder=folder,
        loss=facts["loss"],
        seconds=seconds,
        tokens=facts["tokens"],
        flops=facts["flops"]["accounted"],
        source_flops=before.get("accounted", 0.0),
    )
