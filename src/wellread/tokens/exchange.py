"""Padding exchange: the samples of a step shared out over processes, so that all are done at the same time.

Without padding, a process's time goes by the lengths of its samples, and the slowest one sets the pace.  All
processes know all lengths of a step, so each finds the same shares by itself and nothing is sent.  The start
is the exchange of Wang et al. (2022, arXiv:2208.08124) in snake order; then samples are swapped one by one.
"""

from __future__ import annotations

import numpy as np

# Swapping ends when the heaviest share would lose less than this part of the mean.
WORTH = 1e-3
MOST_SWAPS = 100


def exchange(work: np.ndarray, ranks: int) -> list[np.ndarray]:
    """Share samples out so that the work of the heaviest share is as small as a quick search finds.

    Args:
        work: (S,) positive, what each sample costs, in any unit.
        ranks: number of shares.

    Returns:
        For each rank the (S_r,) int64 indices of its samples, ascending; every sample stands in one share,
        and no share is empty where S >= ranks.  The same arguments give the same shares.
    """
    if ranks == 1:
        return [np.arange(len(work))]
    shares = _snake(work, ranks)
    sums = np.array([work[share].sum() for share in shares])
    for _ in range(MOST_SWAPS):
        if not _swap(work, shares, sums):
            break
    return [np.sort(np.array(share, np.int64)) for share in shares]


def imbalance(work: np.ndarray, shares: list[np.ndarray]) -> float:
    """Work of the heaviest share over the mean: 1 is perfect, and the time of a step grows with it."""
    sums = [float(work[share].sum()) for share in shares]
    return max(sums) * len(sums) / sum(sums)


def _snake(work: np.ndarray, ranks: int) -> list[list[int]]:
    """Deal the samples out, heaviest first, to and fro over the ranks."""
    order = np.argsort(-work, kind="stable")
    rows, columns = np.divmod(np.arange(len(work)), ranks)
    owners = np.where(rows % 2, ranks - 1 - columns, columns)
    return [order[owners == rank].tolist() for rank in range(ranks)]


def _swap(work: np.ndarray, shares: list[list[int]], sums: np.ndarray) -> bool:
    """Relieve the heaviest share by the best swap with any other share, or by giving a sample away.

    Args:
        work: (S,) of the samples.
        shares: changed in place.
        sums: (ranks,) work of each share, kept up to date.

    Returns:
        Whether something was gained.
    """
    heavy = int(sums.argmax())
    best, choice = WORTH * sums.mean(), None
    for other, share in enumerate(shares):
        # What goes over when sample i leaves for sample j; in the last column nothing comes back.
        moved = work[shares[heavy]][:, None] - np.append(work[share], 0.0)[None, :]
        gain = np.minimum(moved, sums[heavy] - sums[other] - moved)
        i, j = np.unravel_index(gain.argmax(), gain.shape)
        if other != heavy and gain[i, j] > best:
            best, choice = gain[i, j], (other, int(i), int(j), moved[i, j])
    if choice is None:
        return False
    other, i, j, amount = choice
    given = shares[heavy].pop(i)
    if j < len(shares[other]):
        shares[heavy].append(shares[other].pop(j))
    shares[other].append(given)
    sums[heavy] -= amount
    sums[other] += amount
    return True
