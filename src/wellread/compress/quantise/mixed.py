"""Bits for each layer from its sensitivity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from wellread.compress.quantise import weights
from wellread.compress.quantise.settings import QuantiseSettings
from wellread.errors import UserError


def halves(omega: Sequence[float], low: int, high: int) -> tuple[int, ...]:
    """Q-BERT's mixed precision: the more sensitive half of the layers (rounded down) gets the higher bits.

    Args:
        omega: sensitivity of each layer.
        low: bits of the others.
        high: bits of the sensitive ones.
    """
    ranked = sorted(range(len(omega)), key=lambda layer: (-omega[layer], layer))
    chosen = set(ranked[: len(omega) // 2])
    return tuple(high if layer in chosen else low for layer in range(len(omega)))


def budget(
    omega: Sequence[float],
    sizes: Sequence[int],
    errors: Sequence[dict[int, float]],
    bits: float,
) -> tuple[int, ...]:
    """Bits of each layer within a mean number of bits a weight.

    The harm of a choice is estimated as sum_l omega_l |w_l - w'_l|^2, curvature times the square of the
    change.  All layers begin with the fewest bits; the raise with the largest gain for a bit of storage comes
    first, as long as any fits.

    Args:
        omega: sensitivity of each layer.
        sizes: weights of each layer.
        errors: for each layer the squared error by number of bits (:func:`squared_errors`).
        bits: the mean wanted, at least the fewest in ``errors``.

    Raises:
        UserError: even the fewest bits are more than the budget.
    """
    choices = sorted(errors[0])
    chosen = [choices[0]] * len(sizes)
    room = bits * sum(sizes) - choices[0] * sum(sizes)
    if room < 0:
        raise UserError(
            f"a mean of {bits:g} bits is below the {choices[0]} bits of the smallest choice",
            where="bits",
            fix=f"give at least {choices[0]}",
        )
    while True:
        best: tuple[float, int, int] | None = None
        for layer, size in enumerate(sizes):
            for more in (choice for choice in choices if choice > chosen[layer]):
                cost = (more - chosen[layer]) * size
                gain = omega[layer] * (errors[layer][chosen[layer]] - errors[layer][more]) / cost
                if cost <= room and (best is None or gain > best[0]):
                    best = (gain, layer, more)
        if best is None:
            return tuple(chosen)
        _, layer, more = best
        room -= (more - chosen[layer]) * sizes[layer]
        chosen[layer] = more


def squared_errors(
    model: Any, settings: QuantiseSettings, choices: Sequence[int]
) -> tuple[list[int], list[dict[int, float]]]:
    """Weights of each layer, and the squared error of quantising them, by number of bits.

    Args:
        model: before it is quantised.
        settings: groups and symmetry (uniform).
        choices: numbers of bits.
    """
    depth = model.config.num_hidden_layers
    sizes, errors = [0] * depth, [dict.fromkeys(choices, 0.0) for _ in range(depth)]
    for bits in choices:
        schemes = weights.plan(model, settings.model_copy(update={"bits": bits, "layer_bits": ()}))
        for name, layer, module in weights.modules(model):
            if layer is None:
                continue
            weight = module.weight.detach()
            change = weights.decode(weights.encode(weight, schemes[f"{name}.weight"])) - weight
            errors[layer][bits] += float(change.to(torch.float64).square().sum())
            sizes[layer] += weight.numel() if bits == choices[0] else 0
    return sizes, errors
