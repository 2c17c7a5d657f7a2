"""Beginning with the labels' frequencies: a fresh classifier need not spend its first steps on learning them.

All logits of a fresh classifier are near zero, so rare labels begin at one half.  Until that is put right,
every example pushes the body in one direction, and a body whose text vectors differ little may lose what they
differ in.  Lin et al. (arXiv 1708.02002, section 4.1) begin a rare class so for the same reason.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from wellread.tasks.task import Kind

SMOOTHING = 0.5  # of an example for each label, and for its absence


@torch.no_grad()
def begin_at_base_rates(layer: nn.Linear, kind: Kind, targets: np.ndarray) -> None:
    """Set the bias of a classifier's last layer, in place; without a bias nothing happens.

    A label's share is smoothed by half an example.  Then sigmoid(bias) is each label's share (multilabel), or
    softmax(bias) the shares of all classes.

    Args:
        layer: of L outputs.
        kind: of the task; scores have no frequencies, and are left alone.
        targets: (N, L) of 0 and 1 for multilabel, else (N,) label numbers.
    """
    if layer.bias is None or kind == "regress" or not len(targets):
        return
    if kind == "multilabel":
        present = targets.sum(axis=0, dtype=np.float64) + SMOOTHING
        absent = len(targets) + 2 * SMOOTHING - present
        bias = np.log(present / absent)
    else:
        count = np.bincount(targets, minlength=layer.out_features) + SMOOTHING
        bias = np.log(count / count.sum())
    layer.bias.copy_(torch.from_numpy(bias))
