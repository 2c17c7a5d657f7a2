import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellread.tokens.exchange import exchange, imbalance

works = st.lists(st.floats(0.1, 1e12), min_size=1, max_size=60).map(np.array)


def abstract_lengths(tokens, longest, seed):
    """Lengths like those of abstracts: many titles, a broad hump of abstracts, some cut at the limit."""
    generator = np.random.default_rng(seed)
    titles = generator.integers(8, 30, 4000)
    abstracts = generator.lognormal(5.5, 0.45, 4000).astype(int)
    lengths = np.minimum(np.where(generator.random(4000) < 0.3, titles, abstracts), longest)
    return lengths[: np.searchsorted(lengths.cumsum(), tokens)]


@given(works, st.integers(1, 9))
def test_every_sample_stands_in_one_share(work, ranks):
    shares = exchange(work, ranks)
    assert len(shares) == ranks
    assert sorted(np.concatenate(shares).tolist()) == list(range(len(work)))
    assert all(share.dtype == np.int64 and (np.diff(share) > 0).all() for share in shares)
    if len(work) >= ranks:
        assert all(len(share) for share in shares)


@given(works, st.integers(1, 9))
def test_the_same_work_gives_the_same_shares(work, ranks):
    for one, other in zip(exchange(work, ranks), exchange(work.copy(), ranks), strict=True):
        assert one.tolist() == other.tolist()


@given(works, st.integers(2, 9))
def test_no_share_outweighs_the_others_by_more_than_its_lightest_sample(work, ranks):
    shares = exchange(work, ranks)
    sums = np.array([work[share].sum() for share in shares])
    heavy = int(sums.argmax())
    if len(shares[heavy]) > 1:  # else giving its only sample away gains nothing
        gain = min(work[shares[heavy]].min(), sums[heavy] - sums.min() - work[shares[heavy]].min())
        assert gain <= 1.001e-3 * sums.mean()


@pytest.mark.parametrize("ranks", [2, 4, 8])
@pytest.mark.parametrize("longest", [256, 512])
def test_work_on_abstracts_is_balanced_to_three_percent(longest, ranks):
    for seed in range(20):
        lengths = abstract_lengths(2048 * ranks, longest, seed)
        work = 1.0 * lengths + lengths**2 / 2048
        shares = exchange(work, ranks)
        assert imbalance(work, shares) <= 1.03
        assert imbalance(lengths, shares) <= 1.06  # tokens go with the work, if not quite
        dealt = np.array_split(np.arange(len(lengths)), ranks)
        assert imbalance(work, shares) < imbalance(work, dealt)


def test_attention_counts():
    """One long sample is worth more than the short ones that hold as many tokens."""
    lengths = np.array([512, *[64] * 16])
    assert sorted(map(len, exchange(lengths, 2))) == [5, 12]  # 768 tokens each
    assert sorted(map(len, exchange(lengths + lengths**2 / 512, 2))) == [2, 15]


def test_one_share_is_the_step_in_its_order():
    assert exchange(np.array([3.0, 1.0, 2.0]), 1)[0].tolist() == [0, 1, 2]
