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

from narrow import multiplying, narrow_too
from wellread.sparsity.kernels import build
from wellread.sparsity.product import product, reference
from wellread.sparsity.structure import Structure

BLOCKS = (1, 4, 8, 16, 32, 64, 128)
EPSILON = torch.finfo(torch.float32).eps
HALF_EPSILON = torch.finfo(torch.bfloat16).eps / 2
needs_kernels = pytest.mark.skipif(build.load() is None, reason="no C++ compiler, so no kernels")
pytestmark = needs_kernels


def mask(outputs: int, inputs: int, block: int, level: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.rand(-(-outputs // block), -(-inputs // block), generator=generator) >= level
    return blocks.repeat_interleave(block, 0).repeat_interleave(block, 1)[:outputs, :inputs]


def rounded(x: torch.Tensor, narrow: bool) -> torch.Tensor:
    """Numbers that bfloat16 has, where products are of it."""
    return x.bfloat16().float() if narrow else x


def compare(
    x: torch.Tensor, live: torch.Tensor, block: int, bias: bool = True, seed: int = 0, narrow: bool = False
) -> None:
    """Check the result and all gradients against float64, within the rounding of the sums.

    A sum of n products, in whatever order, is off by at most n eps times the sum of their absolute values;
    twice that leaves room for the rounding of the products.  bfloat16 results are rounded once more.
    """
    torch.manual_seed(seed)
    outputs, inputs = live.shape
    structure = Structure.of(live, block)
    weight = rounded(torch.randn(outputs, inputs), narrow) * live
    # Not by `rounded`: the strides are part of what is tested.
    x = x.detach().copy_(x.bfloat16()) if narrow and 0 not in x.stride() else rounded(x.detach(), narrow)
    leaves = [x, structure.pack(weight), torch.randn(outputs)]
    for leaf in leaves:
        leaf.requires_grad_()
    offset = leaves[2] if bias else None
    dy = rounded(torch.randn(*x.shape[:-1], outputs), narrow)
    with multiplying(narrow):
        y = product(leaves[0], leaves[1], offset, structure)
    halves = narrow and block > 1 and inputs % 2 == outputs % 2 == 0
    assert y.dtype == (torch.bfloat16 if halves else torch.float32)
    found = torch.autograd.grad(y, leaves if bias else leaves[:2], dy.to(y.dtype), allow_unused=True)

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
        once_more = HALF_EPSILON * ((left @ right + plus).abs() + bound) if halves else 0.0
        assert (error <= bound + once_more + 1e-37).all(), name
    tokens = max(1, len(wide))
    expected, size = structure.pack(e.T @ wide), structure.pack(e.abs().T @ wide.abs())
    assert ((found[1].double() - expected).abs() <= 2 * tokens * EPSILON * size + 1e-37).all(), "dvalues"
    if bias:
        bound = 2 * tokens * EPSILON * e.abs().sum(0)
        assert ((found[2].double() - e.sum(0)).abs() <= bound + 1e-37).all(), "dbias"


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("level", [0.0, 0.5, 0.75, 0.95])
@narrow_too
def test_every_pattern_and_level(block, level, threads, narrow):
    compare(torch.randn(130, 160), mask(96, 160, block, level), block, narrow=narrow)


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
@narrow_too
def test_odd_shapes_empty_rows_and_no_bias(block, narrow, tokens, inputs, outputs, level, bias, seed):
    if narrow:  # of odd ones float32 is taken
        inputs, outputs = inputs + inputs % 2, outputs + outputs % 2
    compare(torch.randn(tokens, inputs), mask(outputs, inputs, block, level, seed), block, bias, seed, narrow)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("tokens", [1, 95, 96, 97, 1000, 8192])
@narrow_too
def test_numbers_of_tokens(block, tokens, threads, narrow):
    compare(torch.randn(tokens, 64), mask(64, 64, block, 0.75), block, narrow=narrow)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("inputs", [1500, 2100])
@narrow_too
def test_rows_too_long_for_the_first_level_cache(block, inputs, narrow):
    """The sums of such rows are made in several parts."""
    compare(torch.randn(101, inputs), mask(70, inputs, block, 0.1), block, narrow=narrow)


@pytest.mark.parametrize("block", BLOCKS)
@narrow_too
def test_many_outputs(block, narrow):
    compare(torch.randn(50, 40), mask(700, 40, block, 0.5), block, narrow=narrow)


@pytest.mark.parametrize("block", BLOCKS)
@narrow_too
def test_strided_inputs(block, narrow):
    live = mask(48, 64, block, 0.5)
    for x in (
        torch.randn(30, 200)[:, 17:81],
        torch.randn(30, 201)[:, 17:81],
        torch.randn(64, 30).T,
        torch.randn(60, 64)[::2],
        torch.randn(2, 3, 5, 64),
        torch.randn(64).expand(7, 64),
    ):
        compare(x, live, block, narrow=narrow)


@pytest.mark.parametrize("block", BLOCKS[1:])
def test_rows_of_bfloat16_that_are_no_whole_words(block):
    structure = Structure.of(mask(48, 64, block, 0.5), block)
    values, x = structure.pack(torch.randn(48, 64)), torch.randn(30, 65).bfloat16()
    with multiplying(narrow=True):
        strided, whole = (
            product(rows, values, None, structure) for rows in (x[:, 1:], x[:, 1:].contiguous())
        )
    assert torch.equal(strided, whole)


@pytest.mark.parametrize("block", BLOCKS)
def test_strided_gradients(block):
    structure = Structure.of(mask(48, 64, block, 0.5), block)
    x, values = torch.randn(30, 64, requires_grad=True), structure.pack(torch.randn(48, 64)).requires_grad_()
    one = torch.autograd.grad(product(x, values, None, structure).sum(), (x, values))
    every = torch.autograd.grad(product(x, values, None, structure), (x, values), torch.ones(30, 48))
    assert all(torch.equal(a, b) for a, b in zip(one, every, strict=True))


@pytest.mark.parametrize("block", BLOCKS)
@narrow_too
def test_no_tokens_and_no_living_weight(block, narrow):
    compare(torch.randn(0, 40), mask(40, 40, block, 0.5), block, narrow=narrow)
    compare(torch.randn(9, 40), torch.zeros(40, 40, dtype=torch.bool), block, narrow=narrow)


@pytest.mark.parametrize("block", BLOCKS)
@narrow_too
def test_whole_numbers_come_out_exactly(block, threads, narrow):
    """Sums of small whole numbers are exact in any order: kernels, reference and dense agree to the bit, and
    bfloat16 results are those rounded once."""
    live = mask(96, 112, block, 0.6)
    structure = Structure.of(live, block)
    dense = torch.randint(-8, 9, (96, 112)).float() * live
    x, bias = torch.randint(-8, 9, (200, 112)).float().requires_grad_(), torch.arange(96.0)
    values = structure.pack(dense).requires_grad_()
    dy = torch.randint(-8, 9, (200, 96)).float()
    results = []
    for function, halves in ((product, narrow), (reference, False)):
        with multiplying(halves):
            y = function(x, values, bias, structure)
        results.append((y.float(), *torch.autograd.grad(y, (x, values), dy.to(y.dtype))))
    (y, dx, dvalues), (exact, exact_dx, exact_dvalues) = results
    halves = narrow and block > 1
    assert torch.equal(y, rounded(exact, halves)) and torch.equal(dx, rounded(exact_dx, halves))
    assert torch.equal(dvalues, exact_dvalues) and torch.equal(exact, x @ dense.T + bias)


@pytest.mark.parametrize("block", BLOCKS)
@narrow_too
def test_same_bits_every_time(block, threads, narrow):
    live = mask(80, 80, block, 0.5)
    structure = Structure.of(live, block)
    values = structure.pack(torch.randn(80, 80)).requires_grad_()
    x, dy = torch.randn(500, 80), torch.randn(500, 80)
    runs = []
    for _ in range(5):
        with multiplying(narrow):
            y = product(x, values, None, structure)
        runs.append(torch.autograd.grad(y, values, dy.to(y.dtype))[0])
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
    with multiplying(narrow=True):
        assert torch.equal(product(x, values, bias, structure), reference(x, values, bias, structure))


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
    order = ["portable", "AVX2", "AVX512", "AVX512_BF16"]
    path = build.compiled(name)
    assert path.exists()
    if order.index(name) > order.index(build.instructions()):
        pytest.skip(f"this machine has no {name}")
    library = ctypes.CDLL(str(path))
    assert library.wellread_lanes() == {"portable": 4, "AVX2": 8, "AVX512": 16, "AVX512_BF16": 16}[name]
    assert library.wellread_fast_bf16() == (name == "AVX512_BF16")
    monkeypatch.setattr(build, "load", lambda: library)
    for block in BLOCKS:
        compare(torch.randn(130, 163), mask(99, 163, block, 0.7), block)
        compare(torch.randn(130, 166), mask(98, 166, block, 0.7), block, narrow=True)


def test_a_compiler_that_does_not_know_bfloat16_makes_the_others(monkeypatch):
    made = []

    def old(name, *rest):
        made.append(name)
        if name == "AVX512_BF16":
            raise subprocess.CalledProcessError(1, "c++")
        return compiled("portable", *rest)

    compiled = build.compiled
    monkeypatch.setattr(build, "compiled", old)
    library = build._load("AVX512_BF16", (), build.SOURCE, "")
    assert made == ["AVX512_BF16", "AVX512"] and not library.wellread_fast_bf16()
