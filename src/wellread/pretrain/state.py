"""How far a pre-training is, and its way into a checkpoint and back.

A checkpoint holds what the steps so far have made: weights, optimiser state, counters, and how far the logs
are written.  All else follows from the step.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from wellread import files
from wellread.errors import ArtefactError
from wellread.pretrain import average, checkpoint, guard
from wellread.pretrain.logs import Logs
from wellread.pretrain.parts import model_tensors
from wellread.pretrain.trainer import Trainer
from wellread.progress import say
from wellread.sparsity import dynamic


@dataclass
class Done:
    """What the steps so far add up to; part of every checkpoint.

    Attributes:
        step: optimiser steps.
        tokens: training tokens read.
        dense_flops, accounted_flops: without and with the sparsity counted; with the teacher's.
        teacher_flops: of the teacher's forward passes.
        seconds: spent in steps, not in validation or saving.
        validation_loss: of the last validation, in nats per predicted token; None before the first.
        general_start: the first loss on the general text, where there is one.
        good: the last step at which that loss was within the bound of its rise; after a resumption under
            a new bound, the step that was gone on from.
    """

    step: int = 0
    tokens: int = 0
    dense_flops: float = 0.0
    accounted_flops: float = 0.0
    teacher_flops: float = 0.0
    seconds: float = 0.0
    validation_loss: float | None = None
    general_start: float | None = None
    good: int = 0


def save(trainer: Trainer, done: Done, logs: Logs, checkpoints: Path) -> None:
    """Commit a checkpoint of the step just done."""
    tensors = model_tensors(trainer.model) | trainer.optimizer.state()
    tensors |= dynamic.state(trainer.moving) | average.state(trainer.average, trainer.model)
    state = {"done": asdict(done), "offsets": logs.offsets(), "run": _identity(trainer)}
    kept = done.good if guard.bound(trainer.settings) else None
    checkpoint.save(checkpoints, done.step, tensors, state, kept)


def resume(trainer: Trainer, checkpoints: Path, quiet: bool) -> tuple[Done, dict[str, int]]:
    """Load the newest intact checkpoint into the trainer; without one, start at step 0."""
    found = checkpoint.load_newest(checkpoints, quiet)
    if found is None:
        return Done(), {}
    tensors, state = found
    if state["run"] != _identity(trainer):
        raise ArtefactError(
            "the checkpoints here belong to other settings",
            where=str(checkpoints),
            fix="delete the folder, or give back the settings that it was made with",
        )
    with torch.no_grad():
        for name, tensor in model_tensors(trainer.model).items():
            tensor.copy_(tensors[name])
    trainer.optimizer.load(tensors)
    dynamic.load(trainer.moving, tensors)
    done = Done(**state["done"])
    if guard.bound(trainer.settings) and not checkpoint.exists(checkpoints, done.good):
        done.good = done.step  # the bound is new to this run: nothing older was kept for it
    average.load(trainer.average, trainer.model, tensors, done.step)
    if not quiet:
        say(f"pretrain: going on after step {done.step} of {trainer.steps}")
    return done, state["offsets"]


def _identity(trainer: Trainer) -> str:
    """A hash of all that decides the bits of a run; when checkpoints are made does not.

    Of other files only their names count, as the same ones may be reached by another path.
    """
    unused = trainer.settings.no_part()
    if trainer.settings.sparsity.dynamic == "none":
        unused["sparsity"] = {"dynamic", "update_every", "drop_fraction", "update_until"}
    model = trainer.model_settings.model_dump(mode="json")
    settings = trainer.settings.model_dump(mode="json", exclude=unused)
    for table, key in ((model, "start"), (settings.get("teacher"), "path"), (settings["masking"], "lexicon")):
        if table and table[key]:
            table[key] = Path(table[key]).resolve().name
    told = {"model": model, "pretrain": settings, "seed": trainer.seed, "steps": trainer.steps}
    return files.sha256_bytes(files.canonical_json(told))
