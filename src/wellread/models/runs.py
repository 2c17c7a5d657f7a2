"""Packed sequences, those of equal length side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import torch
from torch import Tensor


def by_runs(function: Callable[..., Tensor], parts: Sequence[Tensor], lengths: list[int]) -> Tensor:
    """Give each run of neighbours of equal length to a function, and lay its outputs end to end again.

    Args:
        function: tensors (n, H, L, D), one for each part -> (n, H, L, D), for n sequences of L tokens.
        parts: (T, H, D) each; H may differ.
        lengths: of the sequences, T in all.

    Returns:
        (T, H, D).
    """
    runs = [(length, sum(1 for _ in run)) for length, run in groupby(lengths)]
    # One split node for the whole row: slicing would fill a (T, H, D) gradient with zeros for every sequence.
    sizes = [length * count for length, count in runs]
    outputs = []
    for (length, count), *run in zip(runs, *(part.split(sizes) for part in parts), strict=True):
        output = function(*(x.unflatten(0, (count, length)).transpose(1, 2) for x in run))
        outputs.append(output.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs)
