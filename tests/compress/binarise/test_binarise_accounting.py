"""The ratios that BiBERT prints for BERT-base: 418 MB / 13.4 MB = 31.2x, 22.5 / 0.4 GFLOPs = 56.3x."""

from __future__ import annotations

import pytest

from wellread.compress.binarise.accounting import bert, modernbert_flops
from wellread.settings import ModelSettings

BASE = ModelSettings(layout="bert", layers=12, hidden=768, heads=12, ffn=3072, max_length=512)
MIB = 1 << 20


def test_as_the_paper_counts():
    count = bert(BASE, 30522, 128, positions=False, scales=False)
    assert count.real_bytes / MIB == pytest.approx(418, rel=0.002)
    assert count.binary_bytes / MIB == pytest.approx(13.4, rel=0.005)
    assert count.real_bytes / count.binary_bytes == pytest.approx(31.2, rel=0.01)
    assert count.real_flops == pytest.approx(22.5e9, rel=0.01)
    assert count.binary_flops == pytest.approx(0.4e9, rel=0.01)
    assert count.real_flops / count.binary_flops == pytest.approx(56.3, rel=0.01)


def test_with_all_that_a_file_holds_the_ratio_is_smaller():
    count = bert(BASE, 30522, 128)
    assert 25 < count.real_bytes / count.binary_bytes < 28


def test_modernbert_agrees_with_bert_where_both_have_the_same_products():
    # Attention everywhere global, and a gated block of two thirds the width, which has as many weights.
    shape = {"layers": 12, "hidden": 768, "heads": 12, "max_length": 512, "global_every": 1}
    real, binary = modernbert_flops(ModelSettings(layout="modernbert", ffn=2048, **shape), 128)
    count = bert(BASE, 30522, 128)
    assert real == pytest.approx(count.real_flops, rel=0.01)
    assert 45 < real / binary < 64


def test_local_layers_cost_less_on_long_inputs_only():
    shape = {"layers": 4, "hidden": 64, "heads": 1, "ffn": 128, "max_length": 512, "global_every": 2}
    near, far = (ModelSettings(local_attention=window, **shape) for window in (128, 512))
    assert modernbert_flops(near, 128) == modernbert_flops(far, 128)
    saved = 2 * 512 * 2 * 2 * (512 - 128) * 64  # two local layers, scores and sums
    assert modernbert_flops(far, 512)[0] - modernbert_flops(near, 512)[0] == pytest.approx(saved)
