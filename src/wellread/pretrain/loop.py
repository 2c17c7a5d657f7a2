"""Pre-training: from a token store to a stock checkpoint, resumable at any moment to the same bits.

The state of a run is its step: batches and masks are pure functions of it.  Here are the steps one after the
other, and when to log, to validate and to save.  What they are made of:

    data.py         what is read: the steps' samples, the held-out texts
    trainer.py      model, optimiser, objective
    step.py         one optimiser step
    validation.py   the loss on the held-out texts
    state.py        how far the run is, into a checkpoint and back
    results.py      what it leaves

Several processes may share the work (parallel.py); rank 0 then writes for all.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from wellread.errors import UserError
from wellread.finetune.stability import averaging
from wellread.models import positions
from wellread.pretrain import average, checkpoint, guard, results, shares, state
from wellread.pretrain.course import Course
from wellread.pretrain.data import Data, open_data, open_lists
from wellread.pretrain.logs import Logs
from wellread.pretrain.parallel import SOLO, Group
from wellread.pretrain.parts import deterministic, settle
from wellread.pretrain.state import Done
from wellread.pretrain.step import take_step
from wellread.pretrain.trainer import Trainer, make_trainer
from wellread.pretrain.validation import frequency_loss, validate
from wellread.progress import Progress, say
from wellread.settings import ModelSettings, PretrainSettings
from wellread.sparsity import dynamic
from wellread.tokens import tokenizer as tokenizers
from wellread.tokens.store import Store

LOGGED_STEPS = 500
VALIDATIONS = 10
LEARNT = 0.2  # nats below word frequencies; collapsed models ended from 0.04 above to 0.13 below (log.md)
LOGS = ("log.jsonl", "validation.jsonl", "timing.jsonl")


def pretrain(
    model_settings: ModelSettings,
    settings: PretrainSettings,
    *,
    tokens: Path,
    tokenizer: Path,
    folder: Path,
    seed: int,
    quiet: bool = False,
    group: Group = SOLO,
) -> None:
    """Pre-train a model, or go on where an interrupted attempt stopped.

    Args:
        model_settings: the architecture, or the checkpoint to start from.
        settings: objective, optimiser, schedule, sparsity.
        tokens: folder of the token stores ``train`` and ``valid``.
        tokenizer: folder of the tokenizer.
        folder: filled with model/, pretrain.json, sparsity.json and the logs; holds checkpoints meanwhile.
        seed: of weights, masks, order and dropout.
        quiet: say nothing.
        group: the processes that all make this call and share its work.

    Raises:
        UserError: the loss or the gradient is not finite any more, the disk is full, or a process of the
            group is gone.
        RecipeError: the steps have fewer samples than there are processes.
        ArtefactError: the tokenizer, a store or the start checkpoint is damaged or does not fit.
    """
    if not (folder / "pretrain.json").exists():
        loaded, model_settings = tokenizers.load(tokenizer), settle(model_settings)
        with deterministic():
            with group.main_first():
                data = open_data(model_settings, settings, loaded, Path(tokens), folder / "scratch", seed)
                masked = open_lists(data, settings, tokenizer, folder, quiet)
            for leg in data.train.legs:
                shares.check(leg.packing, group)
            steps = data.train.steps
            trainer = make_trainer(model_settings, settings, loaded, steps, seed, group, Path(tokens), masked)
            done = _train(trainer, data, folder, quiet or not group.main)
            if group.main:
                alone = frequency_loss(Store.open(Path(tokens) / "train"), data.valid, trainer.objective)
                with averaging.applied(trainer.average):
                    results.write(trainer, done, loaded, folder, alone)
                if not quiet:
                    _warn(done.validation_loss, alone)
    if not group.main:
        return
    # Written last, pretrain.json says that all results stand; what follows may be cut short.
    for leftover in ("checkpoints", "scratch"):
        shutil.rmtree(folder / leftover, ignore_errors=True)


def _warn(loss: float | None, frequencies: float | None) -> None:
    """Say so where a model has learnt next to nothing of the context."""
    if loss is not None and frequencies is not None and loss > frequencies - LEARNT:
        say(
            f"the model guesses hardly better than word frequencies do (validation loss {loss:.2f}, theirs "
            f"{frequencies:.2f}): train on more tokens; after thousands of steps, lower "
            "pretrain.learning_rate and keep pretrain.embedding_learning_rate four times as high"
        )


def _train(trainer: Trainer, data: Data, folder: Path, quiet: bool) -> Done:
    settings, steps, main = trainer.settings, trainer.steps, trainer.group.main
    dynamic.check(settings.sparsity, steps, trainer.moving.values())
    average.check(settings.ema_decay, steps)
    checkpoints = folder / "checkpoints"
    with trainer.group.main_first():
        done, offsets = state.resume(trainer, checkpoints, quiet)
    costs = shares.costs(
        trainer.model_settings, trainer.model.config.vocab_size, trainer.sparsity, settings.mask_rate
    )
    log_every = -(-steps // LOGGED_STEPS)
    validate_every = settings.validate_every or max(1, steps // VALIDATIONS)
    label = f"pretrain {folder.name.removesuffix('.partial')}"
    with (
        Logs(folder if main else None, LOGS, offsets) as logs,
        Progress(label, data.train.tokens, "tokens", done=done.tokens, quiet=quiet) as progress,
    ):
        if done.step == 0 and done.validation_loss is None:
            done.teacher_flops = done.dense_flops = done.accounted_flops = data.train.spent
            _validate(trainer, data, done, logs, checkpoints)
            if main and guard.bound(settings):
                state.save(trainer, done, logs, checkpoints)
        saved = time.monotonic()
        while done.step < steps:
            before = done.tokens
            record = _advance(trainer, data.train, costs, done)
            if done.step % log_every == 0 or done.step == steps:
                logs.write("log.jsonl", record)
                logs.write("timing.jsonl", {"step": done.step, "seconds": done.seconds})
            looked = done.step % validate_every == 0 or done.step == steps
            if looked:
                _validate(trainer, data, done, logs, checkpoints)
            valid = "" if done.validation_loss is None else f"  valid {done.validation_loss:.3f}"
            progress.advance(done.tokens - before, f"loss {record['loss']:.3f}{valid}")
            # A state within the bound of forgetting is kept, to be gone back to.
            due = time.monotonic() - saved >= settings.checkpoint_seconds or (
                looked and guard.bound(settings)
            )
            if main and due and done.step < steps:
                state.save(trainer, done, logs, checkpoints)
                saved = time.monotonic()
        logs.offsets()
    return done


def _advance(trainer: Trainer, course: Course, costs: np.ndarray, done: Done) -> dict[str, Any]:
    """Take the next step, on this process's share of its samples; returns its line of the log."""
    longer = course.longer(done.step)
    if longer and trainer.model_settings.start is None:
        positions.tile(trainer.model, *longer)
        if trainer.average and trainer.average.means:
            with averaging.applied(trainer.average):
                positions.tile(trainer.model, *longer)
    packing, place, epoch = course.at(done.step)
    batch, lengths = shares.share(packing, place, costs, trainer.group)
    return take_step(trainer, batch, epoch, done, lengths)


def _validate(trainer: Trainer, data: Data, done: Done, logs: Logs, checkpoints: Path) -> None:
    """Score the held-out texts and log it; nothing is logged where there is none.

    Raises:
        UserError: the loss is not finite, or that on the general text rose beyond its bound.
    """
    record = validate(trainer, data.valid, data.general, done)
    if not record:
        return
    bound = guard.bound(trainer.settings)
    if "general" in record and bound is not None and done.general_start is not None:
        try:
            guard.check(record["general"]["loss"], done.general_start, bound, done.step, done.good)
        except UserError:
            if trainer.group.main:
                checkpoint.drop_after(checkpoints, done.good)
            raise
        done.good = done.step
    logs.write("validation.jsonl", record)
