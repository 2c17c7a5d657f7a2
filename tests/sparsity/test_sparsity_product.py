"""The kernels against the float64 masked reference: values and gradients, every pattern, awkward shapes."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wellread.sparsity.kernels import build
from wellread.sparsity.product import product, reference
from wellread.sparsity.structure import Structure

BLOCKS = (1, 4, 8, 16, 32, 64, 128)
EPSILON = torch.finfo(torch.float32).eps
needs_kernels = pytest.mark.skipif(build.load() is None, reason="no C++ compiler, so no kernels")
pytestmark = needs_kernels


def mask(outputs: int, inputs: int, block: int, level: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.rand(-(-outputs // block), -(-inputs // block), generator=generator) >= level
    return blocks.repeat_interleave(block, 0).repeat_interleave(block, 1)[:outputs, :inputs]


def compare(x: torch.Tensor, live: torch.Tensor, block: int, bias: bool = True, seed: int = 0) -> None:
    """Check the result and all gradients against float64, within the rounding of the sums.

    A sum of n products, in whatever order, is off by at most n eps times the sum of their absolute values;
    twice that leaves room for the rounding of the products.
    """
    torch.manual_seed(seed)
    outputs, inputs = live.shape
    structure = Structure.of(live, block)
    weight = torch.randn(outputs, inputs) * live
    leaves = [x.detach(), structure.pack(weight), torch.randn(outputs)]
    for leaf in leaves:
        leaf.requires_grad_()
    offset = leaves[2] if bias else None
    dy = torch.randn(*x.shape[:-1], outputs)
    y = product(leaves[0], leaves[1], offset, structure)
    found = torch.autograd.grad(y, leaves if bias else leaves[:2], dy, allow_unused=True)

    wide, w, e = x.detach().double().reshape(-1, inputs), weight.double(), dy.double().reshape(-1, outputs)
    exact = {
        "y": (y.reshape(-1, outputs), wide, w.T, offset.detach().double() if bias else 0.0, inputs + 1),
        "dx": (found[0].reshape(-1, inputs), e, w, 0.0, outputs),
    }
    for name, (result, left, right, plus, terms) in exact.items():
        error = (result.double() - (left @ right + plus)).abs()
        bound = (
            2 * terms * EPSILON * (left.abs() @ right.abs() + (plus.abs() if bias and name == "y" else 0.0))
        )
        assert (error <= bound + 1e-37).all(), name
    tokens = max(1, len(wide))
    expected, size = structure.pack(e.T @ wide), structure.pack(e.abs().T @ wide.abs())
    assert ((found[1].double() - expected).abs() <= 2 * tokens * EPSILON * size + 1e-37).all(), "dvalues"
    if bias:
        bound = 2 * tokens * EPSILON * e.abs().sum(0)
        assert ((found[2].double() - e.sum(0)).abs() <= bound + 1e-37).all(), "dbias"


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("level", [0.0, 0.5, 0.75, 0.95])
def test_every_pattern_and_level(block, level, threads):
    compare(torch.randn(130, 160), mask(96, 160, block, level), block)


@pytest.mark.parametrize("block", BLOCKS)
@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 120),
    st.integers(1, 200),
    st.integers(1, 200),
    st.floats(0, 1),
    st.booleans(),
    st.integers(0, 99),
)
def test_odd_shapes_empty_rows_and_no_bias(block, tokens, inputs, outputs, level, bias, seed):
    compare(torch.randn(tokens, inputs), mask(outputs, inputs, block, level, seed), block, bias, seed)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("tokens", [1, 95, 96, 97, 1000, 8192])
def test_numbers_of_tokens(block, tokens, threads):
    compare(torch.randn(tokens, 64), mask(64, 64, block, 0.75), block)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("inputs", [1500, 2100])
def test_rows_too_long_for_the_first_level_cache(block, inputs):
    """The sums of such rows are made in several parts."""
    compare(torch.randn(101, inputs), mask(70, inputs, block, 0.1), block)


@pytest.mark.parametrize("block", BLOCKS)
def test_many_outputs(block):
    compare(torch.randn(50, 40), mask(700, 40, block, 0.5), block)


@pytest.mark.parametrize("block", BLOCKS)
def test_strided_inputs_and_gradients(block):
    live = mask(48, 64, block, 0.5)
    compare(torch.randn(30, 200)[:, 17:81], live, block)
    compare(torch.randn(64, 30).T, live, block)
    compare(torch.randn(60, 64)[::2], live, block)
    compare(torch.randn(2, 3, 5, 64), live, block)
    compare(torch.randn(64).expand(7, 64), live, block)
    structure = Structure.of(live, block)
    x, values = torch.randn(30, 64, requires_grad=True), structure.pack(torch.randn(48, 64)).requires_grad_()
    one = torch.autograd.grad(product(x, values, None, structure).sum(), (x, values))
    every = torch.autograd.grad(product(x, values, None, structure), (x, values), torch.ones(30, 48))
    assert all(torch.equal(a, b) for a, b in zip(one, every, strict=True))


@pytest.mark.parametrize("block", BLOCKS)
def test_no_tokens_and_no_living_weight(block):
    compare(torch.randn(0, 40), mask(40, 40, block, 0.5), block)
    compare(torch.randn(9, 40), torch.zeros(40, 40, dtype=torch.bool), block)


@pytest.mark.parametrize("block", BLOCKS)
def test_whole_numbers_come_out_exactly(block, threads):
    """Sums of small whole numbers are exact in any order: kernels, reference and dense agree to the bit."""
    live = mask(96, 112, block, 0.6)
    structure = Structure.of(live, block)
    dense = torch.randint(-8, 9, (96, 112)).float() * live
    x, bias = torch.randint(-8, 9, (200, 112)).float().requires_grad_(), torch.arange(96.0)
    values = structure.pack(dense).requires_grad_()
    dy = torch.randint(-8, 9, (200, 96)).float()
    results = []
    for function in (product, reference):
        y = function(x, values, bias, structure)
        results.append((y, *torch.autograd.grad(y, (x, values), dy)))
    for found, expected in zip(*results, strict=True):
        assert torch.equal(found, expected)
    assert torch.equal(results[0][0], x @ dense.T + bias)


@pytest.mark.parametrize("block", BLOCKS)
def test_same_bits_every_time(block, threads):
    live = mask(80, 80, block, 0.5)
    structure = Structure.of(live, block)
    values = structure.pack(torch.randn(80, 80)).requires_grad_()
    x, dy = torch.randn(500, 80), torch.randn(500, 80)
    runs = [torch.autograd.grad(product(x, values, None, structure), values, dy)[0] for _ in range(5)]
    assert all(torch.equal(runs[0], run) for run in runs)


@pytest.mark.parametrize("block", BLOCKS)
def test_only_what_is_asked_for_is_differentiated(block):
    structure = Structure.of(mask(32, 32, block, 0.5), block)
    x, values = torch.randn(5, 32), structure.pack(torch.randn(32, 32))
    for wanted in (x, values):
        for leaf in (x, values):
            leaf.requires_grad_(leaf is wanted)
        y = product(x, values, None, structure)
        (found,) = torch.autograd.grad(y, wanted, torch.ones_like(y))
        (expected,) = torch.autograd.grad(reference(x, values, None, structure), wanted, torch.ones_like(y))
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("block", BLOCKS)
def test_infinities_and_nans_stay_in_their_token(block):
    structure = Structure.of(mask(32, 48, block, 0.5), block)
    values = structure.pack(torch.randn(32, 48))
    x = torch.randn(40, 48)
    clean = product(x, values, None, structure)
    x[7], x[9] = float("inf"), float("nan")
    dirty = product(x, values, None, structure)
    others = [n for n in range(40) if n not in (7, 9)]
    assert torch.equal(dirty[others], clean[others])
    assert dirty[9].isnan()[structure.live().any(1)].all()


@pytest.mark.parametrize("block", BLOCKS)
def test_other_types_take_the_reference(block):
    structure = Structure.of(mask(16, 16, block, 0.5), block)
    values = structure.pack(torch.randn(16, 16, dtype=torch.float64)).requires_grad_()
    x = torch.randn(3, 16, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(16, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *leaves: product(*leaves, structure), (x, values, bias))


def test_the_order_of_threads_changes_little():
    """One thread and two add the gradients of the weights in another order, and nothing else differs."""
    structure = Structure.of(mask(64, 64, 16, 0.5), 16)
    values, x, dy = (
        structure.pack(torch.randn(64, 64)).requires_grad_(),
        torch.randn(999, 64),
        torch.randn(999, 64),
    )
    results = []
    for count in (1, 2):
        torch.set_num_threads(count)
        y = product(x, values, None, structure)
        results.append((y, torch.autograd.grad(y, values, dy)[0]))
    torch.set_num_threads(1)
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-4)


def test_denormals_survive_loading():
    """A library built with -ffast-math would set the processor to flush them to zero."""
    code = (
        "import torch; from wellread.sparsity.kernels import build; assert build.load();"
        "tiny = torch.tensor(1e-40); assert float(tiny * 0.5) > 0, 'flushed'; assert float(1e-310) * 0.5 > 0"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the flags are those of x86-64")
@pytest.mark.parametrize("name", build.INSTRUCTIONS)
def test_every_instruction_set_compiles_and_those_of_this_machine_are_right(name, monkeypatch):
    order = ["portable", "AVX2", "AVX512"]
    path = build.compiled(name)
    assert path.exists()
    if order.index(name) > order.index(build.instructions()):
        pytest.skip(f"this machine has no {name}")
    library = ctypes.CDLL(str(path))
    assert library.wellread_lanes() == {"portable": 4, "AVX2": 8, "AVX512": 16}[name]
    monkeypatch.setattr(build, "load", lambda: library)
    for block in BLOCKS:
        compare(torch.randn(130, 163), mask(99, 163, block, 0.7), block)
