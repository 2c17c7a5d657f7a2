"""Dynamic sparsity: now and then the smallest living weights die and as many others come to life.

SET (Mocanu et al., arXiv 1707.04780) brings back random ones, RigL (Evci et al., arXiv 1911.11134) those
where the gradient of the dense matrix is largest.  With blocks, whole blocks come and go, scored by their
Frobenius norm, and every row of blocks keeps its number.

Everything is a pure function of weights, gradients and (seed, name of the matrix, step): processes that hold
the same weights and are given the same gradients move the same weights.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wellread import rng
from wellread.errors import RecipeError
from wellread.settings import SparsitySettings
from wellread.sparsity.linear import SparseLinear
from wellread.sparsity.patterns import spread
from wellread.sparsity.structure import Structure


def share(settings: SparsitySettings, step: int, steps: int) -> float:
    """Share of the living weights to replace after a step: a half cosine from ``drop_fraction`` to 0.

    Args:
        settings: method and schedule.
        step: number of the step, from 1.
        steps: of the whole run.

    Returns:
        0 where nothing is to be replaced.
    """
    end = settings.update_until * steps
    if settings.dynamic == "none" or step % settings.update_every or step >= end:
        return 0.0
    return settings.drop_fraction * (1 + math.cos(math.pi * step / end)) / 2


def check(settings: SparsitySettings, steps: int, layers: Iterable[SparseLinear] = ()) -> None:
    """Refuse dynamic sparsity that could not move a single weight.

    Raises:
        RecipeError: the run ends before the first update, or no row of blocks in the layers has two to choose
            from.
    """
    if settings.dynamic == "none":
        return
    if settings.update_every >= settings.update_until * steps:
        raise RecipeError(
            f"updates end after {settings.update_until:g} of the run's {steps} steps, before the first",
            where="pretrain.sparsity.update_every",
            fix=f'lower it (now {settings.update_every}), train longer, or set dynamic = "none"',
        )
    grids = [_grid(layer) for layer in layers]
    if settings.pattern != "unstructured" and grids and all(grid.sum(1).max() == 1 for grid in grids):
        raise RecipeError(
            "every row of blocks has a single living one, which stays, so no weight can move",
            where="pretrain.sparsity.pattern",
            fix='choose smaller blocks, a lower level or a wider model, or set dynamic = "none"',
        )


def rewire(
    live: np.ndarray, magnitude: np.ndarray, score: np.ndarray, share: float, seed: int, name: str, step: int
) -> np.ndarray:
    """Which places of a grid live after an update.

    In each row, of n living places about ``share`` * n die, those of the smallest magnitude.  The number is
    rounded up or down at random, so that rows with few blocks take part, but one place stays alive: new ones
    hold zero, and where outputs that are multiplied with each other (gates, queries and keys) are all zero no
    gradient ever comes through.  Then as many of all that do not live, the ones that just died among them,
    come to life: those of the largest score.  Equals are told apart at random.

    Args:
        live: (rows, places) bool; a row keeps its number of living places.
        magnitude: (rows, places) float32, not negative; what the places hold.
        score: (rows, places) float32, not negative; what they promise.
        share: of the living places that die, in [0, 1).
        seed: of the run; with the two that follow it decides whatever is random.
        name: of the matrix.
        step: number of the step.

    Returns:
        (rows, places) bool.
    """
    places = np.arange(live.size).reshape(live.shape)
    counts = live.sum(1)
    rounding = rng.uniform(seed, f"rounding {name}", step, np.arange(len(live)))
    dying = np.minimum(np.floor(share * counts + rounding), np.maximum(counts - 1, 0)).astype(np.int64)
    kept = _largest(magnitude, live, counts - dying, rng.bits(seed, f"drop {name}", step, places))
    grown = _largest(score, ~kept, dying, rng.bits(seed, f"regrow {name}", step, places))
    return kept | grown


def _largest(score: np.ndarray, eligible: np.ndarray, counts: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """Mark in each row as many eligible places as ``counts`` says, those of the largest scores."""
    # The bits of floats that are not negative are in the order of the floats; 0 is below all eligible ones.
    high = np.ascontiguousarray(score).view(np.uint32).astype(np.uint64) << np.uint64(32)
    keys = np.where(eligible, high | ties >> np.uint64(32) | np.uint64(1), np.uint64(0))
    chosen = np.zeros(eligible.shape, dtype=bool)
    for row, count in enumerate(counts):
        if count:
            chosen[row, np.argpartition(keys[row], -count)[-count:]] = True
    return chosen


def choose(
    layer: SparseLinear, gradient: Tensor | None, share: float, seed: int, name: str, step: int
) -> Structure:
    """Where a layer's weights are to live after an update.

    Args:
        layer: stays as it is.
        gradient: (outputs, inputs), of the dense matrix; None for SET.
        share: as in :func:`rewire`, like the rest.
        seed: of the run.
        name: of the matrix.
        step: number of the step.
    """
    block = layer.structure.block
    live = _grid(layer)
    magnitude = _norms(layer.structure.unpack(layer.values.detach()), block)
    score = np.zeros_like(magnitude) if gradient is None else _norms(gradient, block)
    rows = (1, -1) if block == 1 else live.shape  # single weights are counted over the whole matrix
    grids = (live.reshape(rows), magnitude.reshape(rows), score.reshape(rows))
    return _structure(layer, rewire(*grids, share, seed, name, step).reshape(live.shape))


@torch.no_grad()
def move(layer: SparseLinear, structure: Structure, companions: Iterable[Tensor]) -> int:
    """Let a layer's weights live elsewhere: survivors keep their values, new ones are zero; in place.

    Args:
        layer: its parameter object stays; its gradient is forgotten.
        structure: with as many living weights as the layer's own.
        companions: tensors of the parameter's shape that go along, such as the optimiser's moments.

    Returns:
        Number of weights that have come to life.
    """
    before = layer.structure
    for tensor in (layer.values, *companions):
        tensor.copy_(structure.pack(before.unpack(tensor)))
    layer.values.grad = None
    layer.structure = structure
    born = int((structure.live() & ~before.live()).sum())
    layer.moved += born
    return born


def update(
    layers: Mapping[str, SparseLinear],
    gradients: Mapping[str, Tensor],
    share: float,
    seed: int,
    step: int,
    moments: Callable[[nn.Parameter], Iterable[Tensor]],
) -> None:
    """Move the weights of all layers, in place; to be called after the optimiser's step.

    Args:
        layers: by name.
        gradients: by name the gradient of the whole batch with respect to the dense (outputs, inputs) matrix,
            summed over the parts of the batch and over all processes; empty for SET.
        share: of the living weights that are replaced.
        seed: of the run.
        step: number of the step.
        moments: the optimiser's tensors that belong to a parameter; those of new weights become zero.
    """
    for name, layer in layers.items():
        structure = choose(layer, gradients.get(name), share, seed, name, step)
        move(layer, structure, moments(layer.values))


@contextlib.contextmanager
def dense_gradients(layers: Mapping[str, SparseLinear]) -> Iterator[dict[str, Tensor]]:
    """Collect the gradients of the dense matrices in the backward passes within the block.

    It costs one dense product a layer and pass, and the memory of the dense matrices.

    Args:
        layers: by name; with none it does nothing.

    Returns:
        By name, in the order of ``layers``, the float32 (outputs, inputs) sum over all passes; zeros where a
        process had nothing to read and no pass took place.

    Raises:
        RuntimeError: a backward pass has gone by one of the layers.
    """
    gradients = {name: torch.zeros(layer.shape, device=layer.values.device) for name, layer in layers.items()}
    seen: set[str] = set()

    def watch(name: str) -> Callable[..., None]:
        def forward(_: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
            x = inputs[0].detach()
            outputs.register_hook(lambda errors: add(x.flatten(0, -2), errors.flatten(0, -2)))

        def add(x: Tensor, errors: Tensor) -> None:
            gradients[name].addmm_(errors.float().T, x.float())
            seen.add(name)

        return forward

    handles = [layer.register_forward_hook(watch(name)) for name, layer in layers.items()]
    try:
        yield gradients
    finally:
        for handle in handles:
            handle.remove()
    missing = layers.keys() - seen
    if seen and missing:
        raise RuntimeError(f"no gradient has come through {sorted(missing)[0]}")


def state(layers: Mapping[str, SparseLinear]) -> dict[str, Tensor]:
    """What a checkpoint needs beside the weights: by layer a bit for each block (or weight), and a count."""
    tensors = {}
    for name, layer in layers.items():
        tensors[f"live.{name}"] = torch.from_numpy(np.packbits(_grid(layer)))
        tensors[f"moved.{name}"] = torch.tensor(layer.moved)
    return tensors


def load(layers: Mapping[str, SparseLinear], tensors: Mapping[str, Tensor]) -> None:
    """Take over what :func:`state` gave; the values come with the model's own."""
    for name, layer in layers.items():
        shape = _grid(layer).shape
        bits = np.unpackbits(tensors[f"live.{name}"].numpy(), count=math.prod(shape))
        layer.structure = _structure(layer, bits.astype(bool).reshape(shape))
        layer.moved = int(tensors[f"moved.{name}"])


def report(layers: Mapping[str, SparseLinear], settings: SparsitySettings) -> dict[str, Any]:
    """How many weights have come to life in all; one that dies and comes back counts twice."""
    moved = {name: layer.moved for name, layer in layers.items()}
    return {"dynamic": {"method": settings.dynamic, "moved": sum(moved.values()), "layers": moved}}


def _grid(layer: SparseLinear) -> np.ndarray:
    """(rows, columns) bool, one place for each block or weight: whether it lives."""
    block = layer.structure.block
    return layer.structure.live()[::block, ::block].numpy()


def _structure(layer: SparseLinear, grid: np.ndarray) -> Structure:
    block = layer.structure.block
    return Structure.of(spread(torch.from_numpy(grid), block, layer.shape), block)


def _norms(dense: Tensor, block: int) -> np.ndarray:
    """(rows, columns) float32: the Frobenius norm of each block, or the absolute value of each weight."""
    if block == 1:
        return dense.abs().float().cpu().numpy()
    outputs, inputs = dense.shape
    padded = nn.functional.pad(dense, (0, -inputs % block, 0, -outputs % block))
    blocks = padded.unfold(0, block, block).unfold(1, block, block)
    return torch.linalg.vector_norm(blocks, dim=(2, 3), dtype=torch.float64).float().cpu().numpy()
