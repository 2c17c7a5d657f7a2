"""The compiled cross-entropy against torch's, in values, gradients and for logits that are no numbers."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from wellread.objectives import cross_entropy
from wellread.sparsity.kernels import build

needs_kernels = pytest.mark.skipif(build.load_elementwise() is None, reason="no C++ compiler, so no kernels")
FUNCTIONS = [cross_entropy.plain, pytest.param(cross_entropy.differentiated, marks=needs_kernels)]


def exact(logits, targets):
    wide = logits.double().requires_grad_()
    loss = F.cross_entropy(wide, targets, reduction="sum")
    return float(loss.detach()), torch.autograd.grad(loss, wide)[0]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("width", [1, 3, 16, 37, 1000])
@pytest.mark.parametrize(("kind", "rounding"), [(torch.float32, 2e-7), (torch.bfloat16, 2**-8)])
def test_loss_and_gradient_are_right(function, width, kind, rounding, threads):
    torch.manual_seed(0)
    logits = (torch.randn(41, width) * 5).to(kind)
    targets = torch.randint(width, (41,))
    expected, wanted = exact(logits, targets)
    loss, gradient = function(logits.clone(), targets)
    assert float(loss) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert gradient.dtype == kind
    # At the target two nearly equal numbers may be subtracted.
    assert ((gradient.double() - wanted).abs() <= rounding * wanted.abs() + 2e-6).all()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_unlikely_targets_have_a_finite_loss_and_gradient(function):
    logits = torch.tensor([[0.0, 200.0, -50.0], [3.0, 1.0, 2.0]])
    targets = torch.tensor([2, 0])
    expected, wanted = exact(logits, targets)
    loss, gradient = function(logits, targets)
    assert float(loss) == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(gradient.double(), wanted, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("flaw", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", [0, 5, 18])
def test_a_flawed_logit_is_not_hidden(function, flaw, place):
    logits = torch.randn(3, 19)
    logits[1, place] = flaw
    assert not torch.isfinite(function(logits, torch.tensor([0, 1, 2]))[0])


def test_nothing_is_no_loss():
    loss, gradient = cross_entropy.differentiated(torch.empty(0, 7), torch.empty(0, dtype=torch.int64))
    assert float(loss) == 0 and gradient.shape == (0, 7)


@needs_kernels
def test_the_memory_of_the_logits_is_used():
    logits = torch.randn(4, 9)
    assert cross_entropy.differentiated(logits, torch.arange(4))[1] is logits


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("width", [1, 19, 512, 1300])
def test_rows_are_added(kind, width, threads):
    matrix, total = torch.randn(33, width).to(kind), torch.randn(width)
    expected = total.double() + matrix.double().sum(0)
    cross_entropy.add_rows(total, matrix)
    torch.testing.assert_close(total.double(), expected, rtol=1e-5, atol=1e-5)
