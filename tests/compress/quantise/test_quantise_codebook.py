"""nf4 and fp4: the published values, ties, published errors, double quantisation."""

import pytest
import torch
from scipy.stats import norm

from wellread.compress.quantise import codebook, uniform


def test_nf4_is_made_of_normal_quantiles():
    import numpy as np

    upper = norm.ppf(np.linspace(0.9677083, 0.5, 9)[:-1])
    lower = -norm.ppf(np.linspace(0.9677083, 0.5, 8)[:-1])
    expected = np.sort(np.concatenate([upper, lower, [0]]))
    assert codebook.values("nf4").numpy() == pytest.approx(expected / expected.max(), abs=1e-6)


def test_published_values():
    nf4 = [-1, -0.6961928010, -0.5250730515, -0.3949174881, -0.2844413817, -0.1847734302, -0.0910500363, 0]
    nf4 += [
        0.0795802996,
        0.1609302014,
        0.2461123019,
        0.3379152417,
        0.4407098293,
        0.5626170039,
        0.7229568362,
        1,
    ]
    assert codebook.values("nf4").tolist() == pytest.approx(nf4, abs=1e-9)
    fp4 = [0, 0.0625 / 12, 8 / 12, 1, 4 / 12, 6 / 12, 2 / 12, 3 / 12]
    assert codebook.values("fp4").tolist() == pytest.approx(fp4 + [-value for value in fp4], rel=1e-6)


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_every_weight_gets_the_nearest_value(kind):
    weights = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    codes, scales = codebook.encode(weights, kind, 64)
    values = codebook.decode(codes, scales, kind, 64)
    assert len(scales) == 16 and len(codes) == 1000
    shares = weights / scales.repeat_interleave(64)[:1000]
    nearest = (shares[:, None] - codebook.values(kind)).abs().amin(1)
    assert torch.allclose((values / scales.repeat_interleave(64)[:1000] - shares).abs(), nearest, atol=1e-6)


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_a_second_time_changes_nothing_and_zero_and_the_largest_are_exact(kind):
    weights = torch.randn(640, generator=torch.Generator().manual_seed(1))
    weights[::7] = 0
    codes, scales = codebook.encode(weights, kind, 64)
    values = codebook.decode(codes, scales, kind, 64)
    again, same = codebook.encode(values, kind, 64)
    assert torch.equal(codes, again) and torch.equal(scales, same)
    assert torch.equal(values[::7], torch.zeros(len(values[::7])))
    largest = weights.view(10, 64).abs().argmax(1) + torch.arange(10) * 64
    assert torch.equal(values[largest], weights[largest])


def test_halfway_goes_down():
    table = codebook.values("nf4")
    middle = (table[11] + table[12]) / 2
    codes, _ = codebook.encode(torch.cat([middle[None], torch.ones(63)]), "nf4", 64)
    assert codes[0] == 11
    fp4 = codebook.values("fp4")  # between 2/12 (code 6) and 3/12 (code 7), on both sides of zero
    middle = (fp4[6] + fp4[7]) / 2
    codes, _ = codebook.encode(torch.cat([middle[None], -middle[None], torch.ones(62)]), "fp4", 64)
    assert codes[:2].tolist() == [6, 14]


def test_errors_on_gaussian_weights_are_the_published_ones():
    weights = torch.randn(64 * 8192, generator=torch.Generator().manual_seed(2))

    def error(kind, block):
        values = codebook.decode(*codebook.encode(weights, kind, block), kind, block)
        return float((values - weights).square().mean())

    for block, expected in ((32, 0.0076), (64, 0.00845), (128, 0.0091), (256, 0.0097)):
        assert error("nf4", block) == pytest.approx(expected, rel=0.02)
    assert error("fp4", 64) == pytest.approx(0.0149, rel=0.02)
    rows, owner = weights.view(-1, 64), torch.arange(8192)
    values = uniform.decode(*uniform.encode(rows, owner, 8192, 4, symmetric=True), owner)
    assert float((values - rows).square().mean()) == pytest.approx(0.0116, rel=0.02)


def test_double_quantisation():
    table = codebook.dynamic_map()
    assert len(table) == 256 and len(table.unique()) == 256
    assert table[0] == pytest.approx(-0.99296875) and table[-1] == 1 and 0 in table.tolist()
    scales = torch.rand(700, generator=torch.Generator().manual_seed(3)) + 2
    codes, tops, mean = codebook.encode_scales(scales)
    assert codes.dtype == torch.uint8 and len(codes) == 700 and len(tops) == 3
    found = codebook.decode_scales(codes, tops, mean)
    assert float((found - scales).abs().max()) <= 0.008 * float(tops.max())  # half of the widest gap
