"""Quantised folders: their size, what comes back, and that nothing loads them by mistake."""

import json

import pytest
import torch
import toy
from transformers import AutoModelForSequenceClassification

from wellread import files
from wellread.compress.quantise import packed, qat
from wellread.compress.quantise.quantise import quantise, quantise_weights
from wellread.compress.quantise.settings import QuantiseSettings
from wellread.compress.subject import logits, open_subject
from wellread.errors import ArtefactError
from wellread.models import build, heads
from wellread.serve.export import export
from wellread.serve.lines import predict_file
from wellread.serve.predict import Predictor

SETTINGS = {
    "8": {},
    "3-symmetric": {"bits": 3, "symmetric": True, "embedding_bits": 5, "groups": "head"},
    "mixed": {"layer_bits": (2, 7), "groups": 6, "activation_bits": 8},
    "nf4-double": {"method": "nf4", "double": True},
    "fp4": {"method": "fp4", "block": 32, "embedding_bits": 32},
    "int8": {"method": "int8"},
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return toy.make_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.mark.parametrize(
    ("name", "layout"),
    [*((name, "modernbert") for name in SETTINGS), ("mixed", "bert"), ("nf4-double", "gpt2"), ("8", "gpt2")],
)
def test_predictions_come_back_to_the_bit(fine_tuned, tmp_path, name, layout):
    folder, task, settings, _ = fine_tuned("classify", layout)
    subject = open_subject(folder, task, settings)
    quantised = quantise(subject, QuantiseSettings(**SETTINGS[name]))
    size = packed.save(quantised, subject.tokenizer, tmp_path / "q")
    assert (tmp_path / "q" / packed.WEIGHTS).stat().st_size == size["total"]
    model = packed.load(tmp_path / "q", "classify")
    assert (logits(model, subject) == logits(quantised.model, subject)).all()
    with pytest.raises(OSError, match="no file named"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path / "q")
    with pytest.raises(ArtefactError):
        build.load(tmp_path / "q", "classify")


@pytest.mark.parametrize(
    ("changes", "bits"), [({"bits": 2}, 2), ({"bits": 5, "groups": "matrix"}, 5), ({"method": "nf4"}, 4.5)]
)
def test_size_is_that_of_the_bits(tokenizer, tmp_path, changes, bits):
    """The number of bits times the number of weights, scales and what is left in float32 make up the file."""
    shape = toy.model("llama", layers=4, hidden=192, heads=4, ffn=512)
    model = heads.task_model(shape, tokenizer, "classify", ("a", "b"), 0.0, 0)
    inside = sum(w.numel() for n, w in model.named_parameters() if ".layers." in n and w.ndim == 2)
    rest = sum(w.numel() for n, w in model.named_parameters() if w.ndim != 2 or n == "score.weight")
    words = model.get_input_embeddings().weight.numel()
    quantised = quantise_weights(model, QuantiseSettings(**changes))
    size = packed.save(quantised, tokenizer, tmp_path)
    groups = 0  # bytes: a float32 step and a zero point of a byte each
    for each in quantised.codes.values():
        if each.scheme.kind == "uniform":
            groups += 5 * (1 if changes.get("groups") == "matrix" else min(128, each.codes.shape[0]))
    expected = inside * bits / 8 + words + 4 * rest + groups
    on_disk = (tmp_path / packed.WEIGHTS).read_bytes()
    names = 8 + int.from_bytes(on_disk[:8], "little")
    assert len(on_disk) == expected + names == size["total"]
    assert size["names"] == names and names < 0.03 * len(on_disk)


@pytest.mark.parametrize(
    ("kind", "layout"), [("tag", "bert"), ("regress", "modernbert"), ("multilabel", "modernbert")]
)
def test_a_trained_folder_predicts_from_the_command_line(fine_tuned, tmp_path, kind, layout):
    folder, task, _, _ = fine_tuned(kind, layout)
    subject = open_subject(folder, task, toy.settings(epochs=1, min_steps=5))
    quantised = qat.quantise_aware(subject, QuantiseSettings(bits=4, activation_bits=8), 0)
    with files.new_folder(tmp_path / "q") as partial:
        packed.save(quantised, subject.tokenizer, partial)
    predictor = Predictor.load(tmp_path / "q")
    assert predictor.kind == kind
    assert (logits(predictor.model, subject) == logits(quantised.model, subject)).all()
    (tmp_path / "in.txt").write_text("patients with aspirin\n" * 3, "utf-8")
    assert predict_file(tmp_path / "q", str(tmp_path / "in.txt"), tmp_path / "out.jsonl") == 3
    assert len((tmp_path / "out.jsonl").read_text("utf-8").splitlines()) == 3


def test_a_decoder_comes_back_with_its_tie(tokenizer, tmp_path):
    model = build.build(toy.model("gpt2"), tokenizer, "clm", 0)
    quantised = quantise_weights(model, QuantiseSettings(method="nf4", embedding_bits=6))
    packed.save(quantised, tokenizer, tmp_path)
    found = packed.load(tmp_path, "clm")
    assert found.lm_head.weight is found.get_input_embeddings().weight
    for name, weight in model.named_parameters():
        assert torch.equal(found.get_parameter(name), weight)


def damage_bit(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def change(path, function):
    facts = json.loads(path.read_text("utf-8"))
    function(facts)
    path.write_text(json.dumps(facts), "utf-8")


DAMAGES = {
    "a bit": lambda f: damage_bit(f / packed.WEIGHTS),
    "no weights": lambda f: (f / packed.WEIGHTS).unlink(),
    "config": lambda f: change(f / "config.json", lambda c: c.update(num_attention_heads=1)),
    "facts": lambda f: change(f / packed.FACTS, lambda c: c["settings"].update(bits=3)),
    "no facts": lambda f: (f / packed.FACTS).unlink(),
    "emptied": lambda f: (f / packed.FACTS).write_text("[]"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_refused(tokenizer, tmp_path, name):
    model = heads.task_model(toy.model(), tokenizer, "classify", ("a", "b"), 0.0, 0)
    packed.save(quantise_weights(model, QuantiseSettings()), tokenizer, tmp_path)
    Predictor.load(tmp_path)
    DAMAGES[name](tmp_path)
    with pytest.raises(ArtefactError):
        Predictor.load(tmp_path)


def test_weights_of_another_shape_are_refused(tokenizer, tmp_path):
    """Where all hashes are right but the parts do not belong together."""
    model = heads.task_model(toy.model(), tokenizer, "classify", ("a", "b"), 0.0, 0)
    packed.save(quantise_weights(model, QuantiseSettings()), tokenizer, tmp_path)
    facts = json.loads((tmp_path / packed.FACTS).read_text("utf-8"))
    del facts["self"]
    next(iter(facts["weights"].values()))["bits"] = 4
    facts["self"] = files.sha256_bytes(files.canonical_json(facts))
    (tmp_path / packed.FACTS).write_text(json.dumps(facts), "utf-8")
    with pytest.raises(ArtefactError, match="do not fit"):
        packed.load(tmp_path, "classify")


def test_export_says_that_it_cannot(tokenizer, tmp_path):
    model = heads.task_model(toy.model(), tokenizer, "classify", ("a", "b"), 0.0, 0)
    packed.save(quantise_weights(model, QuantiseSettings()), tokenizer, tmp_path / "q")
    with pytest.raises(ArtefactError, match="quantised"):
        export(tmp_path / "q", tmp_path / "out")
