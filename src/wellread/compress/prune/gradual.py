"""Pruning while training: the level rises along a cubic, then the mask stays and the model settles."""

from __future__ import annotations

from typing import Any

from wellread import rng
from wellread.compress.prune import masks
from wellread.compress.prune.settings import GradualSettings
from wellread.compress.prune.training import retrain, settings_of, steps_in
from wellread.compress.subject import Subject, load_model
from wellread.finetune.loop import Loss


def level_at(step: int, steps: int, level: float) -> float:
    """Level * (1 - (1 - step / steps)^3): fast while there is much to take (Zhu, Gupta, arXiv 1710.01878).

    Args:
        step: steps done.
        steps: in which the level is reached.
        level: at the end.
    """
    return level * (1 - (1 - min(step, steps) / steps) ** 3)


def prune(
    subject: Subject, settings: GradualSettings, seed: int, *, moving: bool, loss: Loss | None = None
) -> Any:
    """Prune by magnitude or by movement; see :mod:`.magnitude` and :mod:`.movement`.

    The moment of the first part is its last, for only there the level is reached; in the second part the
    best moment on dev is kept, as in fine-tuning.
    """
    model = load_model(subject)
    if settings.level == 0:
        return model
    found = masks.attach(model, moving=moving)
    training = settings_of(subject, settings.epochs)
    steps = max(2, steps_in(subject, training))
    ramp = min(steps - 1, max(1, round(settings.ramp * steps)))

    def after(_: Any, step: int) -> None:
        if step % settings.every == 0 or step == ramp:
            masks.update(model, found, level_at(step, ramp, settings.level), settings.pattern)

    # No mean over steps here: the weights of a place that has died count for nothing.
    rising = {"evaluations": 1, "min_steps": ramp, "max_steps": ramp, "average": "none"}
    retrain(model, subject, training.model_copy(update=rising), seed, loss=loss, after=after)
    rest = {"min_steps": steps - ramp, "max_steps": steps - ramp}
    settled = rng.derive(seed, "prune-settle")
    retrain(model, subject, training.model_copy(update=rest), settled, loss=loss)
    return masks.detach(model)
