"""One optimiser step: its gradients, its update, and what it cost."""

from __future__ import annotations

import time
from dataclasses import astuple
from functools import partial
from typing import Any

import torch
from torch import Tensor

from wellread import rng
from wellread.finetune.stability import averaging
from wellread.models import packed
from wellread.objectives.prediction import head_loss
from wellread.precision import autocast
from wellread.pretrain import auxiliary, average
from wellread.pretrain.auxiliary import Counts, Seen
from wellread.pretrain.parts import check_finite, split
from wellread.pretrain.state import Done
from wellread.pretrain.trainer import Trainer
from wellread.schedules import learning_rate, submodels
from wellread.sparsity import dynamic
from wellread.sparsity.flops import step_flops
from wellread.tokens.batch import PackedBatch


def take_step(
    trainer: Trainer, batch: PackedBatch, epoch: int, done: Done, lengths: list[int] | None = None
) -> dict[str, Any]:
    """One optimiser step; counts it in ``done`` and returns its line of the log.

    Args:
        trainer: what is trained.
        batch: the samples of the step that this process reads.
        epoch: chooses the masks.
        done: counters.
        lengths: of all samples of the step, in tokens; default those of ``batch``.

    Raises:
        UserError: the loss or the gradient is not finite; the model is then as it was before.
    """
    began = time.perf_counter()
    settings = trainer.settings
    trainer.optimizer.zero_grad()
    share = dynamic.share(settings.sparsity, done.step + 1, trainer.steps)
    watched = trainer.moving if share and settings.sparsity.dynamic == "rigl" else {}
    layers = submodels.layers(settings, trainer.model_settings.layers, done.step, trainer.steps, trainer.seed)
    with (
        dynamic.dense_gradients(watched) as gradients,
        submodels.only(trainer.model, layers, settings.submodels),
    ):
        total, count, besides = _gradients(trainer, batch, epoch, done.step)
    trainer.group.sum_tensors(gradients)
    norm = trainer.optimizer.clip()
    check_finite(total, norm, done.step + 1, settings)
    factor = _update(trainer, gradients, share, done.step)
    level = trainer.sparsity - bool(watched) / 3  # a dense gradient more: one of three passes
    _count(trainer, done, batch.lengths if lengths is None else lengths, count, layers, level)
    done.seconds += time.perf_counter() - began
    return {
        "step": done.step,
        "tokens": done.tokens,
        "flops": done.accounted_flops,
        "loss": total,
        "learning_rate": factor * settings.learning_rate,
        "gradient_norm": norm,
        **({"auxiliary": besides} if besides else {}),
        **({"teacher_flops": done.teacher_flops} if trainer.teacher else {}),
    }


def _gradients(
    trainer: Trainer, batch: PackedBatch, epoch: int, step: int
) -> tuple[float, int, dict[str, float]]:
    """Fill in the gradients of the whole step.

    Returns:
        The mean loss of the language model, the number of predicted tokens, and the mean auxiliary losses.
    """
    settings, group, others = trainer.settings, trainer.group, trainer.auxiliaries
    pieces = [auxiliary.prepare(others, piece, epoch) for piece in split(batch, settings.accumulate)]
    parts = [trainer.objective(piece, epoch, step / trainer.steps) for piece in pieces]
    # Travels while the forward pass runs.
    own = sum(map(Counts.of, pieces, parts), Counts())
    counting = group.begin_sum(*astuple(own))
    if trainer.model_settings.dropout:
        keys = (step, group.rank) if group.rank else (step,)
        torch.manual_seed(rng.derive(trainer.seed, "dropout", *keys))
    total, besides = 0.0, dict.fromkeys((one.name for one in others), 0.0)
    for number, (piece, part) in enumerate(zip(pieces, parts, strict=True), 1):
        with autocast(settings.precision, trainer.device):
            asked = part.to(trainer.device)
            hidden = packed.hidden_states(trainer.model, asked.inputs)
            summed = head_loss(trainer.model, hidden, asked)
            counts = Counts(*counting())
            mean = summed / max(1, int(counts.predicted))
            whole = mean
            if others:
                seen = Seen(piece.to(trainer.device), asked, hidden, epoch, counts)
                found = auxiliary.losses(others, trainer.model, seen)
                whole = mean + sum(one.weight * found[one.name] for one in others)
                besides |= {name: besides[name] + float(value.detach()) for name, value in found.items()}
        if number == len(parts):
            trainer.reducer.arm()
        whole.backward()
        total += float(mean.detach())
    trainer.reducer.finish()
    total, *summed_others = group.sum(total, *besides.values())
    return total, int(Counts(*counting()).predicted), dict(zip(besides, summed_others, strict=True))


def _update(trainer: Trainer, gradients: dict[str, Tensor], share: float, step: int) -> float:
    """Move weights, masks (a ``share`` of them) and the average; returns the learning rate's factor."""
    settings, optimizer = trainer.settings, trainer.optimizer
    factor = learning_rate.factor(settings.schedule, step, trainer.steps, settings.warmup, settings.decay)
    optimizer.step(factor)
    if share:
        along = average.with_means(trainer.average, optimizer.moments)
        dynamic.update(trainer.moving, gradients, share, trainer.seed, step + 1, along)
    if trainer.average:
        averaging.update(trainer.average, step)
    return factor


def _count(
    trainer: Trainer, done: Done, lengths: list[int], count: int, layers: int | None, level: float
) -> None:
    """Add to ``done`` a step of ``count`` predictions from sequences of ``lengths`` tokens."""
    vocab = trainer.model.config.vocab_size
    costs = partial(step_flops, vocab=vocab, lengths=lengths, predictions=count, level=level)
    dense, accounted = submodels.flops(costs, trainer.model_settings, layers, trainer.settings.submodels)
    dense *= 1.0 + sum(one.passes for one in trainer.auxiliaries)
    accounted *= 1.0 + sum(one.accounted for one in trainer.auxiliaries)
    lesson = 0.0
    if trainer.teacher:
        lesson = trainer.teacher.flops(lengths, count, done.step / trainer.steps)
    done.step += 1
    done.tokens += sum(lengths)
    done.teacher_flops += lesson
    done.dense_flops += dense + lesson
    done.accounted_flops += accounted + lesson
