"""An exported folder is a plain transformers folder: it works where Wellread and the network are absent."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import toy

from wellread import files
from wellread.errors import ArtefactError, UserError
from wellread.serve.engines.folder import export_engine
from wellread.serve.export import export
from wellread.serve.predict import Predictor

STOCK = """
import json, socket, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "wellread":
            raise ModuleNotFoundError("wellread is blocked in this test")

def refuse(*given, **named):
    raise OSError("sockets are blocked in this test")

sys.meta_path.insert(0, Blocked())
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
try:
    import wellread
    raise SystemExit("wellread could be imported")
except ModuleNotFoundError:
    pass
import torch
from transformers import (
    AutoModel, AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer, pipeline
)
folder, texts = sys.argv[1], json.loads(sys.argv[2])
found = {}
for kind in ("classify", "multilabel", "regress", "tag"):
    place = f"{folder}/{kind}"
    auto = AutoModelForTokenClassification if kind == "tag" else AutoModelForSequenceClassification
    model, facts = auto.from_pretrained(place, output_loading_info=True)
    assert not any(facts[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), facts
    model.eval()
    tokenizer = AutoTokenizer.from_pretrained(place)
    with torch.inference_mode():
        logits = [model(**tokenizer(text, return_tensors="pt")).logits[0].tolist() for text in texts]
    name = "token-classification" if kind == "tag" else "text-classification"
    found[kind] = {
        "logits": logits,
        "pipeline": [str(row) for row in pipeline(name, model=place, device="cpu")(texts)],
        "labels": model.config.id2label,
        "attention": model.config._attn_implementation,
    }
    AutoModel.from_pretrained(place)
print(json.dumps(found))
"""
TEXTS = [
    "Aspirin extract in patients",
    "brca1 showed the dose",
    "the of in with study results were was treated",
]


def test_exported_models_work_without_wellread_and_network(models, tmp_path):
    import numpy as np

    from wellread.finetune import encode
    from wellread.finetune.classifier import logits_of

    for kind in toy.KINDS:
        export(models / kind / "model", tmp_path / kind)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, "-I", "-c", STOCK, str(tmp_path), json.dumps(TEXTS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    for kind in toy.KINDS:
        predictor = Predictor.load(tmp_path / kind)
        assert tuple(found[kind]["labels"].values()) == predictor.labels
        assert found[kind]["attention"] == "sdpa"
        assert all(found[kind]["pipeline"]) or kind == "tag"
        if kind == "tag":
            encoded = encode.sentences(predictor.tokenizer, [text.split() for text in TEXTS], 64)
            packed = logits_of(predictor.model, kind, encoded)
            stock = np.concatenate([np.array(rows)[1:-1] for rows in found[kind]["logits"]])
            firsts = np.concatenate(
                [
                    encoded.word_positions[a:b] - 1 + before
                    for a, b, before in zip(
                        encoded.word_offsets[:-1],
                        encoded.word_offsets[1:],
                        np.concatenate([[0], np.cumsum(encoded.lengths - 2)]),
                        strict=False,
                    )
                ]
            )
            assert np.allclose(packed, stock[firsts], atol=1e-5)
        else:
            packed = logits_of(predictor.model, kind, encode.texts(predictor.tokenizer, TEXTS, None, 64))
            scale = max(1.0, np.abs(packed).max())
            assert np.allclose(packed, found[kind]["logits"], atol=1e-5 * scale)


def test_what_is_copied_and_what_stays_behind(models, tmp_path):
    source = tmp_path / "model"
    import shutil

    shutil.copytree(models / "tag/model", source)
    (source / files.MANIFEST).unlink()
    (source / "README.md").write_text("A model card.")
    (source / "notes.txt").write_text("private")
    export(source, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md", "manifest.json"} <= names
    assert "notes.txt" not in names
    assert files.problems(tmp_path / "out") == []
    assert (tmp_path / "out/model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()


def test_a_folder_with_something_in_it_is_replaced_only_by_force(models, tmp_path):
    to = tmp_path / "out"
    to.mkdir()
    export(models / "tag/model", to)  # empty: fine
    (to / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        export(models / "tag/model", to)
    assert (to / "mine.txt").exists()
    export(models / "classify/model", to, force=True)
    assert not (to / "mine.txt").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="something else than an export"):
        export(models / "tag/model", tmp_path / "other", force=True)
    assert Predictor.load(to).kind == "classify"
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="a file stands there"):
        export(models / "tag/model", tmp_path / "file")
    with pytest.raises(UserError, match="own folder"):
        export(to, to, force=True)
    with pytest.raises(UserError, match="own folder"):
        export(to, to / "inner")


def test_damaged_and_unsafe_folders_are_refused_and_nothing_is_left(models, tmp_path):
    import shutil

    source = tmp_path / "model"
    shutil.copytree(models / "tag/model", source)
    path = source / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtefactError, match="damaged"):
        export(source, tmp_path / "out")
    (source / files.MANIFEST).unlink()
    (source / "modeling_x.py").write_text("import os")
    with pytest.raises(ArtefactError):
        export(source, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_an_export_that_is_interrupted_leaves_the_old_folder(models, tmp_path, monkeypatch):
    import shutil

    to = tmp_path / "out"
    export(models / "tag/model", to)

    def fail(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", fail)
    with pytest.raises(UserError, match="No space left"):
        export(models / "classify/model", to, force=True)
    assert Predictor.load(to).kind == "tag"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_half_precision_takes_half_the_bytes_and_reads_back_as_float32(models, tmp_path):
    from safetensors.torch import load_file

    export(models / "classify/model", tmp_path / "half", half=True)
    whole, half = (folder / "model.safetensors" for folder in (models / "classify/model", tmp_path / "half"))
    assert half.stat().st_size < 0.55 * whole.stat().st_size
    for name, tensor in load_file(whole).items():
        assert load_file(half)[name].equal(tensor.half())
    model = Predictor.load(tmp_path / "half").model
    assert {str(weight.dtype) for weight in model.parameters()} == {"torch.float32"}


@pytest.mark.parametrize("name", ["quantised.json", "binary.json", "exits.json", "pruned.safetensors"])
def test_what_only_wellread_reads_is_refused(models, tmp_path, name):
    folder = tmp_path / "model"
    shutil.copytree(models / "classify" / "model", folder)
    (folder / name).write_bytes(b"{}")
    (folder / files.MANIFEST).unlink(missing_ok=True)
    with pytest.raises(ArtefactError, match="only Wellread reads"):
        export(folder, tmp_path / "out")
    with pytest.raises(ArtefactError, match="only Wellread reads"):
        export_engine(folder, tmp_path / "out", "onnx")
    assert not (tmp_path / "out").exists()
