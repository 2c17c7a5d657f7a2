"""Counts: published ratios, real parameter numbers, and what a packed batch really costs."""

from __future__ import annotations

import subprocess
import sys

import pytest
import stock
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from wellread.models import build, heads, packed
from wellread.settings import ModelSettings, SparsitySettings
from wellread.sparsity import flops, linear

GPT3_XL = {"layers": 24, "hidden": 2048, "length": 2048, "vocab": 50257}
GPT2_SMALL = {"layers": 12, "hidden": 768, "length": 2048, "vocab": 50257}
MEDISWIFT_302M = {"layers": 24, "hidden": 1024, "length": 2048, "vocab": 42384}


@pytest.mark.parametrize(
    ("shape", "level", "ratio"),
    [
        (GPT3_XL, 0.5, 1.67),
        (GPT3_XL, 0.75, 2.49),
        (GPT2_SMALL, 0.5, 1.36),
        (GPT2_SMALL, 0.75, 1.65),
        (MEDISWIFT_302M, 0.75, 2.03),
    ],
)
def test_published_ratios(shape, level, ratio):
    dense = flops.gpt_training_flops_per_token(**shape, sparsity=0.0)
    assert round(dense / flops.gpt_training_flops_per_token(**shape, sparsity=level), 2) == ratio


def test_gpt_formula_by_hand():
    assert flops.gpt_training_flops_per_token(2, 8, 16, 100, 0.5, ffn=24) == 3 * (
        2 * 0.5 * 2 * (4 * 64 + 2 * 8 * 24) + 4 * 2 * 16 * 8 + 2 * 100 * 8
    )


@pytest.mark.parametrize("layout", stock.LAYOUTS)
@pytest.mark.parametrize("changes", [{}, {"layers": 1}, {"hidden": 48, "ffn": None, "heads": 3, "layers": 4}])
def test_parameters_equal_the_built_model(layout, changes):
    architecture = stock.settings(layout, **changes)
    model = build.build(architecture, stock.tokenizer(), "clm" if architecture.causal else "mlm", 0)
    counted = flops.parameters(architecture, stock.VOCAB)
    assert counted["total"] == sum(p.numel() for p in model.parameters())
    tables = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Embedding))
    assert counted["without_embeddings"] == counted["total"] - tables


@pytest.mark.parametrize("layout", stock.LAYOUTS)
def test_step_equals_what_torch_counts(layout):
    """torch's own counter over the matrix products of one forward pass, attention counted by hand."""
    architecture = stock.settings(layout, max_length=128, local_attention=32)
    model = build.build(architecture, stock.tokenizer(), "clm" if architecture.causal else "mlm", 0)
    batch = stock.batch([128, 40, 7, 33])
    rows = torch.arange(0, batch.tokens, 3)
    packed.enable(model.eval())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        heads.lm_logits(model, packed.hidden_states(model, batch)[rows])
    products = sum(
        count
        for operation, count in counter.get_flop_counts()["Global"].items()
        if "attention" not in str(operation) and "bmm" not in str(operation)
    )
    dense, _ = flops.step_flops(architecture, stock.VOCAB, batch.lengths, len(rows), 0.0)
    local = 2 if layout == "modernbert" else 0
    attention = sum(
        4 * 32 * ((3 - local) * length * length + local * length * min(length, 32))
        for length in batch.lengths
    )
    assert dense == 3 * (products + attention)


@settings(max_examples=50, deadline=None)
@given(
    layout=st.sampled_from(stock.LAYOUTS),
    lengths=st.lists(st.integers(1, 48), min_size=1, max_size=8),
    level=st.floats(0, 0.99),
)
def test_only_the_matrices_get_cheaper(layout, lengths, level):
    architecture = stock.settings(layout)
    dense, sparse = flops.step_flops(architecture, stock.VOCAB, lengths, 3, level)
    saved = 3 * 2 * sum(lengths) * architecture.layers * flops.matrix_weights(architecture) * level
    assert dense - sparse == pytest.approx(saved, rel=1e-9, abs=1e-3)
    one_by_one = [flops.step_flops(architecture, stock.VOCAB, [length], 0, level)[1] for length in lengths]
    together = flops.step_flops(architecture, stock.VOCAB, lengths, 0, level)[1]
    assert together == pytest.approx(sum(one_by_one))


def test_whole_corpus_form_predicts_by_objective():
    encoder, decoder = stock.settings("modernbert"), stock.settings("gpt2")
    lengths = [48, 20, 1]
    dense, accounted = flops.step_flops(encoder, stock.VOCAB, lengths, round(0.3 * 69), 0.75)
    counted = flops.training_flops(encoder, stock.VOCAB, lengths, 0.75, mask_rate=0.3)
    assert counted == {"dense": dense, "accounted": accounted}
    dense, accounted = flops.step_flops(decoder, stock.VOCAB, lengths, 66, 0.5)
    assert flops.training_flops(decoder, stock.VOCAB, lengths, 0.5) == {
        "dense": dense,
        "accounted": accounted,
    }


def test_memory_of_the_fixed_parts():
    architecture = stock.settings("llama")
    total = flops.parameters(architecture, stock.VOCAB)["total"]
    assert flops.memory_bytes(architecture, stock.VOCAB) == {
        "weights": 4 * total,
        "gradients": 4 * total,
        "optimizer": 8 * total,
        "indices": 0,
    }
    matrices = 3 * flops.matrix_weights(architecture)
    assert flops.memory_bytes(architecture, stock.VOCAB, "muon")["optimizer"] == 8 * total - 4 * matrices


@pytest.mark.parametrize("pattern", ["unstructured", "block16"])
def test_memory_of_a_sparse_model_is_what_its_tensors_take(pattern):
    architecture = stock.settings("llama", hidden=64, heads=4, ffn=128)
    sparsity = SparsitySettings(level=0.75, pattern=pattern)
    model = build.build(architecture, stock.tokenizer(), "clm", 0)
    linear.sparsify(model, sparsity, seed=0)
    counted = flops.memory_bytes(architecture, stock.VOCAB, sparsity=sparsity)
    assert counted["weights"] == 4 * sum(parameter.numel() for parameter in model.parameters())
    layers = [module for module in model.modules() if isinstance(module, linear.SparseLinear)]
    columns = sum(layer.structure.columns.numel() for layer in layers)
    assert counted["indices"] == (6 * columns if pattern == "unstructured" else 0)


def test_paper_scale_is_counted_without_building():
    large = ModelSettings(layout="gpt2", layers=24, hidden=1024, heads=16, max_length=2048)
    counted = flops.parameters(large, 42384)
    assert counted["without_embeddings"] == pytest.approx(302e6, rel=0.01)


def test_counting_needs_no_torch():
    code = "import sys, wellread.sparsity.flops; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
