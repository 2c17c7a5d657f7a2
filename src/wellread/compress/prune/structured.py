"""Structured pruning: heads, feed-forward neurons and layers leave the architecture.

What comes out is a smaller stock model.  A stock configuration has one number for all layers, so every layer
loses as many neurons (and heads) as the others; which ones is its own affair.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from wellread.compress.prune import taylor
from wellread.compress.prune.settings import StructuredSettings
from wellread.compress.prune.training import retrain, settings_of
from wellread.compress.subject import Subject, load_model
from wellread.errors import RecipeError
from wellread.finetune.loop import Loss
from wellread.models import build, packed
from wellread.sparsity.linear import STACKS

# For each layout: what makes the neurons, how many stand one after the other in it, and what takes them.
INNER = {
    "modernbert": (("mlp.Wi",), 2, "mlp.Wo"),
    "bert": (("intermediate.dense",), 1, "output.dense"),
    "llama": (("mlp.gate_proj", "mlp.up_proj"), 1, "mlp.down_proj"),
    "gpt2": (("mlp.c_fc",), 1, "mlp.c_proj"),
}


def prune(subject: Subject, settings: StructuredSettings, seed: int, *, loss: Loss | None = None) -> Any:
    """Take the least important layers, neurons and heads out, then train what is left.

    Args:
        subject: the fine-tuned model.
        settings: what to take out.
        seed: of the sample behind the importance, and of training.
        loss: instead of the task's own, a teacher's for instance.

    Returns:
        A smaller stock model, in evaluation mode with packed attention.

    Raises:
        RecipeError: nothing to take out, more layers than can go, or heads of a layout whose configuration
            cannot say so.
    """
    model = load_model(subject)
    _check(model.config, settings)
    found = taylor.importance(model, subject, settings.sample, seed)
    layers = kept_layers(model.config, found.layers, settings)
    if settings.heads:
        groups, share = model.config.num_key_value_heads, 1 - settings.heads
        count = _heads(model.config, share)
        scores = found.heads.unflatten(1, (groups, -1)).sum(2)
        model = remove_heads(model, list(_largest(scores, count)))
    if settings.ffn:
        total = found.neurons.shape[1]
        wanted = round(total * (1 - settings.ffn) / settings.multiple) * settings.multiple
        count = min(total, max(settings.multiple, wanted))
        model = remove_neurons(model, list(_largest(found.neurons, count)))
    model = remove_layers(model, layers)
    if settings.train:
        model = retrain(model, subject, settings_of(subject, settings.epochs), seed, loss=loss)
    return model


def kept_layers(config: Any, importance: Tensor, settings: StructuredSettings) -> list[int]:
    """Numbers of the layers that stay.

    ModernBERT's first layer always does: it is the one without a norm before its attention, so no other
    layer can stand in its place.
    """
    total = len(importance)
    can_go = list(range(_fixed(config), total))
    if settings.order == "top":
        gone = can_go[len(can_go) - settings.layers :]
    else:
        gone = sorted(can_go, key=lambda layer: (float(importance[layer]), -layer))[: settings.layers]
    return [layer for layer in range(total) if layer not in gone]


def remove_layers(model: Any, kept: list[int]) -> Any:
    """A stock model of some of the layers, in their order; ModernBERT's keep their kind of attention."""
    config = model.config
    prefix = f"{model.base_model_prefix}.{STACKS[config.model_type]}."
    place = {str(layer): str(number) for number, layer in enumerate(kept)}
    state = {}
    for name, weight in model.state_dict().items():
        if not name.startswith(prefix):
            state[name] = weight
            continue
        layer, _, rest = name[len(prefix) :].partition(".")
        if layer in place:
            state[f"{prefix}{place[layer]}.{rest}"] = weight
    changes: dict[str, Any] = {"num_hidden_layers": len(kept)}
    if getattr(config, "layer_types", None):
        changes["layer_types"] = [config.layer_types[layer] for layer in kept]
    return _rebuilt(model, changes, state)


def remove_neurons(model: Any, kept: list[Tensor]) -> Any:
    """A stock model whose layer i has the neurons ``kept[i]``, int64 of the same number in all."""
    makers, halves, taker = INNER[model.config.model_type]
    state, total = model.state_dict(), inner_width(model.config)
    for layer, neurons in enumerate(kept):
        rows = torch.cat([neurons + total * half for half in range(halves)])
        for path in makers:
            _select(model, state, layer, path, outputs=rows)
        _select(model, state, layer, taker, inputs=neurons)
    key = "n_inner" if model.config.model_type == "gpt2" else "intermediate_size"
    return _rebuilt(model, {key: len(kept[0])}, state)


def remove_heads(model: Any, kept: list[Tensor]) -> Any:
    """A stock Llama whose layer i has the key-value heads ``kept[i]`` with the queries that read them."""
    config = model.config
    size, group = config.head_dim, config.num_attention_heads // config.num_key_value_heads
    state = model.state_dict()
    for layer, heads in enumerate(kept):
        keys = _spread(heads, size)
        queries = _spread(_spread(heads, group), size)
        _select(model, state, layer, "self_attn.q_proj", outputs=queries)
        _select(model, state, layer, "self_attn.k_proj", outputs=keys)
        _select(model, state, layer, "self_attn.v_proj", outputs=keys)
        _select(model, state, layer, "self_attn.o_proj", inputs=queries)
    count = len(kept[0])
    changes = {"num_attention_heads": count * group, "num_key_value_heads": count, "head_dim": size}
    return _rebuilt(model, changes, state)


def inner_width(config: Any) -> int:
    """Feed-forward neurons of a layer."""
    if config.model_type == "gpt2":
        return config.n_inner or 4 * config.hidden_size
    return config.intermediate_size


def _check(config: Any, settings: StructuredSettings) -> None:
    if not (settings.layers or settings.ffn or settings.heads):
        raise RecipeError("nothing to take out", where="layers", fix="set layers, ffn or heads")
    can_go = config.num_hidden_layers - max(1, _fixed(config))
    if settings.layers > can_go:
        raise RecipeError(
            f"{settings.layers} layers are to go, but {can_go} of {config.num_hidden_layers} can",
            where="layers",
            fix="lower it",
        )
    if settings.layers and getattr(config, "scale_attn_by_inverse_layer_idx", False):
        raise RecipeError(
            "this model scales attention by the number of the layer", where="layers", fix="prune ffn instead"
        )
    if settings.heads and config.model_type != "llama":
        raise RecipeError(
            f"a {config.model_type} configuration ties the heads to the width (heads x size = hidden), so "
            "none can be taken out of a stock model",
            where="heads",
            fix="prune ffn or layers instead; of the four layouts only llama has head_dim",
        )


def _fixed(config: Any) -> int:
    """Layers at the bottom that cannot go."""
    return 1 if config.model_type == "modernbert" else 0


def _heads(config: Any, share: float) -> int:
    """Key-value heads to keep: transformers wants the number of heads to divide the width."""
    groups = config.num_key_value_heads
    group = config.num_attention_heads // groups
    allowed = [count for count in range(1, groups + 1) if config.hidden_size % (count * group) == 0]
    return next(count for count in allowed if count >= min(groups, max(1, round(groups * share))))


def _largest(scores: Tensor, count: int) -> Tensor:
    """(L, n) -> (L, count) numbers of the largest, in order."""
    ranked = scores.argsort(dim=1, descending=True, stable=True)
    return ranked[:, :count].sort(dim=1).values


def _spread(units: Tensor, size: int) -> Tensor:
    """Numbers of units -> numbers of the rows that they own, ``size`` each."""
    return (units[:, None] * size + torch.arange(size)).flatten()


def _select(
    model: Any,
    state: dict[str, Tensor],
    layer: int,
    path: str,
    *,
    outputs: Tensor | None = None,
    inputs: Tensor | None = None,
) -> None:
    """Keep some outputs or inputs of a matrix in a state dict; GPT-2's weights are (inputs, outputs)."""
    name = f"{model.base_model_prefix}.{STACKS[model.config.model_type]}.{layer}.{path}"
    turned = model.config.model_type == "gpt2"
    weight, bias = f"{name}.weight", f"{name}.bias"
    if outputs is not None:
        state[weight] = state[weight].index_select(1 if turned else 0, outputs)
        if bias in state:
            state[bias] = state[bias].index_select(0, outputs)
    if inputs is not None:
        state[weight] = state[weight].index_select(0 if turned else 1, inputs)


def _rebuilt(model: Any, changes: dict[str, Any], state: dict[str, Tensor]) -> Any:
    """A stock model of the same class with a changed configuration and these weights."""
    names = model.config.attribute_map  # GPT-2 has names of its own
    values = {**model.config.to_dict(), **{names.get(key, key): value for key, value in changes.items()}}
    config = type(model.config).from_dict(values)
    with build.seeded(0):
        fresh = type(model)(config)
    fresh.load_state_dict(state)
    return packed.enable(fresh).eval()
