"""Which samples of a step each process of a group reads."""

from __future__ import annotations

import numpy as np

from wellread.errors import RecipeError
from wellread.pretrain.parallel import Group
from wellread.settings import ModelSettings
from wellread.sparsity.flops import training_flops
from wellread.tokens.batch import PackedBatch
from wellread.tokens.exchange import exchange
from wellread.tokens.mixture import Mixture
from wellread.tokens.packing import Packing


def costs(settings: ModelSettings, vocab: int, level: float, mask_rate: float) -> np.ndarray:
    """(max_length + 1,) accounted FLOPs of a sample of each length, attention included.

    Args:
        settings: the architecture.
        vocab: size of the vocabulary.
        level: share of zeros in the attention and feed-forward matrices.
        mask_rate: encoders: share of the tokens that is predicted.
    """
    lengths = range(settings.max_length + 1)
    return np.array(
        [training_flops(settings, vocab, [length], level, mask_rate)["accounted"] for length in lengths]
    )


def share(
    packing: Packing | Mixture, step: int, length_costs: np.ndarray, group: Group
) -> tuple[PackedBatch, list[int]]:
    """What this process reads of a step, and the lengths of all the step's samples, in tokens.

    With one process that is the step's batch; with several, each sample is read by one of them, in the order
    that it has in the batch.
    """
    samples = packing.samples(step)
    lengths = packing.sizes(samples)
    shares = exchange(length_costs[lengths], group.size)
    return packing.assemble(samples[shares[group.rank]]), lengths.tolist()


def check(packing: Packing | Mixture, group: Group) -> None:
    """Refuse a group in which some process would often have nothing to read.

    Raises:
        RecipeError: a step has fewer samples, on average, than there are processes.
    """
    samples = packing.n_samples / packing.steps_per_epoch
    if samples < group.size:
        raise RecipeError(
            f"a step has {samples:.1f} samples on average, too few for {group.size} processes",
            where="pretrain.batch_tokens",
            fix="raise it, or take fewer processes",
        )
