"""The quality gate: what a smaller form of a model loses on dev against the model itself.

The test set has no part in it; it is read once, for the form that was chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wellread.evaluate import bootstrap
from wellread.evaluate.metrics import Output, score
from wellread.finetune import objective
from wellread.finetune.objective import Split
from wellread.serve.engines import engine as engines
from wellread.serve.engines.agreement import agreement
from wellread.serve.predict import Predictor, with_engine
from wellread.tasks.task import Task

RESAMPLES, SEED = 1000, 0


@dataclass(frozen=True)
class Answers:
    """What a model says of a split.

    Attributes:
        logits: float32 (N, labels), for tag (labelled words, labels).
        output: as :func:`wellread.evaluate.metrics.score` takes it.
    """

    logits: np.ndarray
    output: Output


def open_model(folder: Path, model: Path, threads: int = 1) -> Predictor:
    """A form of a model as ``wellread predict`` runs it, but batch after batch.

    Args:
        folder: of the form.
        model: the model itself, whose tokenizer it has.
        threads: CPU threads of an engine.
    """
    if not engines.is_engine(folder):
        return Predictor.load(folder)
    graph, _ = engines.load(folder, threads=threads)
    return with_engine(Predictor.load(model, "torch"), graph)


def answers(predictor: Predictor, task: Task, split: str) -> Answers:
    """Ask a model about a split."""
    examples = task.splits[split]
    encoded = predictor.head.encode(examples, predictor.max_length)
    logits = predictor.head.logits(predictor.model, encoded)
    output = objective.output(task.kind, task.labels, logits, Split(examples, encoded, np.zeros(0)))
    return Answers(logits, output)


def judge(task: Task, split: str, reference: Answers, found: Answers) -> dict[str, Any]:
    """What is lost on a split.

    Args:
        task: that both predict.
        split: "dev", or "test" at the very end.
        reference: of the model.
        found: of its other form.

    Returns:
        {"score", "interval", "drop", "drop_interval", "agreement"}: the metric of the task times 100, and
        95% intervals over draws of the split's documents; those of the drop are paired.
    """
    before, after = (100 * score(task, split, one.output)[task.metric] for one in (reference, found))
    own = bootstrap.interval(task, split, [found.output], task.metric, RESAMPLES, SEED)
    assert own is not None
    pair = ([reference.output], [found.output])
    lost = bootstrap.difference(task, split, pair, task.metric, RESAMPLES, SEED)
    return {
        "score": after,
        "interval": [100 * edge for edge in own],
        "drop": before - after,
        "drop_interval": [100 * edge for edge in lost],
        "agreement": float(np.nan_to_num(agreement(task.kind, reference.logits, found.logits))),
    }


def why_not(judgement: dict[str, Any], max_drop: float, least_agreement: float) -> str | None:
    """Why a form does not pass; None if it does.

    Args:
        judgement: of :func:`judge` on dev.
        max_drop: points of the metric that may be lost.
        least_agreement: share of decisions that must stay the same.
    """
    reasons = []
    if not judgement["drop"] <= max_drop + 1e-9:
        reasons.append(f"loses {judgement['drop']:.2f} points, {max_drop:g} are allowed")
    if least_agreement and not judgement["agreement"] >= least_agreement:
        reasons.append(f"agrees in {judgement['agreement']:.2%}, {least_agreement:.0%} is asked for")
    return "; ".join(reasons) or None
