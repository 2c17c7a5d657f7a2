"""Which output neurons share a range.

Q-BERT (Shen et al., arXiv 1909.05840) cuts each of a layer's matrices into groups of neighbouring output
neurons: 1 group is the whole matrix, 12 are the heads of BERT-base, 128 are 6 neurons each.  A projection
that stands for several matrices, as ModernBERT's ``Wqkv`` does, is cut as these would be.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor

# Matrices within one stored weight, by the layer's name.
PARTS = {"Wqkv": 3, "Wi": 2, "c_attn": 3}
KEY_VALUE = ("k_proj", "v_proj")


def count(groups: int | Literal["matrix", "head"], name: str, rows: int, config: Any) -> int:
    """Number of groups of one matrix.

    Args:
        groups: as in the settings.
        name: of the layer that the matrix belongs to, without its parents.
        rows: output neurons of the matrix.
        config: of the stock model, for the number of heads.
    """
    if groups == "matrix":
        return 1
    if groups != "head":
        return min(groups, rows)
    heads: int = config.num_attention_heads
    return min(getattr(config, "num_key_value_heads", heads) if name in KEY_VALUE else heads, rows)


@lru_cache(maxsize=256)
def owners(rows: int, parts: int, groups: int) -> Tensor:
    """The group of each output neuron.

    Args:
        rows: output neurons, of all parts together.
        parts: matrices that lie one below the other, of equal height.
        groups: of each part, at most its height; their sizes differ by one at most.

    Returns:
        (rows,) int64, rising from 0 to ``parts * groups - 1``.
    """
    height = rows // parts
    row = torch.arange(rows)
    return row // height * groups + row % height * groups // height
