"""bfloat16 products: where they are taken, and that they change results by rounding only."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch

from wellread import precision
from wellread.models import build, packed
from wellread.objectives import mlm, prediction
from wellread.objectives.clm import predict as next_tokens
from wellread.sparsity.kernels import build as kernels
from wellread.sparsity.linear import SparseLinear
from wellread.sparsity.patterns import mask

sys.path.insert(0, str(Path(__file__).parent / "models"))

import stock  # noqa: E402


@pytest.fixture(params=[True, False])
def fast(request, monkeypatch):
    monkeypatch.setattr(precision, "_fast_processor", lambda: request.param)
    return request.param


def test_auto_takes_what_is_faster(fast):
    with precision.autocast("auto", "cpu"):
        assert torch.is_autocast_enabled("cpu") is fast
    with precision.autocast("bf16", "cpu"):
        assert torch.is_autocast_enabled("cpu")
    with precision.autocast("fp32", "cpu"):
        assert not torch.is_autocast_enabled("cpu")
    assert precision.fast_bfloat16("cpu") is fast
    assert precision.fast_bfloat16("cuda")


def test_only_autocast_narrows():
    x = torch.randn(3)
    assert precision.narrowed(x) is x
    with precision.autocast("bf16", "cpu"):
        assert precision.narrowed(x).dtype == torch.bfloat16
    assert precision.widened(precision.narrowed(x)) is x
    assert precision.widened(x.bfloat16()).dtype == torch.float32
    assert precision.widened(x.double()).dtype == torch.float64


@pytest.mark.parametrize("chunk", [7, 1000])
@pytest.mark.parametrize("layout", ["modernbert", "bert", "llama", "gpt2"])
def test_loss_and_gradients_are_those_of_float32_but_for_rounding(monkeypatch, layout, chunk):
    monkeypatch.setattr(prediction, "_chunk_rows", lambda *_: chunk)
    settings = stock.settings(layout)
    model = build.build(settings, stock.tokenizer(), "clm" if settings.causal else "mlm", 0)
    stock.randomise(model)
    packed.enable(model)
    batch = stock.batch([9, 4, 30])
    asked = next_tokens(batch) if settings.causal else mlm.predict(batch, torch.arange(0, 43, 3), shown=4)

    def results(kind):
        model.zero_grad()
        with precision.autocast(kind, "cpu"):
            loss = prediction.loss(model, asked) / asked.count
        loss.backward()
        gradients = [one.grad.flatten() for one in model.parameters() if one.grad is not None]
        assert {one.dtype for one in gradients} == {torch.float32}
        return float(loss.detach()), torch.cat(gradients)

    (wide, exact), (narrow, rounded) = results("fp32"), results("bf16")
    assert narrow == pytest.approx(wide, rel=0.01)
    assert not torch.equal(exact, rounded)
    assert (rounded - exact).norm() < 0.03 * exact.norm()


@pytest.mark.parametrize("taken", [False, True])
def test_sparse_blocks_are_rounded_where_that_is_faster_and_single_weights_never(taken, monkeypatch):
    """Without a compiler torch's products are rounded, as those of dense layers."""
    monkeypatch.setattr(kernels, "fast_bfloat16", lambda: taken)
    compiled = kernels.load() is not None
    for pattern, halves in (("block16", taken or not compiled), ("unstructured", not compiled)):
        dense = torch.nn.Linear(32, 64)
        layer = SparseLinear.from_linear(dense, mask((64, 32), 0.75, pattern, 0, "layer"), pattern)
        narrow = copy.deepcopy(layer)
        x = torch.randn(40, 32, requires_grad=True)
        y = layer(x)
        y.square().sum().backward()
        with precision.autocast("bf16", "cpu"):
            found = narrow(x)
        found.float().square().sum().backward()
        assert found.dtype == (torch.bfloat16 if halves else torch.float32)
        assert narrow.values.grad.dtype == torch.float32
        exact = {} if halves else {"rtol": 0, "atol": 0}
        torch.testing.assert_close(found.float(), y, **(exact or {"rtol": 0.02, "atol": 0.02}))
        torch.testing.assert_close(
            narrow.values.grad, layer.values.grad, **(exact or {"rtol": 0.05, "atol": 0.2})
        )
