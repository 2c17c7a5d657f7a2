"""Folders of pruned models, dense with zeros and compact."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from wellread.compress.prune import masks, store, wanda
from wellread.compress.prune.settings import WandaSettings
from wellread.compress.subject import logits, open_subject
from wellread.errors import ArtefactError
from wellread.finetune.objective import scores as probabilities
from wellread.models import build
from wellread.serve.predict import Predictor
from wellread.sparsity.linear import SparseLinear, sparse_layers
from wellread.sparsity.patterns import BLOCK


@pytest.fixture(params=[("modernbert", "block8"), ("gpt2", "block16"), ("bert", "unstructured")])
def pruned(request, fine_tuned):
    layout, pattern = request.param
    folder, task, settings, _ = fine_tuned("classify", layout)
    subject = open_subject(folder, task, settings)
    model = wanda.prune(subject, WandaSettings(level=0.5, pattern=pattern, calibration=40), 0)
    return model, subject, pattern


def sizes(folder):
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


@pytest.mark.parametrize("compact", [False, True])
def test_it_predicts_through_sparse_layers(pruned, compact, tmp_path):
    model, subject, pattern = pruned
    store.save(model, subject.tokenizer, tmp_path, method="wanda", pattern=pattern, compact=compact)
    predictor = Predictor.load(tmp_path)
    layers = sparse_layers(predictor.model)
    assert layers.keys() == masks.matrices(model).keys()
    assert {layer.structure.block for layer in layers.values()} == {BLOCK[pattern]}
    examples = subject.task.splits["dev"][:10]
    found = [list(row["probabilities"].values()) for row in predictor.predict(e.text for e in examples)]
    expected = probabilities("classify", logits(model, subject)[:10])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_with_zeros_it_is_a_stock_checkpoint(pruned, tmp_path):
    model, subject, pattern = pruned
    store.save(model, subject.tokenizer, tmp_path, method="wanda", pattern=pattern)
    stock = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert stock.state_dict().keys() == model.state_dict().keys()
    for name, weight in stock.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name])


def test_compact_is_exact_and_smaller(pruned, tmp_path):
    model, subject, pattern = pruned
    dense, compact = tmp_path / "dense", tmp_path / "compact"
    store.save(model, subject.tokenizer, dense, method="wanda", pattern=pattern)
    store.save(model, subject.tokenizer, compact, method="wanda", pattern=pattern, compact=True)
    found = store._unpacked(compact, "classify", BLOCK[pattern]).state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in model.state_dict().items())
    total = sum(matrix.weight.numel() for matrix in masks.matrices(model).values())
    assert sizes(compact) < sizes(dense) - 4 * 0.5 * total * 0.8
    with pytest.raises(OSError, match=r"model\.safetensors"):
        AutoModelForSequenceClassification.from_pretrained(compact)


def test_dense_matrices_stay_dense(fine_tuned, tmp_path):
    folder, *_ = fine_tuned("classify", "modernbert")
    model = build.load(folder, "classify")
    layer = model.model.layers[0].attn.Wqkv
    with torch.no_grad():
        layer.weight[:, :16] = 0
    store.sparse(model, "block16")
    found = [name for name, module in model.named_modules() if isinstance(module, SparseLinear)]
    assert found == ["model.layers.0.attn.Wqkv"]


def test_damage_is_named(pruned, tmp_path):
    model, subject, pattern = pruned
    store.save(model, subject.tokenizer, tmp_path, method="wanda", pattern=pattern, compact=True)
    (tmp_path / store.WEIGHTS).write_bytes(b"no weights")
    with pytest.raises(ArtefactError, match="cannot be read"):
        Predictor.load(tmp_path)
