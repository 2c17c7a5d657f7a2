"""Fine-tune a stock model on one task, once.

After Mosbach et al. (arXiv 2006.04884) and Zhang et al. (2006.05987): AdamW with bias correction, a warm-up
and a linear decay, many steps on small data, clipped gradients; the best moment on dev is kept.  More tools
against failed runs stand in ``stability/``.  A run is a pure function of (start, examples, settings, seed):
the order of the examples comes from ``rng``, dropout from a generator seeded at the beginning, and nothing is
ever resumed in the middle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wellread import rng
from wellread.errors import DataError
from wellread.evaluate.metrics import score
from wellread.finetune import batches, objective, stable
from wellread.finetune.data import TaskData
from wellread.finetune.light import methods as light
from wellread.finetune.objective import Objective, Split
from wellread.finetune.optimizer import optimizer, set_rates
from wellread.finetune.stability import averaging
from wellread.finetune.stability.base_rates import begin_at_base_rates
from wellread.finetune.stability.freeze import freeze
from wellread.finetune.stability.reinitialise import reinitialise
from wellread.models import build, packed
from wellread.precision import Precision, autocast
from wellread.schedules import learning_rate
from wellread.settings import FinetuneSettings, ModelSettings
from wellread.tasks.task import Example
from wellread.workers import tick

# (model, train, (B,) sequences of a batch, objective, a seed of this step) -> mean loss, to differentiate.
Loss = Callable[[Any, Split, np.ndarray, Objective, int], Tensor]
FRESH = ("classifier", "comparison")  # heads whose last layer is new and gives a logit for each label
# (model, number of steps done): what a method does to the weights after each step.
After = Callable[[Any, int], None]


@dataclass
class FinetuneResult:
    """What a run left.

    Attributes:
        failed: whether the loss or a gradient stopped being a number; then there is no model, and the outputs
            are NaN (for tag "O" throughout).
        failure: why, or "".
        labels: number of training examples.
        picked: settings that a named recipe has picked for this run.
        parameters, trainable_parameters: numbers in the model, and those that were trained.
        truncated: number of inputs (of train, dev and test) that were cut to the longest length.
        steps: optimiser steps done.
        best_step: the step whose weights were kept.
        history: for each evaluation {"step", "loss" (mean since the last), "dev", "dev_loss"}.
        dev, test: scores by metric.
        dev_output, test_output: float32 (N, labels), or for tag a list of tags for each example.
        model: the stock model with the best weights.
    """

    failed: bool = False
    failure: str = ""
    labels: int = 0
    picked: dict[str, Any] = field(default_factory=dict)
    parameters: int = 0
    trainable_parameters: int = 0
    truncated: int = 0
    steps: int = 0
    best_step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    dev: dict[str, float] = field(default_factory=dict)
    test: dict[str, float] = field(default_factory=dict)
    dev_output: Any = None
    test_output: Any = None
    model: Any = None


@dataclass
class _Best:
    """The best moment so far; a higher score wins, between equal scores the lower loss on dev."""

    rank: tuple[float, float] = (-math.inf, -math.inf)
    step: int = 0
    state: dict[str, Tensor] = field(default_factory=dict)
    since: int = 0  # evaluations since then


@dataclass(frozen=True)
class _Ways:
    loss: Loss
    after: After | None
    precision: Precision


def finetune(
    data: TaskData,
    train: Sequence[Example],
    start: Path | ModelSettings,
    tokenizer: Any,
    settings: FinetuneSettings,
    seed: int,
    *,
    loss: Loss | None = None,
    after: After | None = None,
) -> FinetuneResult:
    """Fine-tune on some of a task's training examples.

    Args:
        data: the encoded task (:func:`wellread.finetune.data.prepare`).
        train: the examples to train on, among those that ``data`` was prepared for; none to ask the start
            as it is.
        start: checkpoint folder, or the architecture to start at random.
        tokenizer: of the model.
        settings: the recipe's [finetune].
        seed: of the head, the dropout and the order.
        loss: instead of the head's own, a teacher's for instance.
        after: called after each step.

    Returns:
        The outcome; a run whose loss is no number is an outcome too.

    Raises:
        ArtefactError: the start cannot be loaded.
        DataError: no training example has a word that the tokenizer can read.
    """
    task = data.task
    settings, picked = stable.resolve(settings, task.kind, len(train), stable.size_of(start))
    model: Any = data.head.open(start, tokenizer, settings.dropout, seed)
    reinitialise(model, settings.reinit_layers, seed)
    freeze(model, settings.freeze_layers)
    packed.enable(model)
    light.equip(model, settings.light, settings.dropout, seed)
    result = tune(model, data, train, settings, seed, loss=loss, after=after)
    result.picked = picked
    return result


def tune(
    model: Any,
    data: TaskData,
    train: Sequence[Example],
    settings: FinetuneSettings,
    seed: int,
    *,
    loss: Loss | None = None,
    after: After | None = None,
    fine_tuned: bool = False,
) -> FinetuneResult:
    """Train a model that is already open, in place: what fine-tuning and compression share.

    Args:
        model: a stock model with the task's head and packed attention; a method may have replaced its linear
            layers.
        data: the encoded task.
        train: the examples to train on, among those that ``data`` was prepared for; none to ask the model as
            it is.
        settings: with all keys resolved.
        seed: of the dropout and the order.
        loss: instead of the head's own, a teacher's for instance.
        after: called after each step.
        fine_tuned: the model already predicts this task, so a regression's head gives scores as they are; it
            is trained in float32, for what compression rounds should not be rounded twice.

    Returns:
        The outcome, with the same model in evaluation mode on the CPU, its best weights in place.

    Raises:
        DataError: no training example has a word that the tokenizer can read.
    """
    model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    members = data.sequences(train)
    if train and not len(members):
        raise DataError("no training example has a word that the tokenizer can read", where=data.task.name)
    goal = _goal(model, data, members, settings, fine_tuned=fine_tuned)
    result = FinetuneResult(labels=len(train), truncated=_truncated(data, members))
    result.trainable_parameters, result.parameters = light.count(model)
    with build.seeded(rng.derive(seed, "finetune-dropout")):
        ways = _Ways(loss or data.head.loss, after, "fp32" if fine_tuned else settings.precision)
        best = _train(model, data, members, goal, settings, seed, result, ways) if train else _Best()
    if not result.failed:
        if best.state:
            model.load_state_dict(best.state, strict=False)
        data.head.finish(model, goal)
        light.finish(model.eval(), settings.light)
        result.best_step, result.model = best.step, model
    result.dev_output, result.dev = _final(result.model, data, "dev")
    result.test_output, result.test = _final(result.model, data, "test")
    if result.model is not None:
        model.cpu()
        if not hasattr(model, "light"):  # what is added works on packed batches only
            packed.disable(model)
    return result


def _goal(
    model: Any, data: TaskData, members: np.ndarray, settings: FinetuneSettings, *, fine_tuned: bool
) -> Objective:
    """What the training sequences ask of the model, whose head is set up for it."""
    with objective.kept(model, wanted=fine_tuned and data.task.kind == "regress"):
        goal = data.head.fit(model, data.splits["train"], members, settings.class_weights)
    goal = replace(goal, agreement=settings.rdrop)
    # Weights of classes make them equally frequent.
    if settings.base_rates and not settings.class_weights and not fine_tuned and settings.head in FRESH:
        targets = objective.target_rows(data.splits["train"], members)
        last = model.comparison.classifier if settings.head == "comparison" else objective.last_layer(model)
        begin_at_base_rates(last, goal.kind, targets)
    if fine_tuned:
        objective.unfold(goal, model)
    return goal


def _truncated(data: TaskData, members: np.ndarray) -> int:
    """How many of the sequences to train on, and of dev and test, were cut."""
    cut = [data.splits[name].encoded.truncated.sum() for name in ("dev", "test")]
    return int(data.splits["train"].encoded.truncated[members].sum() + sum(cut))


def steps_of(settings: FinetuneSettings, sequences: int) -> int:
    """Optimiser steps of a full run over so many training sequences."""
    steps = max(math.ceil(settings.epochs * sequences / settings.batch), settings.min_steps, 1)
    return min(steps, settings.max_steps) if settings.max_steps is not None else steps


def _train(
    model: Any,
    data: TaskData,
    members: np.ndarray,
    goal: Objective,
    settings: FinetuneSettings,
    seed: int,
    result: FinetuneResult,
    ways: _Ways,
) -> _Best:
    """Take the steps; fills the result's history, steps and failure."""
    steps, best = steps_of(settings, len(members)), _Best()
    marks = {round(steps * (number + 1) / settings.evaluations) for number in range(settings.evaluations)}
    optimiser, split = optimizer(model, settings), data.splits["train"]
    average = averaging.begin(
        model, settings.average, steps, ema_decay=settings.ema_decay, swa_last=settings.swa_last
    )
    losses: list[float] = []
    device = next(model.parameters()).device
    model.train()
    for step in range(steps):
        set_rates(optimiser, settings, step, learning_rate.linear(step, steps, settings.warmup))
        index = members[batches.order(len(members), step * settings.batch, settings.batch, seed)]
        with autocast(ways.precision, device):
            loss = ways.loss(model, split, index, goal, rng.derive(seed, "finetune-step", step))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        losses.append(loss.item())
        if not (math.isfinite(losses[-1]) and math.isfinite(norm.item())):
            result.failed, result.steps = True, step + 1
            result.failure = f"the loss or its gradient is not a number at step {step + 1}"
            return best
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        result.steps = step + 1
        tick(result.steps / steps)
        if ways.after:
            ways.after(model, step + 1)
        if average:
            averaging.update(average, step)
        if step + 1 in marks and (average is None or average.points):
            with averaging.applied(average):
                _watch(model, data, goal, best, losses, result)
            losses = []
            if best.since >= settings.patience:
                break
    return best


def _watch(
    model: Any, data: TaskData, goal: Objective, best: _Best, losses: list[float], result: FinetuneResult
) -> None:
    """Evaluate on the watched part of dev; remember the weights if they are the best so far."""
    split, kind = data.watched, data.task.kind
    logits = data.head.logits(model.eval(), split.encoded)
    model.train()
    dev_loss = objective.loss(goal, torch.from_numpy(logits), torch.from_numpy(split.targets)).item()
    natural = logits * np.float32(goal.scale) + np.float32(goal.centre) if kind == "regress" else logits
    output = objective.output(kind, data.task.labels, natural, split)
    value = score(data.watched_task, "dev", output)[data.task.metric]
    result.history.append(
        {"step": result.steps, "loss": sum(losses) / len(losses), "dev": value, "dev_loss": dev_loss}
    )
    rank = (value, -dev_loss)
    if rank > best.rank or not best.state:
        best.rank, best.step, best.since = rank, result.steps, 0
        trained = ((name, weight) for name, weight in model.named_parameters() if weight.requires_grad)
        best.state = {name: weight.detach().clone() for name, weight in trained}
    else:
        best.since += 1


def _final(model: Any, data: TaskData, name: str) -> tuple[Any, dict[str, float]]:
    """Output and scores on a whole split; without a model, NaN for scores and "O" for tags."""
    split, task = data.splits[name], data.task
    if model is not None:
        logits = data.head.logits(model, split.encoded)
    else:
        logits = np.full((len(split.targets), len(task.labels)), np.nan, dtype=np.float32)
    output = objective.output(task.kind, task.labels, logits, split)
    return output, score(task, name, output)
