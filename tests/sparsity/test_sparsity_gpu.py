"""The GPU's products against the float64 masked reference, and Triton's blocks in its interpreter."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from wellread.sparsity.patterns import mask
from wellread.sparsity.product import product, reference
from wellread.sparsity.structure import Structure

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="triton is not installed (it comes with torch for CUDA)",
)


def leaves(structure, tokens, device, kind=torch.float32):
    torch.manual_seed(0)
    x, bias = torch.randn(tokens, structure.shape[1]), torch.randn(structure.shape[0])
    values = structure.pack(torch.randn(structure.shape))
    return [one.to(device, kind).requires_grad_() for one in (x, values, bias)]


def differences(found, expected):
    """The largest difference of each result, over the largest number in it."""
    return [
        float((a.double().cpu() - b.double().cpu()).abs().max() / b.abs().max().clamp(min=1e-9).cpu())
        for a, b in zip(found, expected, strict=True)
    ]


def results(function, given, structure):
    y = function(*given, structure)
    dy = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view_as(y).to(y.device, y.dtype)
    return [y.detach(), *torch.autograd.grad(y, given, dy)]


@needs_gpu
@pytest.mark.parametrize("block", [16, 32, 64, 128])
@pytest.mark.parametrize(("shape", "tokens"), [((256, 384), 300), ((200, 130), 65), ((128, 128), 1)])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_blocks_on_the_gpu(block, shape, tokens, kind):
    structure = Structure.of(mask(shape, 0.75, f"block{block}", 0, "x"), block)
    given = leaves(structure, tokens, "cuda", kind)
    wide = [one.detach().cpu().double().requires_grad_() for one in given]
    found, expected = results(product, given, structure), results(reference, wide, structure)
    assert max(differences(found, expected)) < (1e-5 if kind == torch.float32 else 2e-2)


@needs_gpu
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_two_of_four_on_the_gpu(kind):
    structure = Structure.of(mask((256, 512), 0.5, "2:4", 0, "x"))
    given = leaves(structure, 192, "cuda", kind)
    wide = [one.detach().cpu().double().requires_grad_() for one in given]
    found, expected = results(product, given, structure), results(reference, wide, structure)
    assert max(differences(found, expected)) < 2e-2


@needs_gpu
@pytest.mark.parametrize("pattern", ["block64", "2:4"])
def test_autocast_on_the_gpu(pattern):
    block = 64 if pattern == "block64" else 1
    structure = Structure.of(mask((256, 256), 0.5, pattern, 0, "x"), block)
    given = leaves(structure, 128, "cuda")
    with torch.autocast("cuda", dtype=torch.bfloat16):
        found = results(product, given, structure)
        expected = results(reference, given, structure)
    assert [one.dtype for one in found] == [one.dtype for one in expected]
    assert max(differences(found, expected)) < 2e-2


INTERPRETED = """
import sys
sys.path.insert(0, {folder!r})
from test_sparsity_gpu import Structure, differences, leaves, mask, reference, results
from wellread.sparsity.kernels import gpu
cases = [(16, (48, 64), 70, 0.5), (32, (100, 40), 5, 0.0), (64, (128, 130), 65, 0.6)]
for block, shape, tokens, level in cases:
    structure = Structure.of(mask(shape, level, f"block{{block}}", 0, "x"), block)
    given = leaves(structure, tokens, "cpu")
    found = results(lambda x, v, b, s: gpu.product(x, v, s) + b, given, structure)
    expected = results(reference, [one.detach().double().requires_grad_() for one in given], structure)
    print(*differences(found, expected))
"""


@needs_triton
def test_blocks_in_tritons_interpreter():
    code = INTERPRETED.format(folder=str(Path(__file__).parent))
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = [float(number) for number in done.stdout.split()]
    assert len(found) == 12
    assert max(found) < 1e-5
