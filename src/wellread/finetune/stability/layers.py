"""How deep each weight of a stock model lies, found from the model's own structure."""

from __future__ import annotations

from typing import Any

from torch import nn

HEAD = 0  # depth of all that stands above the blocks


def blocks(model: Any) -> tuple[str, nn.ModuleList]:
    """Name and modules of the stack of transformer blocks.

    Raises:
        TypeError: the model has no list of as many modules as its configuration has layers.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == model.config.num_hidden_layers:
            return name, module
    raise TypeError(f"{type(model).__name__} has no stack of {model.config.num_hidden_layers} blocks")


def depths(model: Any) -> dict[str, int]:
    """Depth of every parameter of a model of L blocks, by name.

    0 for what stands above the blocks (final norm, pooler, head), 1 for the top block, L for the lowest,
    L + 1 for the embeddings.  Modules are registered in the order in which they run.
    """
    stack, modules = blocks(model)
    found: dict[str, int] = {}
    above = False
    for name, _ in model.named_parameters():
        if name.startswith(f"{stack}."):
            found[name] = len(modules) - int(name[len(stack) + 1 :].split(".", 1)[0])
            above = True
        else:
            found[name] = HEAD if above else len(modules) + 1
    return found
