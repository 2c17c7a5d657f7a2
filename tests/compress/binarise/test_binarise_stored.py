"""Binary models end to end: trained, kept, loaded, predicted with; and refused where they must be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from wellread.compress.binarise import bibert, dual, stored
from wellread.compress.subject import load_model, logits, open_subject, scores
from wellread.errors import ArtefactError
from wellread.models import build, packed
from wellread.serve.predict import Predictor
from wellread.settings import ModelSettings


def subject_of(fine_tuned, kind, layout, **changes):
    folder, task, settings, _ = fine_tuned(kind, layout)
    return open_subject(folder, task, settings.model_copy(update={"min_steps": 30, "epochs": 1, **changes}))


@pytest.mark.parametrize(
    "kind, layout, elastic",
    [("classify", "bert", True), ("classify", "modernbert", False), ("tag", "modernbert", True)],
)
def test_kept_and_loaded_predicts_the_same(fine_tuned, tmp_path, kind, layout, elastic):
    subject = subject_of(fine_tuned, kind, layout)
    before = {path.name: path.read_bytes() for path in subject.folder.iterdir()}
    result = bibert.binarise(subject, 0, elastic=elastic)
    trained = logits(result.model, subject)
    assert result.model.config._attn_implementation == "wellread_binary"
    assert scores(result.model, subject) == pytest.approx(result.dev)
    stored.save(result.model, subject.tokenizer, tmp_path / "binary")
    np.testing.assert_array_equal(logits(result.model, subject), trained)
    predictor = Predictor.load(tmp_path / "binary")
    np.testing.assert_array_equal(logits(predictor.model, subject), trained)
    assert len(list(predictor.predict(["patients treated with aspirin"]))) == 1
    assert before == {path.name: path.read_bytes() for path in subject.folder.iterdir()}


def test_a_regression_stays_in_its_units(fine_tuned):
    subject = subject_of(fine_tuned, "regress", "bert")
    found = logits(bibert.binarise(subject, 0).model, subject)
    assert 30 < found.mean() < 60


@pytest.mark.parametrize("layout", ["modernbert", "llama", "gpt2"])
def test_two_bits_kept_and_loaded(fine_tuned, tmp_path, layout):
    subject = subject_of(fine_tuned, "classify", layout)
    result = dual.binarise(subject, 0, group=16)
    trained = logits(result.model, subject)
    stored.save(result.model, subject.tokenizer, tmp_path / "dual")
    loaded = Predictor.load(tmp_path / "dual").model
    # The table of words is rounded to half precision when it is kept.
    np.testing.assert_allclose(logits(loaded, subject), trained, atol=2e-2)
    weight = next(module for module in loaded.modules() if isinstance(module, torch.nn.Embedding)).weight
    assert torch.equal(weight, weight.half().float())


def test_two_bits_without_training_are_near(fine_tuned):
    subject = subject_of(fine_tuned, "classify", "bert")
    model = dual.equip(load_model(subject), 8, only_scales=True)
    names = {name.rsplit(".", 1)[1] for name, weight in model.named_parameters() if weight.requires_grad}
    assert names == {"first", "second"}
    real, found = logits(load_model(subject), subject), logits(model, subject)
    assert np.corrcoef(real.ravel(), found.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("method", ["binary", "dual"])
def test_reported_size_is_that_of_the_file(fine_tuned, tmp_path, method):
    tokenizer = subject_of(fine_tuned, "classify", "bert").tokenizer
    shape = ModelSettings(layout="modernbert", layers=3, hidden=256, heads=4, max_length=128)
    config = build.build_config(shape, tokenizer)
    config.vocab_size = 4096
    model = build.MODELS["classify"].from_config(config)
    packed.enable(model)
    model = bibert.equip(model, elastic=True) if method == "binary" else dual.equip(model, 64)
    counted = stored.save(model, tokenizer, tmp_path)
    size = (tmp_path / stored.WEIGHTS).stat().st_size
    assert abs(counted - size) < 0.02 * size


def test_equal_models_give_equal_bytes(fine_tuned, tmp_path):
    subject = subject_of(fine_tuned, "classify", "bert", min_steps=3, max_steps=3)
    for name in ("a", "b"):
        stored.save(bibert.binarise(subject, 0).model, subject.tokenizer, tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_others_refuse_the_folder(fine_tuned, tmp_path):
    subject = subject_of(fine_tuned, "classify", "bert")
    model = bibert.equip(load_model(subject), elastic=True)
    stored.save(model, subject.tokenizer, tmp_path)
    with pytest.raises(OSError):
        AutoModelForSequenceClassification.from_pretrained(tmp_path, local_files_only=True)
    with pytest.raises(ArtefactError):
        build.load(tmp_path, "classify")
    (tmp_path / "binary.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(ArtefactError, match="packed weights"):
        stored.load(tmp_path, "classify")


@pytest.mark.parametrize("layout", ["llama", "gpt2"])
def test_decoders_cannot_be_binary(fine_tuned, layout):
    subject = subject_of(fine_tuned, "classify", layout)
    with pytest.raises(ArtefactError, match=layout):
        bibert.equip(load_model(subject), elastic=True)


def test_fit_spreads_every_activation(fine_tuned):
    """After the first pass each layer's signs are mixed, not all the same."""
    subject = subject_of(fine_tuned, "classify", "modernbert")
    model = bibert.equip(load_model(subject), elastic=True)
    from wellread.finetune import batches

    batch = batches.select(subject.data.splits["train"].encoded, np.arange(20))[0]
    bibert.fit(model, batch)
    steps = [layer.step.item() for layer in model.modules() if hasattr(layer, "step")]
    assert len(steps) == 2 * 4 + 1 and all(step > 1e-3 for step in steps)
