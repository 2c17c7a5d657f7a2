"""Pre-training: from a token store to a stock checkpoint, resumable at any moment to the same bits.

The state of a run is its step: batches and masks are pure functions of it.  A checkpoint adds what the steps
so far have made: weights, optimiser state, counters, and how far the logs are written.  Several processes may
share the work (parallel.py); rank 0 then writes for all.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from wellread import allocator, files, rng
from wellread.errors import ArtefactError, UserError
from wellread.finetune.stability import averaging
from wellread.models import build, packed, positions
from wellread.objectives import categories, distillation
from wellread.objectives.distillation import Teacher
from wellread.objectives.prediction import head_loss, score
from wellread.objectives.units import lists
from wellread.objectives.units.lists import NONE, Lists
from wellread.pretrain import auxiliary, average, checkpoint, continual, guard, shares, taught
from wellread.pretrain.auxiliary import Auxiliary, Seen
from wellread.pretrain.course import Course, lay
from wellread.pretrain.logs import Logs
from wellread.pretrain.optimizer import Optimizer
from wellread.pretrain.parallel import SOLO, Group, Reducer
from wellread.pretrain.parts import (
    Objective,
    autocast,
    count_parameters,
    deterministic,
    kind,
    make_model,
    make_objective,
    model_tensors,
    split,
)
from wellread.pretrain.validation import HeldOut, held_out
from wellread.progress import Progress, say
from wellread.schedules import learning_rate, submodels
from wellread.schedules.phases import phases
from wellread.settings import ModelSettings, PretrainSettings
from wellread.sparsity import dynamic, linear
from wellread.sparsity.flops import step_flops
from wellread.sparsity.linear import SparseLinear
from wellread.tokens import tokenizer as tokenizers
from wellread.tokens.batch import PackedBatch
from wellread.tokens.store import Store

LOGGED_STEPS = 500
VALIDATIONS = 10
LOGS = ("log.jsonl", "validation.jsonl", "timing.jsonl")


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
        good: the last step at which that loss was within the bound of its rise.
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


@dataclass(frozen=True)
class Trainer:
    """All that a step needs; every process makes it anew, and the same."""

    model: PreTrainedModel
    optimizer: Optimizer
    objective: Objective
    teacher: Teacher | None
    auxiliaries: tuple[Auxiliary, ...]
    model_settings: ModelSettings
    settings: PretrainSettings
    seed: int
    steps: int
    device: torch.device
    sparsity: float  # the share of zeros that the masks really have; blocks may not divide evenly
    moving: dict[str, SparseLinear]  # the layers whose weights move; none where sparsity is static
    group: Group
    reducer: Reducer
    average: averaging.Average | None  # of the weights, where one is wanted


@dataclass(frozen=True)
class Data:
    """What is trained and what is validated on."""

    train: Course
    valid: HeldOut
    general: HeldOut | None  # text like that of an earlier pre-training


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
        loaded = tokenizers.load(tokenizer)
        with deterministic():
            with group.main_first():
                data = _open(model_settings, settings, loaded, Path(tokens), folder / "scratch", seed)
                store, place = data.train.legs[0].packing.store, folder / "scratch" / "lists"
                masked = lists.prepare(settings.masking, store, tokenizer, place, quiet=quiet)
                if settings.categories:
                    masked = replace(masked, categories=categories.load(folder, store))
            for leg in data.train.legs:
                shares.check(leg.packing, group)
            steps = data.train.steps
            trainer = make_trainer(model_settings, settings, loaded, steps, seed, group, Path(tokens), masked)
            done = _train(trainer, data, folder, quiet or not group.main)
            if group.main:
                with averaging.applied(trainer.average):
                    _finish(trainer, done, loaded, folder)
    if not group.main:
        return
    # Written last, pretrain.json says that all results stand; what follows may be cut short.
    for leftover in ("checkpoints", "scratch"):
        shutil.rmtree(folder / leftover, ignore_errors=True)


def make_trainer(
    model_settings: ModelSettings,
    settings: PretrainSettings,
    tokenizer: PreTrainedTokenizerBase,
    steps: int,
    seed: int,
    group: Group = SOLO,
    tokens: Path | None = None,
    masked: Lists = NONE,
) -> Trainer:
    """Model, optimiser and objective before the first step, on the GPU where there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if settings.recompute:
        allocator.return_large_blocks()
    model = make_model(model_settings, settings, tokenizer, seed)
    auxiliaries = auxiliary.make(model_settings, settings, tokenizer, tokens, seed, masked)
    auxiliary.attach(model, auxiliaries)
    model.to(device)  # type: ignore[arg-type]
    teacher = None
    if settings.teacher and settings.teacher.weight and settings.teacher.share:
        teacher = distillation.open_teacher(settings.teacher, tokenizer, model_settings.causal)
    return Trainer(
        model=model,
        optimizer=Optimizer(model, settings),
        objective=make_objective(model_settings, settings, tokenizer, seed, masked, teacher),
        teacher=teacher,
        auxiliaries=auxiliaries,
        model_settings=model_settings,
        settings=settings,
        seed=seed,
        steps=steps,
        device=device,
        sparsity=linear.report(model)["level"],
        moving=linear.sparse_layers(model) if settings.sparsity.dynamic != "none" else {},
        group=group,
        reducer=Reducer(model.parameters(), group),
        average=average.begin(model, settings.ema_decay),
    )


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
    settings, optimizer = trainer.settings, trainer.optimizer
    lengths = batch.lengths if lengths is None else lengths
    optimizer.zero_grad()
    share = dynamic.share(settings.sparsity, done.step + 1, trainer.steps)
    watched = trainer.moving if share and settings.sparsity.dynamic == "rigl" else {}
    layers = submodels.layers(settings, trainer.model_settings.layers, done.step, trainer.steps, trainer.seed)
    with (
        dynamic.dense_gradients(watched) as gradients,
        submodels.only(trainer.model, layers, settings.submodels),
    ):
        total, count, besides = _gradients(trainer, batch, epoch, done.step)
    trainer.group.sum_tensors(gradients)
    norm = optimizer.clip()
    _check_finite(total, norm, done.step + 1, settings)
    factor = learning_rate.factor(
        settings.schedule, done.step, trainer.steps, settings.warmup, settings.decay
    )
    optimizer.step(factor)
    if share:
        along = average.with_means(trainer.average, optimizer.moments)
        dynamic.update(trainer.moving, gradients, share, trainer.seed, done.step + 1, along)
    if trainer.average:
        averaging.update(trainer.average, done.step)

    vocab = trainer.model.config.vocab_size
    level = trainer.sparsity - bool(watched) / 3  # a dense gradient more: one of three passes
    costs = partial(step_flops, vocab=vocab, lengths=lengths, predictions=count, level=level)
    dense, accounted = submodels.flops(costs, trainer.model_settings, layers, settings.submodels)
    passes = 1.0 + sum(one.passes for one in trainer.auxiliaries)
    lesson = 0.0
    if trainer.teacher:
        lesson = trainer.teacher.flops(lengths, count, done.step / trainer.steps)
    done.step += 1
    done.tokens += sum(lengths)
    done.teacher_flops += lesson
    done.dense_flops += dense * passes + lesson
    done.accounted_flops += accounted * passes + lesson
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
    counting = group.begin_sum(sum(part.count for part in parts), batch.sequences)
    if trainer.model_settings.dropout:
        keys = (step, group.rank) if group.rank else (step,)
        torch.manual_seed(rng.derive(trainer.seed, "dropout", *keys))
    total, besides = 0.0, dict.fromkeys((one.name for one in others), 0.0)
    for number, (piece, part) in enumerate(zip(pieces, parts, strict=True), 1):
        with autocast(settings, trainer.device):
            asked = part.to(trainer.device)
            hidden = packed.hidden_states(trainer.model, asked.inputs)
            summed = head_loss(trainer.model, hidden, asked)
            count, samples = counting()
            mean = summed / max(1, int(count))
            whole = mean
            if others:
                seen = Seen(piece.to(trainer.device), asked, hidden, epoch)
                found = auxiliary.losses(others, trainer.model, seen, piece.sequences / max(1.0, samples))
                whole = mean + sum(one.weight * found[one.name] for one in others)
                besides |= {name: besides[name] + float(value.detach()) for name, value in found.items()}
        if number == len(parts):
            trainer.reducer.arm()
        whole.backward()
        total += float(mean.detach())
    trainer.reducer.finish()
    total, *summed_others = group.sum(total, *besides.values())
    return total, int(counting()[0]), dict(zip(besides, summed_others, strict=True))


def _open(
    model_settings: ModelSettings,
    settings: PretrainSettings,
    tokenizer: PreTrainedTokenizerBase,
    tokens: Path,
    scratch: Path,
    seed: int,
) -> Data:
    special = tokenizer.num_special_tokens_to_add(pair=False)
    length = model_settings.max_length
    if settings.continual:
        train = continual.lay(tokens, settings, length, tokenizer, seed, scratch)
    elif settings.teacher and settings.teacher.keep < 1:
        teacher = distillation.open_teacher(settings.teacher, tokenizer, model_settings.causal)
        ask = make_objective(model_settings, settings, tokenizer, seed, teacher=teacher)
        store = Store.open(tokens / "train")
        shape = (length, special)
        train = taught.lay(
            store, settings, shape, seed, scratch, teacher, lambda batch: ask(batch, None, 0.0)
        )
    else:
        stages = phases(settings, length)
        train = lay(Store.open(tokens / "train"), settings, stages, special, seed, scratch)
    valid = held_out(Store.open(tokens / "valid"), length, settings.batch_tokens)
    return Data(train, valid, continual.general(tokens, settings, length))


def _train(trainer: Trainer, data: Data, folder: Path, quiet: bool) -> Done:
    settings, steps, main = trainer.settings, trainer.steps, trainer.group.main
    dynamic.check(settings.sparsity, steps, trainer.moving.values())
    average.check(settings.ema_decay, steps)
    checkpoints = folder / "checkpoints"
    with trainer.group.main_first():
        done, offsets = _resume(trainer, checkpoints, quiet)
    vocab = trainer.model.config.vocab_size
    costs = shares.costs(trainer.model_settings, vocab, trainer.sparsity, settings.mask_rate)
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
            if main and _bound(settings):
                _save(trainer, done, logs, checkpoints)
        saved = time.monotonic()
        while done.step < steps:
            before = done.tokens
            longer = data.train.longer(done.step)
            if longer and trainer.model_settings.start is None:
                positions.tile(trainer.model, *longer)
            packing, place, epoch = data.train.at(done.step)
            batch, lengths = shares.share(packing, place, costs, trainer.group)
            record = take_step(trainer, batch, epoch, done, lengths)
            if done.step % log_every == 0 or done.step == steps:
                logs.write("log.jsonl", record)
                logs.write("timing.jsonl", {"step": done.step, "seconds": done.seconds})
            looked = done.step % validate_every == 0 or done.step == steps
            if looked:
                _validate(trainer, data, done, logs, checkpoints)
            valid = "" if done.validation_loss is None else f"  valid {done.validation_loss:.3f}"
            progress.advance(done.tokens - before, f"loss {record['loss']:.3f}{valid}")
            # A state within the bound of forgetting is kept, to be gone back to.
            due = time.monotonic() - saved >= settings.checkpoint_seconds or (looked and _bound(settings))
            if main and due and done.step < steps:
                _save(trainer, done, logs, checkpoints)
                saved = time.monotonic()
        logs.offsets()
    return done


def _save(trainer: Trainer, done: Done, logs: Logs, checkpoints: Path) -> None:
    tensors = model_tensors(trainer.model) | trainer.optimizer.state()
    tensors |= dynamic.state(trainer.moving) | average.state(trainer.average, trainer.model)
    state = {"done": asdict(done), "offsets": logs.offsets(), "run": _identity(trainer)}
    kept = done.good if _bound(trainer.settings) else None
    checkpoint.save(checkpoints, done.step, tensors, state, kept)


def _bound(settings: PretrainSettings) -> float | None:
    """By how much the general loss may rise."""
    return settings.continual.max_rise if settings.continual else None


def _validate(trainer: Trainer, data: Data, done: Done, logs: Logs, checkpoints: Path) -> None:
    """Score the held-out texts under their fixed masks and log it; nothing is logged where there is none.

    Raises:
        UserError: the loss is not finite, or that on the general text rose beyond its bound.
    """
    found = _score(trainer, data.valid, done)
    if not found:
        return
    done.validation_loss = found["loss"]
    record: dict[str, Any] = {
        "step": done.step,
        "tokens": done.tokens,
        "flops": done.accounted_flops,
        **found,
    }
    general = _score(trainer, data.general, done) if data.general else {}
    if general:
        record["general"] = general
        if done.general_start is None:
            done.general_start = general["loss"]
    bound = _bound(trainer.settings)
    if general and bound is not None and done.general_start is not None:
        try:
            guard.check(general["loss"], done.general_start, bound, done.step, done.good)
        except UserError:
            if trainer.group.main:
                checkpoint.drop_after(checkpoints, done.good)
            raise
        done.good = done.step
    logs.write("validation.jsonl", record)


def _score(trainer: Trainer, text: HeldOut, done: Done) -> dict[str, float]:
    """Loss and accuracy on a held-out text under its one fixed mask; nothing where it has no token."""
    trainer.model.eval()
    group = trainer.group
    total, right, count = 0.0, 0.0, 0.0
    with averaging.applied(trainer.average):
        for batch in text.batches[group.rank :: group.size]:
            prediction = trainer.objective(batch, None, 0.0)
            with autocast(trainer.settings, trainer.device):
                part_total, part_right = score(trainer.model, prediction.to(trainer.device))
            total, right, count = total + part_total, right + part_right, count + prediction.count
    trainer.model.train()
    total, right, count = group.sum(total, right, count)
    if not count:
        return {}
    _check_finite(total, 0.0, done.step, trainer.settings)
    found = {"loss": total / count, "accuracy": right / count}
    if trainer.model_settings.causal:
        found["bits_per_byte"] = total / math.log(2) / text.bytes
    return found


def _resume(trainer: Trainer, checkpoints: Path, quiet: bool) -> tuple[Done, dict[str, int]]:
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
    average.load(trainer.average, trainer.model, tensors, done.step)
    if not quiet:
        say(f"pretrain: going on after step {done.step} of {trainer.steps}")
    return done, state["offsets"]


def _finish(trainer: Trainer, done: Done, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the results, pretrain.json last."""
    settings, model_settings = trainer.settings, trainer.model_settings
    moved = dynamic.report(trainer.moving, settings.sparsity) if trainer.moving else {}
    files.write_json(folder / "sparsity.json", linear.report(trainer.model) | moved)
    shutil.rmtree(folder / "model", ignore_errors=True)
    auxiliary.detach(trainer.model)
    model = packed.disable(linear.densify(trainer.model)).eval()
    build.save(model, tokenizer, folder / "model")
    for path in (folder / "model").iterdir():
        with open(path, "rb") as stream:
            os.fsync(stream.fileno())
    total, without_embeddings = count_parameters(model)
    files.write_json(
        folder / "pretrain.json",
        {
            "objective": kind(model_settings),
            "layout": model_settings.layout,
            "steps": done.step,
            "tokens": done.tokens,
            "parameters": total,
            "parameters_without_embeddings": without_embeddings,
            "sparsity": settings.sparsity.level,
            "pattern": settings.sparsity.pattern,
            **moved,
            "flops": {"dense": done.dense_flops, "accounted": done.accounted_flops},
            **({"teacher_flops": done.teacher_flops} if settings.teacher else {}),
            "loss": done.validation_loss,
            "max_length": model_settings.max_length,
            "mask_rate": None if model_settings.causal else settings.mask_rate,
            **_origin(model_settings),
            **_continued(settings, folder),
        },
    )


def _continued(settings: PretrainSettings, folder: Path) -> dict[str, Any]:
    """What continual pre-training gained and forgot."""
    if settings.continual is None:
        return {}
    lines = (folder / "validation.jsonl").read_text("utf-8").splitlines()
    return {"continual": guard.curves([json.loads(line) for line in lines])}


def _origin(settings: ModelSettings) -> dict[str, Any]:
    """How the start checkpoint came in, and what training it cost where it is one of ours."""
    if settings.start is None:
        return {}
    before = Path(settings.start).parent / "pretrain.json"
    if not before.is_file():
        return {"start": {"grow": settings.grow, "tokens": None, "flops": None}}
    facts = files.read_json(before)
    tokens, flops, earlier = facts["tokens"], facts["flops"], facts.get("start", {})
    if earlier.get("flops"):
        tokens += earlier["tokens"]
        flops = {key: value + earlier["flops"][key] for key, value in flops.items()}
    return {"start": {"grow": settings.grow, "tokens": tokens, "flops": flops}}


def _identity(trainer: Trainer) -> str:
    """A hash of all that decides the bits of a run; when checkpoints are made does not."""
    unused = trainer.settings.no_part()
    if trainer.settings.sparsity.dynamic == "none":
        unused["sparsity"] = {"dynamic", "update_every", "drop_fraction", "update_until"}
    return files.sha256_bytes(
        files.canonical_json(
            {
                "model": trainer.model_settings.model_dump(mode="json"),
                "pretrain": trainer.settings.model_dump(mode="json", exclude=unused),
                "seed": trainer.seed,
                "steps": trainer.steps,
            }
        )
    )


def _check_finite(total: float, norm: float, step: int, settings: PretrainSettings) -> None:
    if math.isfinite(total) and math.isfinite(norm):
        return
    what = "gradient" if math.isfinite(total) else "loss"
    key, rate = "pretrain.learning_rate", settings.learning_rate
    if settings.optimizer == "muon":
        key, rate = "pretrain.muon_learning_rate", settings.muon_learning_rate
    raise UserError(
        f"the {what} is not finite at step {step}; the last good checkpoint is kept",
        where=key,
        fix=f"lower it (now {rate:g}; try {rate / 3:.2g}), or lengthen pretrain.warmup",
    )
