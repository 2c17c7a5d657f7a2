"""The XNOR-popcount kernel against the float product of signs: equal to the bit."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wellread.compress.binarise import signs
from wellread.compress.binarise.product import product, reference
from wellread.sparsity.kernels import build

needs_kernel = pytest.mark.skipif(build.load_binary() is None, reason="no C++ compiler, so no kernel")


def check(tokens: int, inputs: int, outputs: int, *, bias: bool, threshold: bool, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, inputs, generator=generator)
    x[torch.rand(x.shape, generator=generator) < 0.2] = 0.0  # the sign of zero is what differs most often
    positive = torch.rand(outputs, inputs, generator=generator) < 0.5
    packed = signs.pack(positive)
    scale = torch.rand(outputs, generator=generator)
    shift = torch.randn(outputs, generator=generator) if bias else None
    at = torch.randn(inputs, generator=generator).round() if threshold else None
    found = product(x, packed, signs.words(packed), scale, shift, at)
    exact = (
        signs.sign(x.double() - (0 if at is None else at.double())).double()
        @ signs.sign(positive.double() - 0.5).double().T
    )
    expected = exact.float() * scale
    assert torch.equal(found, expected if shift is None else expected + shift)
    assert torch.equal(found, reference(x, packed, scale, shift, at))


@pytest.fixture(params=["portable", "AVX2", "AVX512"])
def instructions(request, monkeypatch):
    """Each instruction set that this machine has; what it has not falls back to the best."""
    library = build.load_binary()
    if library is not None and build.LEVELS[request.param] > library.wellread_binary_best():
        pytest.skip(f"this machine has no {request.param}")
    monkeypatch.setenv("WELLREAD_KERNELS", request.param)


@needs_kernel
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "shape", [(130, 384, 96), (3, 65, 9), (64, 2050, 17), (1, 1, 1), (0, 64, 8), (5, 8, 24)]
)
def test_equal_to_the_float_sign_product(shape, threads, instructions):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        check(*shape, bias=True, threshold=True)
        check(*shape, bias=False, threshold=False, seed=1)
    finally:
        torch.set_num_threads(before)


@needs_kernel
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 70), st.integers(1, 200), st.integers(1, 40), st.booleans(), st.integers(0, 99))
def test_any_shape(tokens, inputs, outputs, bias, seed):
    check(tokens, inputs, outputs, bias=bias, threshold=not bias, seed=seed)


@needs_kernel
def test_counts_beyond_a_byte():
    """All signs differ, over more words than a byte can count."""
    inputs = 64 * 70
    packed = signs.pack(torch.zeros(8, inputs, dtype=torch.bool))
    found = product(torch.ones(4, inputs), packed, signs.words(packed), torch.ones(8), None, None)
    assert (found == -inputs).all()


@needs_kernel
def test_strided_inputs_and_leading_dimensions():
    wide = torch.randn(2, 5, 3, 96, generator=torch.Generator().manual_seed(0))
    packed = signs.pack(torch.rand(10, 64) < 0.5)
    rest = (packed, signs.words(packed), torch.rand(10), None, None)
    x = wide[:, :, 1, 16:80]
    assert torch.equal(product(x, *rest), product(x.contiguous(), *rest))
    turned = wide[0, 0].T.expand(2, 96, 3)
    packed = signs.pack(torch.rand(4, 3) < 0.5)
    rest = (packed, signs.words(packed), torch.rand(4), None, None)
    assert torch.equal(product(turned, *rest), product(turned.contiguous(), *rest))


@needs_kernel
def test_nan_is_negative_as_in_the_reference():
    x = torch.tensor([[float("nan"), 1.0, float("inf"), -float("inf")]])
    packed = signs.pack(torch.ones(1, 4, dtype=torch.bool))
    rest = (torch.ones(1), None, None)
    assert product(x, packed, signs.words(packed), *rest).item() == 0.0
    assert reference(x, packed, *rest).item() == 0.0


@pytest.mark.skipif(platform.machine() != "x86_64", reason="looks at x86-64's control register")
@needs_kernel
def test_loading_leaves_denormals_alone():
    code = (
        "from wellread.sparsity.kernels import build; assert build.load_binary() is not None;"
        "import torch; assert float(torch.tensor(1e-40) * 1.0) > 0"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ.copy())


def test_without_kernels_the_reference_answers(monkeypatch):
    build.load_binary.cache_clear()
    monkeypatch.setenv("WELLREAD_KERNELS", "off")
    try:
        assert build.load_binary() is None
        check(5, 70, 9, bias=True, threshold=True)
    finally:
        build.load_binary.cache_clear()
