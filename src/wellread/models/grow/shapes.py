"""What growth changes of a model: its sizes, which of them each matrix has, which growths are possible."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from wellread.errors import RecipeError
from wellread.models import build
from wellread.settings import ModelSettings

# The axes of each matrix y = x W, by the end of its name: (outputs, inputs).  "e" is the residual stream, "h"
# the heads, "k" the heads of keys and values where they are fewer, "f" the inner feed-forward layer, "" one
# that does not grow; "hhh" are three matrices side by side.
AXES = {
    "attention.self.query": ("h", "e"),
    "attention.self.key": ("h", "e"),
    "attention.self.value": ("h", "e"),
    "attention.output.dense": ("e", "h"),
    "intermediate.dense": ("f", "e"),
    "output.dense": ("e", "f"),
    "transform.dense": ("e", "e"),
    "attn.Wqkv": ("hhh", "e"),
    "attn.Wo": ("e", "h"),
    "mlp.Wi": ("ff", "e"),
    "mlp.Wo": ("e", "f"),
    "head.dense": ("e", "e"),
    "q_proj": ("h", "e"),
    "k_proj": ("k", "e"),
    "v_proj": ("k", "e"),
    "o_proj": ("e", "h"),
    "gate_proj": ("f", "e"),
    "up_proj": ("f", "e"),
    "down_proj": ("e", "f"),
    "attn.c_attn": ("hhh", "e"),
    "attn.c_proj": ("e", "h"),
    "mlp.c_fc": ("f", "e"),
    "mlp.c_proj": ("e", "f"),
    "decoder": ("", "e"),
    "lm_head": ("", "e"),
}
STACKS = {"modernbert": "model.layers", "bert": "bert.encoder.layer", "llama": "model.layers"}
STACKS["gpt2"] = "transformer.h"
# The norm just before the output layer, and the field of the configuration that holds the norms' epsilon.
LAST_NORM = {"modernbert": "head.norm", "bert": "cls.predictions.transform.LayerNorm"}
LAST_NORM |= {"llama": "model.norm", "gpt2": "transformer.ln_f"}
EPSILON = {"llama": "rms_norm_eps", "gpt2": "layer_norm_epsilon"}
PADDED = tuple(EPSILON)  # layouts in which zero-padding keeps the function


@dataclass(frozen=True)
class Shape:
    """The sizes of a model.

    Attributes:
        layout: of the four.
        layers, hidden, heads, inner: as in the recipe's [model].
        groups: heads of keys and values; as many as ``heads`` in most models.
        head_size: dimensions of a head.
        max_length: most positions.
        every_layer: ModernBERT: "full_attention" or "sliding_attention" of each layer; else empty.
        local_attention: ModernBERT: window of the local layers; else 0.
    """

    layout: str
    layers: int
    hidden: int
    heads: int
    inner: int
    groups: int
    head_size: int
    max_length: int
    every_layer: tuple[str, ...] = ()
    local_attention: int = 0

    @classmethod
    def of(cls, config: Any) -> Shape:
        """Of a checkpoint's configuration."""
        inner = (
            config.n_inner or 4 * config.n_embd if config.model_type == "gpt2" else config.intermediate_size
        )
        return cls(
            layout=config.model_type,
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            heads=config.num_attention_heads,
            inner=inner,
            groups=getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
            head_size=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
            max_length=config.max_position_embeddings,
            every_layer=tuple(config.layer_types) if config.model_type == "modernbert" else (),
            local_attention=config.local_attention if config.model_type == "modernbert" else 0,
        )

    @classmethod
    def wanted(cls, settings: ModelSettings) -> Shape:
        """Of a recipe's [model]."""
        return cls(
            layout=settings.layout,
            layers=settings.layers,
            hidden=settings.hidden,
            heads=settings.heads,
            inner=settings.inner,
            groups=settings.heads,
            head_size=settings.hidden // settings.heads,
            max_length=settings.max_length,
            every_layer=tuple(build.layer_types(settings)) if settings.layout == "modernbert" else (),
            local_attention=settings.local_attention if settings.layout == "modernbert" else 0,
        )

    @property
    def global_every(self) -> int:
        """ModernBERT: every how many layers one attends globally; all of them where only the first does."""
        places = [place for place, kind in enumerate(self.every_layer) if kind == "full_attention"]
        return places[1] - places[0] if len(places) > 1 else max(1, self.layers)

    @property
    def axes(self) -> dict[str, int]:
        """Length of each axis of :data:`AXES`."""
        size = self.head_size
        return {"e": self.hidden, "h": self.heads * size, "k": self.groups * size, "f": self.inner, "": 0}


def settings_of(config: Any) -> ModelSettings:
    """A checkpoint's architecture as a recipe's [model]."""
    found = Shape.of(config)
    given: dict[str, Any] = {
        "layout": found.layout,
        "layers": found.layers,
        "hidden": found.hidden,
        "heads": found.heads,
        "ffn": found.inner,
        "max_length": found.max_length,
    }
    if found.layout == "modernbert":
        given |= {"local_attention": found.local_attention, "global_every": found.global_every}
    return ModelSettings.model_validate(given)


def taken_over(shape: Shape, settings: ModelSettings) -> dict[str, Any]:
    """What stays the start checkpoint's, whatever [model] says, by key; growth changes width and layers.

    Args:
        shape: the checkpoint's.
        settings: the recipe's [model].
    """
    found: dict[str, Any] = {} if settings.grow != "none" else {"ffn": shape.inner}
    if shape.layout == "modernbert":
        found["local_attention"] = shape.local_attention
        if settings.grow == "none":
            found["global_every"] = shape.global_every
    return found


def adopted(shape: Shape, settings: ModelSettings) -> ModelSettings:
    """[model] with what it does not state filled in from the start checkpoint, as costs are counted by it.

    Args:
        shape: the checkpoint's.
        settings: the recipe's [model].
    """
    found = taken_over(shape, settings)
    return settings.model_copy(update={key: found[key] for key in found if not states(settings, key)})


def states(settings: ModelSettings, key: str) -> bool:
    """Whether a recipe gives a key itself."""
    return key in settings.model_fields_set and getattr(settings, key) is not None


def check(small: Shape, settings: ModelSettings) -> None:
    """Refuse a growth that cannot be.

    Args:
        small: what is to grow.
        settings: the recipe's [model]: how, and to which shape.

    Raises:
        RecipeError: with the key, the cause and the cure.
    """
    large, method = Shape.wanted(settings), settings.grow
    for key in ("layers", "hidden", "inner"):
        found, asked = getattr(small, key), getattr(large, key)
        if asked < found:
            _refuse(
                "ffn" if key == "inner" else key, f"is {asked}, less than the {found} of model.start", found
            )
    if large.head_size != small.head_size:
        what = f"makes heads of {large.head_size} dimensions, those of model.start have {small.head_size}"
        _refuse("heads", what, large.hidden // small.head_size)
    if large.heads % (small.heads // small.groups):
        each = small.heads // small.groups
        _refuse("heads", f"must be a multiple of {each}: so many heads share keys in model.start", each)
    if small.every_layer != large.every_layer[: small.layers]:
        _refuse("global_every", "puts the local layers elsewhere than model.start", _every(small))
    wider = (large.hidden, large.inner) != (small.hidden, small.inner)
    if not wider and large.layers == small.layers:
        _refuse("grow", "has nothing to grow: the shape is that of model.start", '"none"')
    if method == "stack" and wider:
        _refuse("grow", 'is "stack", which adds layers, but the width differs too', '"function-preserving"')
    if method == "function-preserving" and large.hidden % small.hidden:
        what = f"is no multiple of the {small.hidden} of model.start, as function-preserving growth needs"
        cure = '"zero-pad"' if small.layout in PADDED else '"advanced"'
        _refuse("hidden", what, large.hidden // small.hidden * small.hidden, f"model.grow = {cure}")
    if method == "zero-pad" and wider and small.layout not in PADDED:
        what = f'is "zero-pad", which changes what {small.layout} computes'
        _refuse("grow", what, '"function-preserving" (a multiple of the width) or "advanced" (any width)')
    if settings.grow_depth == "identity" and small.layout == "bert" and large.layers > small.layers:
        _refuse(
            "grow_depth", 'is "identity", and no layer of BERT, which has its norms last, is one', '"stack"'
        )


def keeps_function(small: Shape, settings: ModelSettings) -> bool:
    """Whether the grown model computes what the small one does."""
    same_depth = settings.layers == small.layers or settings.grow_depth == "identity"
    return same_depth and settings.grow in ("function-preserving", "zero-pad", "stack")


def larger(config: PreTrainedConfig, settings: ModelSettings, layers: int) -> PreTrainedConfig:
    """A checkpoint's configuration with the recipe's sizes, and all else as it is.

    Args:
        config: of the small model.
        settings: the recipe's [model].
        layers: of the model that is wanted.
    """
    small, large = Shape.of(config), copy.deepcopy(config)
    sizes = {
        "num_hidden_layers": layers,
        "hidden_size": settings.hidden,
        "num_attention_heads": settings.heads,
        "n_inner" if small.layout == "gpt2" else "intermediate_size": settings.inner,
        "initializer_range": settings.std,
    }
    if small.layout == "llama":
        sizes["num_key_value_heads"] = settings.heads // (small.heads // small.groups)
    if small.layout == "modernbert":
        large.layer_types = build.layer_types(settings)[:layers]  # type: ignore[attr-defined]
    for name, value in sizes.items():
        setattr(large, name, value)
    return large


def blank(small: PreTrainedModel, config: PreTrainedConfig, seed: int) -> PreTrainedModel:
    """A model of the small one's kind and precision with random weights."""
    head = "clm" if config.model_type in ("llama", "gpt2") else "mlm"
    with build.seeded(seed):
        model = build.MODELS[head].from_config(config, attn_implementation="sdpa", dtype=small.dtype)
    return model.train(small.training)


def axes_of(name: str, module: nn.Module) -> tuple[str, str] | None:
    """(outputs, inputs) of a module's weight as in :data:`AXES`; None where nothing in it grows."""
    if isinstance(module, nn.Embedding) or name.rsplit(".", 1)[-1].lower().endswith("norm"):
        return "e", ""
    if not isinstance(module, (nn.Linear, Conv1D)):
        return ("e", "") if "ln_" in name.rsplit(".", 1)[-1] else None
    return max(
        (end for end in AXES.items() if f".{name}".endswith(f".{end[0]}")), key=lambda end: len(end[0])
    )[1]


def columns(module: Any) -> Tensor:
    """A module's weight as (inputs, outputs), so that y = x W; a view.  A norm's is (1, outputs)."""
    weight: Tensor = module.weight.detach()
    if weight.ndim == 1:
        return weight[None]
    return weight.T if isinstance(module, nn.Linear) else weight


def tied(model: PreTrainedModel) -> bool:
    """Whether the output layer is the embedding table."""
    output = model.get_output_embeddings()
    return output is not None and output.weight is model.get_input_embeddings().weight  # type: ignore[union-attr]


def places(axis: str, small: dict[str, int], large: dict[str, int]) -> Tensor:
    """Where the coordinates of an axis of the small model stand in the large one, which keeps them first."""
    parts = [torch.arange(small[kind]) + number * large[kind] for number, kind in enumerate(axis)]
    return torch.cat(parts)


def sources(axis: str, small: dict[str, int], large: dict[str, int]) -> Tensor:
    """For each coordinate of an axis of the large model the one of the small that it copies: in turn."""
    parts = [
        torch.arange(large[kind]) % small[kind] + number * small[kind] for number, kind in enumerate(axis)
    ]
    return torch.cat(parts)


def _every(shape: Shape) -> str:
    whole = np.flatnonzero([kind == "full_attention" for kind in shape.every_layer])
    return str(int(whole[1] - whole[0])) if len(whole) > 1 else "that of model.start"


def _refuse(key: str, what: str, cure: Any, other: str = "") -> None:
    raise RecipeError(
        f"{key} {what}",
        where=f"model.{key}",
        fix=f"set model.{key} = {cure}{', or ' if other else ''}{other}",
    )
