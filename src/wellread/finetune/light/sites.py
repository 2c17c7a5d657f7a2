"""Where the stock layouts keep the matrices that light-weight methods change, and how a change is attached.

A change never replaces a module: it hangs on a stock module as a forward hook, and its parameters stand in
``model.light``.  So the stock weights keep their names, and what is added can be saved, merged, taken away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from wellread.models.long import encoder as long

# Matrices of a layer by part; a number says which third of a fused projection of queries, keys and values.
PARTS: dict[str, dict[str, tuple[tuple[str, int | None], ...]]] = {
    "modernbert": {
        "query": (("attn.Wqkv", 0),),
        "key": (("attn.Wqkv", 1),),
        "value": (("attn.Wqkv", 2),),
        "output": (("attn.Wo", None),),
        "ffn": (("mlp.Wi", None), ("mlp.Wo", None)),
    },
    "bert": {
        "query": (("attention.self.query", None),),
        "key": (("attention.self.key", None),),
        "value": (("attention.self.value", None),),
        "output": (("attention.output.dense", None),),
        "ffn": (("intermediate.dense", None), ("output.dense", None)),
    },
    "llama": {
        "query": (("self_attn.q_proj", None),),
        "key": (("self_attn.k_proj", None),),
        "value": (("self_attn.v_proj", None),),
        "output": (("self_attn.o_proj", None),),
        "ffn": (("mlp.gate_proj", None), ("mlp.up_proj", None), ("mlp.down_proj", None)),
    },
    "gpt2": {
        "query": (("attn.c_attn", 0),),
        "key": (("attn.c_attn", 1),),
        "value": (("attn.c_attn", 2),),
        "output": (("attn.c_proj", None),),
        "ffn": (("mlp.c_fc", None), ("mlp.c_proj", None)),
    },
}

PARTS["longformer"] = PARTS["big_bird"] = PARTS["bert"]

CAUSAL = ("llama", "gpt2")


@dataclass(frozen=True)
class Site:
    """A matrix of a stock model, or a third of one: outputs ``begin`` to ``end`` of ``module``."""

    module: nn.Module
    begin: int
    end: int
    inputs: int

    @property
    def weight(self) -> Tensor:
        """(end - begin, inputs): a view of the stock weight."""
        stored: Any = self.module.weight
        rows = stored.T if isinstance(self.module, Conv1D) else stored
        return rows[self.begin : self.end]


def layers(model: Any) -> nn.ModuleList:
    """The transformer layers of a stock model."""
    body = model.base_model
    if model.config.model_type in ("bert", *long.LAYOUTS):
        return body.encoder.layer
    return body.h if model.config.model_type == "gpt2" else body.layers


def sites(model: Any, parts: Sequence[str]) -> list[Site]:
    """The matrices of some parts ("query", "key", "value", "output", "ffn"), layer by layer."""
    table = PARTS[model.config.model_type]
    return [
        _site(layer.get_submodule(name), third)
        for layer in layers(model)
        for part in parts
        for name, third in table[part]
    ]


def outputs(model: Any, *, ffn: bool) -> list[nn.Module]:
    """The projections that end the attention of each layer and, with ``ffn``, its feed-forward block."""
    table = PARTS[model.config.model_type]
    names = [table["output"][0][0], *([table["ffn"][-1][0]] if ffn else [])]
    return [layer.get_submodule(name) for layer in layers(model) for name in names]


def attach(module: nn.Module, change: nn.Module, function: Callable[..., Any]) -> None:
    """Have ``function(change, module, inputs, output)`` give the module's output from now on.

    Bound by ``partial``, so that a deep copy of the model refers to its own modules.
    """
    vars(change)["_hooks"] = [
        *vars(change).get("_hooks", ()),
        module.register_forward_hook(partial(function, change)),
    ]


def through(adapter: nn.Module, _module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    """For :func:`attach`: what the stock module gives goes through the adapter."""
    return adapter(output)


def detach(change: nn.Module) -> None:
    """Take a change off all modules that it hangs on."""
    for hook in vars(change).pop("_hooks", ()):
        hook.remove()


def _site(module: Any, third: int | None) -> Site:
    shape = tuple(module.weight.shape)
    size, inputs = shape[::-1] if isinstance(module, Conv1D) else shape
    if third is None:
        return Site(module, 0, size, inputs)
    return Site(module, third * size // 3, (third + 1) * size // 3, inputs)
