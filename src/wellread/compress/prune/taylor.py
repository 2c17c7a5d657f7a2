"""How much the loss would change without a head, a neuron or a layer: first-order Taylor expansion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wellread import rng
from wellread.compress.subject import Subject
from wellread.finetune import batches
from wellread.finetune.head import INFERENCE_TOKENS, neighbours
from wellread.finetune.objective import Objective
from wellread.sparsity.linear import STACKS

# The matrices whose inputs are a layer's heads and its feed-forward neurons, from the layer on.
OUTPUTS = {
    "modernbert": ("attn.Wo", "mlp.Wo"),
    "bert": ("attention.output.dense", "output.dense"),
    "llama": ("self_attn.o_proj", "mlp.down_proj"),
    "gpt2": ("attn.c_proj", "mlp.c_proj"),
}


@dataclass(frozen=True)
class Importance:
    """Mean |dL/d gate| over sequences, for gates of 1 on every part of L layers.

    Attributes:
        heads: (L, H).
        neurons: (L, inner width).
        layers: (L,), for a gate on what the layer adds to its input.
    """

    heads: Tensor
    neurons: Tensor
    layers: Tensor


def importance(model: Any, subject: Subject, sample: int, seed: int) -> Importance:
    """Importance of every part on some training sequences (Michel et al., arXiv 1905.10650).

    Args:
        model: in evaluation mode with packed attention, on the CPU; stays as it is.
        subject: its task.
        sample: number of training sequences.
        seed: of their choice.
    """
    gates = _Gates(model)
    try:
        for index in _batches(subject, sample, seed):
            gates.lengths = subject.data.splits["train"].encoded.lengths[index].tolist()
            _backward(model, subject, index)
    finally:
        gates.remove()
        model.zero_grad(set_to_none=True)
    return gates.means()


def _batches(subject: Subject, sample: int, seed: int) -> list[np.ndarray]:
    members = subject.data.sequences(subject.task.splits["train"])
    chosen = members[rng.permute(np.arange(min(sample, len(members))), len(members), seed, "prune-taylor")]
    encoded = subject.data.splits["train"].encoded
    parts = batches.by_length(encoded.lengths[chosen], INFERENCE_TOKENS)
    return [neighbours(encoded, chosen[part]) for part in parts]


def _backward(model: Any, subject: Subject, index: np.ndarray) -> None:
    """Gradients of the summed loss: the mean is over sequences, for tag over words."""
    split, goal = subject.data.splits["train"], Objective(subject.task.kind)
    with torch.enable_grad():
        loss = subject.data.head.loss(model, split, index, goal, 0)
        (loss * len(index)).backward()


class _Gates:
    """Hooks that add up |sum over the tokens of a sequence of value * gradient| for every part."""

    def __init__(self, model: Any) -> None:
        self.lengths: list[int] = []
        self.sequences = 0
        self.heads_per_layer = model.config.num_attention_heads
        layout, self.handles = model.config.model_type, []
        stack = model.base_model.get_submodule(STACKS[layout])
        self.sums: list[dict[str, Any]] = [{"attention": 0, "inner": 0, "layer": 0} for _ in stack]
        for sums, layer in zip(self.sums, stack, strict=True):
            for part, path in zip(("attention", "inner"), OUTPUTS[layout], strict=True):
                hook = self._input_hook(sums, part)
                self.handles.append(layer.get_submodule(path).register_forward_pre_hook(hook))
            self.handles.append(layer.register_forward_hook(self._layer_hook(sums)))

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()

    def means(self) -> Importance:
        columns = {key: torch.stack([sums[key] for sums in self.sums]) for key in self.sums[0]}
        return Importance(*(columns[key] / self.sequences for key in ("attention", "inner", "layer")))

    def _input_hook(self, sums: dict[str, Any], part: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            value = inputs[0]
            value.register_hook(lambda gradient: self._add(sums, part, value.detach() * gradient))

        return hook

    def _layer_hook(self, sums: dict[str, Any]) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
            after = output[0] if isinstance(output, tuple) else output
            added = (after - inputs[0]).detach()
            after.register_hook(lambda gradient: self._add(sums, "layer", added * gradient))
            if sums is self.sums[0]:
                self.sequences += len(self.lengths)

        return hook

    def _add(self, sums: dict[str, Any], part: str, product: Tensor) -> None:
        """product: (1, T, n)."""
        found = torch.stack([rows.sum(0) for rows in product[0].split(self.lengths)])
        if part == "attention":
            found = found.unflatten(1, (self.heads_per_layer, -1)).sum(2)
        if part == "layer":
            found = found.sum(1)
        sums[part] = sums[part] + found.abs().sum(0)
