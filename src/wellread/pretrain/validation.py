"""The held-out text on which all recipes are compared: the same samples in the same order, under one mask."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from wellread import rng
from wellread.finetune.stability import averaging
from wellread.objectives.masking import VALIDATION_SEED
from wellread.objectives.prediction import score
from wellread.precision import autocast
from wellread.pretrain.parts import Objective, check_finite
from wellread.pretrain.state import Done
from wellread.pretrain.trainer import Trainer
from wellread.tokens.batch import PackedBatch
from wellread.tokens.packing import assemble, cut
from wellread.tokens.store import Store

# Enough for differences of about 0.01 between two models on the same mask; ten validations of so many tokens
# take as long as training on about 80,000.
MOST_TOKENS = 1 << 15
COUNTED_TOKENS = 1 << 22  # enough for word frequencies: the rarest hardly count in a mean


@dataclass(frozen=True)
class HeldOut:
    """The held-out samples.

    Attributes:
        batches: in the order in which they are scored, at most ``batch_tokens`` tokens each.
        bytes: UTF-8 length of their text, in proportion to the store's tokens.
    """

    batches: tuple[PackedBatch, ...]
    bytes: float


def held_out(store: Store, max_length: int, batch_tokens: int) -> HeldOut:
    """Choose samples in an order that depends on nothing but the store, up to MOST_TOKENS tokens.

    Args:
        store: the held-out documents.
        max_length: longest sequence in tokens, special tokens included.
        batch_tokens: most tokens of a batch, at least ``max_length``.
    """
    special = len(store.prefix) + len(store.suffix)
    starts, lengths, _ = cut(np.asarray(store.offsets), max_length - special)
    order = np.argsort(rng.bits(VALIDATION_SEED, "held out", np.arange(len(starts))), kind="stable")
    order = order[np.cumsum(lengths[order] + special) <= MOST_TOKENS]
    batches: list[list[int]] = []
    room = 0
    for sample in order.tolist():
        size = int(lengths[sample]) + special
        if size > room:
            batches.append([])
            room = batch_tokens
        batches[-1].append(sample)
        room -= size
    share = int(lengths[order].sum()) / max(1, store.n_tokens)
    return HeldOut(
        tuple(assemble(store, starts, lengths, np.array(batch)) for batch in batches), store.bytes * share
    )


def frequency_loss(store: Store, text: HeldOut, objective: Objective) -> float | None:
    """The loss of guessing by word frequencies alone, whatever stands around.

    A model that is no better has learnt nothing of the context.

    Args:
        store: the training documents, of which up to COUNTED_TOKENS tokens are counted.
        text: what is guessed, at the places where ``objective`` asks.
        objective: of the pre-training.

    Returns:
        Nats per predicted token; None where nothing is predicted.
    """
    counts = np.bincount(store.tokens(0, min(store.n_tokens, COUNTED_TOKENS)), minlength=store.vocab_size)
    counts[list(store.suffix)] += np.searchsorted(store.offsets[1:], COUNTED_TOKENS, "right")
    surprise = -np.log((counts + 1) / (counts + 1).sum())
    predictions = [objective(batch, None, 0.0) for batch in text.batches]
    found = [surprise[prediction.targets.numpy()] for prediction in predictions]
    return float(np.concatenate(found).mean()) if sum(map(len, found)) else None


def validate(trainer: Trainer, text: HeldOut, general: HeldOut | None, done: Done) -> dict[str, Any]:
    """Score the held-out texts under their fixed masks; the losses are kept in ``done``.

    Returns:
        The line of the log; nothing where ``text`` has no token.

    Raises:
        UserError: the loss is not finite.
    """
    found = _score(trainer, text, done)
    if not found:
        return {}
    done.validation_loss = found["loss"]
    record: dict[str, Any] = {
        "step": done.step,
        "tokens": done.tokens,
        "flops": done.accounted_flops,
        **found,
    }
    if general and (beside := _score(trainer, general, done)):
        record["general"] = beside
        if done.general_start is None:
            done.general_start = beside["loss"]
    return record


def _score(trainer: Trainer, text: HeldOut, done: Done) -> dict[str, float]:
    """Loss and accuracy on a held-out text under its one fixed mask; nothing where it has no token."""
    trainer.model.eval()
    group = trainer.group
    total, right, count = 0.0, 0.0, 0.0
    with averaging.applied(trainer.average):
        for batch in text.batches[group.rank :: group.size]:
            prediction = trainer.objective(batch, None, 0.0)
            with autocast(trainer.settings.precision, trainer.device):
                part_total, part_right = score(trainer.model, prediction.to(trainer.device))
            total, right, count = total + part_total, right + part_right, count + prediction.count
    trainer.model.train()
    total, right, count = group.sum(total, right, count)
    if not count:
        return {}
    check_finite(total, 0.0, done.step, trainer.settings)
    found = {"loss": total / count, "accuracy": right / count}
    if trainer.model_settings.causal:
        found["bits_per_byte"] = total / math.log(2) / text.bytes
    return found
