"""DB-LLM (arXiv 2402.11960): weights of two bits as two binary planes, learnt from the real model.

Weights only: inputs and attention stay real.  For all four layouts; the paper's are Llama decoders.  Tables
of words are kept in half precision, everything else in full.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from wellread.compress.binarise import deviation, planes, signs
from wellread.compress.subject import Subject, load_model
from wellread.errors import ArtefactError
from wellread.finetune import stable
from wellread.finetune.loop import FinetuneResult, tune
from wellread.finetune.stability.layers import blocks
from wellread.models import packed

GROUP = 64


class DualLinear(nn.Module):
    """A linear layer of two scaled bits a weight, learnt through the real weights behind them.

    Attributes:
        weight: (outputs, inputs), real.
        bias: as in the layer that it replaces.
        first, second: (groups, 1), a1 and a2 of every group of weights, the groups row by row; the last
            group of a row is filled up with zeros.
    """

    bias: nn.Parameter | None

    def __init__(self, layer: Any, group: int) -> None:
        super().__init__()
        weight = layer.weight.detach()
        weight = weight.T.contiguous() if isinstance(layer, Conv1D) else weight
        self.weight, self.bias, self.group = nn.Parameter(weight.clone()), layer.bias, group
        first, second = planes.start(grouped(weight, group))
        self.first, self.second = nn.Parameter(first), nn.Parameter(second)

    def scales(self) -> tuple[Tensor, Tensor]:
        """a1 and a2 rounded to half precision, as they are kept; gradients pass."""
        return _half(self.first), _half(self.second)

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        found = planes.levelled(grouped(self.weight, self.group), *self.scales())
        return linear(inputs, ungrouped(found, self.weight.shape[1]), self.bias)


def grouped(weight: Tensor, group: int) -> Tensor:
    """(outputs, inputs) -> (outputs * ceil(inputs / group), group), zeros at the end of each row."""
    return nn.functional.pad(weight, (0, -weight.shape[1] % group)).reshape(-1, group)


def ungrouped(groups: Tensor, inputs: int) -> Tensor:
    """The way back: (outputs * ceil(inputs / group), group) -> (outputs, inputs)."""
    width = -(-inputs // groups.shape[1]) * groups.shape[1]
    return groups.reshape(-1, width)[:, :inputs]


def binarise(subject: Subject, seed: int, *, group: int = GROUP, gamma: float = 1.0) -> FinetuneResult:
    """Train a copy of a fine-tuned model with two bits a weight, with the model itself as its teacher.

    Args:
        subject: the fine-tuned model, its task, and the settings of training.
        seed: of the order and the dropout.
        group: weights of a row that share their two scales.
        gamma: how much more examples weigh of which the teacher is unsure (:mod:`.deviation`).

    Returns:
        The outcome; its model has :class:`DualLinear` layers and is ready to predict, or to be kept
        (:func:`wellread.compress.binarise.stored.save`).
    """
    teacher, student = load_model(subject).requires_grad_(False), equip(load_model(subject), group)
    train, size = subject.task.splits["train"], stable.size_of(subject.folder)
    settings, picked = stable.resolve(subject.settings, subject.task.kind, len(train), size)
    loss = deviation.loss(teacher, gamma)
    result = tune(student, subject.data, train, settings, seed, loss=loss, fine_tuned=True)
    result.picked = picked
    if result.model is not None:
        packed.enable(result.model)
    return result


def equip(model: Any, group: int = GROUP, *, only_scales: bool = False) -> Any:
    """Put dual layers into the blocks of a stock model, in place, and round its table of words.

    Without any training this is 2-bit quantisation after training.

    Args:
        model: of any of the four layouts.
        group: weights of a row that share their scales; a multiple of 8.
        only_scales: train nothing else, as the paper does with few texts.

    Raises:
        ArtefactError: the group is no multiple of 8.
    """
    if group < 8 or group % 8:
        raise ArtefactError(
            f"a group of {group} weights", where="group", fix="use a multiple of 8, such as 64"
        )
    for _, parent, child, module in list(_sites(model)):
        layer = DualLinear(module, group)
        setattr(parent, child, layer.to(module.weight.device).train(module.training))
    table = model.get_input_embeddings()
    with torch.no_grad():
        table.weight.copy_(table.weight.half())
    if only_scales:
        model.requires_grad_(False)
        for layer in _layers(model).values():
            layer.first.requires_grad_(True)
            layer.second.requires_grad_(True)
    return model


def is_dual(model: Any) -> bool:
    """Whether a model has dual layers."""
    return bool(_layers(model))


def group_of(model: Any) -> int:
    """The size of the groups of a model with dual layers."""
    return next(iter(_layers(model).values())).group


@torch.no_grad()
def tensors(model: Any) -> dict[str, Tensor]:
    """What is kept: bits packed by eight, scales and the table of words in half precision, the rest."""
    layers, kept = _layers(model), dict(model.state_dict())
    for name, layer in layers.items():
        for part in ("weight", "first", "second"):
            del kept[f"{name}.{part}"]
        first, second = layer.scales()
        upper, lower = planes.bits(grouped(layer.weight, layer.group), first, second)
        inputs = layer.weight.shape[1]
        kept[f"{name}.upper"] = signs.pack(ungrouped(upper, inputs))
        kept[f"{name}.lower"] = signs.pack(ungrouped(lower, inputs))
        kept[f"{name}.scales"] = torch.cat([first, second], 1).half()
    for name in _tables(model):
        kept[name] = kept[name].half()
    return kept


def restored(model: Any, kept: dict[str, Tensor], group: int) -> dict[str, Tensor]:
    """The state dict of the stock model from what :func:`tensors` gave."""
    kept = dict(kept)
    for name, _, _, module in _sites(model):
        transposed = isinstance(module, Conv1D)
        inputs = module.weight.shape[0] if transposed else module.weight.shape[1]
        upper, lower = (signs.unpack(kept.pop(f"{name}.{part}"), inputs) for part in ("upper", "lower"))
        first, second = kept.pop(f"{name}.scales").float().split(1, 1)
        weight = ungrouped(first * grouped(upper, group) + second * grouped(lower, group), inputs)
        kept[f"{name}.weight"] = weight.T.contiguous() if transposed else weight.contiguous()
    for name in _tables(model):
        kept[name] = kept[name].float()
    return kept


def _tables(model: Any) -> list[str]:
    """Names in the state dict of the table of words, and of a head that is tied to it."""
    table = model.get_input_embeddings().weight
    return [name for name, weight in model.named_parameters(remove_duplicate=False) if weight is table]


def _layers(model: Any) -> dict[str, DualLinear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, DualLinear)}


def _sites(model: Any) -> Iterator[tuple[str, Any, str, Any]]:
    """(name, parent, name in the parent, layer) of every matrix in the blocks."""
    stack = blocks(model)[0]
    for name, module in model.get_submodule(stack).named_modules():
        if isinstance(module, (nn.Linear, Conv1D)):
            full = f"{stack}.{name}"
            parent, _, child = full.rpartition(".")
            yield full, model.get_submodule(parent), child, module


def _half(values: Tensor) -> Tensor:
    return values + (values.detach().half().float() - values.detach())
