"""Encoders with a head after every layer: run layer by layer, sequences leaving as they are ready."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from wellread import rng
from wellread.finetune import batches
from wellread.finetune.encode import Encoded
from wellread.finetune.head import INFERENCE_TOKENS, precision
from wellread.models import build
from wellread.settings import Positive, Settings
from wellread.sparsity.linear import STACKS
from wellread.tasks.task import Kind
from wellread.tokens.batch import PackedBatch


class Rule(Settings):
    """When a sequence leaves."""

    criterion: Literal["entropy", "patience"] = Field(
        "entropy", description="A sure head, or heads that agree one after the other (all that regress has)."
    )
    threshold: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Entropy in nats below which a head is sure; 0 never (multilabel: of every label)."
    )
    patience: Positive = Field(2, description="So many times in a row a head repeats the one before.")
    tolerance: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Regress: predictions that differ by less are the same; 0 never."
    )


class Exit(nn.Module):
    """A head on a pooled hidden state: norm, dense, tanh, labels."""

    def __init__(self, hidden: int, labels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.dense = nn.Linear(hidden, hidden)
        self.classifier = nn.Linear(hidden, labels)

    def forward(self, pooled: Tensor) -> Tensor:
        """(S, d) -> (S, labels)."""
        return self.classifier(torch.tanh(self.dense(self.norm(pooled))))


def equip(model: Any, seed: int) -> None:
    """Add fresh exits to a model, in place: ``model.exits``, one for every layer but the last."""
    config = model.config
    with build.seeded(rng.derive(seed, "exits")):
        count = config.num_hidden_layers - 1
        model.exits = nn.ModuleList(Exit(config.hidden_size, config.num_labels) for _ in range(count))


def all_logits(model: Any, encoded: Encoded) -> np.ndarray:
    """Logits of every head, the model's own last: float32 (S, L, labels)."""
    config, device = model.config, next(model.parameters()).device
    shape = (len(encoded.lengths), config.num_hidden_layers, config.num_labels)
    found = np.zeros(shape, dtype=np.float32)
    with torch.inference_mode(), precision(device):
        for index in batches.by_length(encoded.lengths, INFERENCE_TOKENS):
            batch = batches.select(encoded, index)[0].to(device)
            found[index] = torch.stack(all_heads(model, batch), dim=1).float().cpu().numpy()
    return found


def logits(model: Any, encoded: Encoded, kind: Kind, rule: Rule) -> np.ndarray:
    """Logits of the head at which each sequence leaves: float32 (S, labels).

    Args:
        model: with exits, in evaluation mode with packed attention.
        encoded: S sequences.
        kind: of the task.
        rule: when they leave.
    """
    device = next(model.parameters()).device
    found = np.zeros((len(encoded.lengths), model.config.num_labels), dtype=np.float32)
    with torch.inference_mode(), precision(device):
        for index in batches.by_length(encoded.lengths, INFERENCE_TOKENS):
            batch = batches.select(encoded, index)[0].to(device)
            found[index] = _leaving(model, batch, kind, rule).float().cpu().numpy()
    return found


def ready(kind: Kind, rule: Rule, last: Tensor | None, now: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Which sequences are ready at a head.

    Args:
        kind: of the task.
        rule: when they leave.
        last: (S, labels) logits of the head before, None at the first.
        now: (S, labels) logits of this one.
        count: (S,) int64, how often in a row a head has repeated the one before.

    Returns:
        (S,) bool, and the new count.
    """
    if rule.criterion == "entropy":
        return entropy(kind, now) < rule.threshold, count
    if last is None:
        return torch.zeros_like(count, dtype=torch.bool), count
    count = torch.where(_same(kind, rule.tolerance, last, now), count + 1, 0)
    return count >= rule.patience, count


def entropy(kind: Kind, found: Tensor) -> Tensor:
    """(S, labels) logits -> (S,) nats; for multilabel that of the label which is least sure."""
    if kind == "multilabel":
        p = torch.sigmoid(found)
        return F.binary_cross_entropy_with_logits(found, p, reduction="none").amax(1)
    log_p = torch.log_softmax(found, dim=1)
    return -(log_p.exp() * log_p).sum(1)


def leaves(kind: Kind, rule: Rule, heads: Tensor) -> Tensor:
    """(S, L, labels) logits of all heads -> (S,) int64 number of the head at which each sequence leaves."""
    sequences, layers, _ = heads.shape
    left = torch.full((sequences,), layers - 1)
    count, last = torch.zeros(sequences, dtype=torch.int64), None
    for layer in range(layers - 1):
        now = heads[:, layer]
        done, count = ready(kind, rule, last, now, count)
        left = torch.where(done & (left == layers - 1), layer, left)
        last = now
    return left


def _same(kind: Kind, tolerance: float, last: Tensor, now: Tensor) -> Tensor:
    if kind == "regress":
        return (now - last).abs()[:, 0] < tolerance
    if kind == "multilabel":
        return ((now >= 0) == (last >= 0)).all(1)
    return now.argmax(1) == last.argmax(1)


class _Walk:
    """A packed batch on its way through the layers of an encoder, from which sequences can leave."""

    def __init__(self, model: Any, batch: PackedBatch) -> None:
        config, base = model.config, model.base_model
        self.model, self.lengths, self.cu_seqlens = model, batch.lengths, batch.cu_seqlens
        self.layers = base.get_submodule(STACKS[config.model_type])
        self.rotary: dict[str, tuple[Tensor, Tensor]] = {}
        position = batch.position_ids[None]
        if config.model_type == "modernbert":
            self.hidden = base.embeddings(input_ids=batch.input_ids[None])
            for kind in set(config.layer_types):
                self.rotary[kind] = base.rotary_emb(self.hidden, position, kind)
        else:
            types = None if batch.token_type_ids is None else batch.token_type_ids[None]
            self.hidden = base.embeddings(
                input_ids=batch.input_ids[None], position_ids=position, token_type_ids=types
            )

    def step(self, layer: int) -> None:
        """Go through one layer."""
        module, extra = self.layers[layer], {}
        if self.rotary:
            extra["position_embeddings"] = self.rotary[module.attention_type]
        options = {"cu_seqlens": self.cu_seqlens, "lengths": self.lengths}
        self.hidden = module(self.hidden, attention_mask=None, **options, **extra)

    def pooled(self) -> Tensor:
        """(S, d), as the layout's own head pools."""
        hidden = self.hidden[0]
        if getattr(self.model.config, "classifier_pooling", "cls") == "mean":
            return torch.stack([part.mean(0) for part in hidden.split(self.lengths)])
        return hidden[self.cu_seqlens[:-1].long()]

    def leave(self, stay: Tensor) -> None:
        """Go on with some sequences only: (S,) bool."""
        kept = stay.tolist()
        lengths = torch.tensor(self.lengths, device=self.hidden.device)
        rows = torch.repeat_interleave(stay, lengths).nonzero()[:, 0]
        self.hidden = self.hidden[:, rows]
        self.rotary = {kind: (cos[:, rows], sin[:, rows]) for kind, (cos, sin) in self.rotary.items()}
        self.lengths = [length for length, staying in zip(self.lengths, kept, strict=True) if staying]
        self.cu_seqlens = F.pad(lengths[stay].cumsum(0), (1, 0)).to(self.cu_seqlens.dtype)

    def logits(self) -> Tensor:
        """What the model's own head makes of the last layer: (S, labels)."""
        model = self.model
        if model.config.model_type == "bert":
            pooler = model.bert.pooler(self.pooled()[:, None])
            return model.classifier(model.dropout(pooler))
        self.hidden = model.base_model.final_norm(self.hidden)
        return model.classifier(model.drop(model.head(self.pooled())))


def all_heads(model: Any, batch: PackedBatch, *, frozen: bool = False) -> list[Tensor]:
    """Logits (S, labels) of every head; with ``frozen`` no gradient goes into the layers."""
    body = torch.no_grad() if frozen else nullcontext()
    found = []
    with body:
        walk = _Walk(model, batch)
    for layer in range(len(walk.layers)):
        with body:
            walk.step(layer)
            pooled = walk.pooled() if layer < len(model.exits) else None
            if pooled is None:
                found.append(walk.logits())
        if pooled is not None:
            found.append(model.exits[layer](pooled))
    return found


def _leaving(model: Any, batch: PackedBatch, kind: Kind, rule: Rule) -> Tensor:
    """(S, labels) logits of a batch from which sequences leave as they are ready."""
    walk = _Walk(model, batch)
    result = walk.hidden.new_zeros(batch.sequences, model.config.num_labels)
    here = torch.arange(batch.sequences, device=result.device)
    count, last = torch.zeros_like(here), None
    for layer, exit_head in enumerate(model.exits):
        walk.step(layer)
        now = exit_head(walk.pooled())
        done, count = ready(kind, rule, last, now, count)
        last = now
        if done.any():
            result[here[done]] = now[done].to(result.dtype)
            if done.all():
                return result
            walk.leave(~done)
            here, count, last = here[~done], count[~done], last[~done]
    walk.step(len(walk.layers) - 1)
    result[here] = walk.logits().to(result.dtype)
    return result
