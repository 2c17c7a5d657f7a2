"""The ratios that BiBERT prints for BERT-base: 418 MB / 13.4 MB = 31.2x, 22.5 / 0.4 GFLOPs = 56.3x."""

from __future__ import annotations

import pytest

from wellread.compress.binarise.accounting import bert
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
