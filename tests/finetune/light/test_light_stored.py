"""Model folders: heads and additions survive, nothing loads a folder of two parts as if it were whole."""

import json

import pytest
import torch
import toy
from equipped import logits, made, randomise
from transformers import AutoModelForSequenceClassification

from wellread import files
from wellread.errors import ArtefactError
from wellread.finetune import grid
from wellread.finetune.light import methods, stored
from wellread.models import build
from wellread.serve.export import export
from wellread.serve.predict import Predictor
from wellread.settings import LightSettings
from wellread.tasks.read import write_task

APART = sorted(set(methods.METHODS) - {"lora", "bitfit"})


@pytest.mark.parametrize("method", APART)
@pytest.mark.parametrize("layout", toy.LAYOUTS)
def test_the_logits_survive(method, layout, tokenizer, tmp_path):
    model = randomise(made(method, layout, tokenizer))
    with torch.no_grad():
        torch.nn.init.normal_(next(m for n, m in model.named_parameters() if n.startswith(methods.HEADS)))
    before = logits(model)
    stored.save(model, tokenizer, tmp_path, LightSettings(method=method))
    assert torch.equal(logits(model), before)  # saving left the model alone
    loaded = stored.load(tmp_path, "classify").eval()
    assert torch.equal(logits(loaded), before)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"config.json", "light.json", "light.safetensors", "base", "tokenizer.json"} <= names
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in names)


@pytest.mark.parametrize("method", ["lora", "bitfit", "prompt", "tiny-attention"])
def test_from_the_grid_to_predictions(method, tokenizer_folder, tokenizer, tmp_path):
    build.save(build.build(toy.model(), tokenizer, "mlm", 3), tokenizer, tmp_path / "start")
    task = toy.task("classify", 30, 12)
    write_task(task, tmp_path / "task")
    settings = toy.settings(
        seeds=(0,), light={"method": method}, max_steps=6, min_steps=6, evaluations=1, learning_rate=1e-2
    )
    grid.run(
        grid.Job(
            tmp_path / "task",
            tmp_path / "start",
            tokenizer_folder,
            settings,
            ("all",),
            tmp_path / "out",
            task_name="t",
            model_name="m",
            start_name="pretrained",
        ),
        quiet=True,
    )
    facts = files.read_json(tmp_path / "out" / "units" / "pretrained-all-0" / "result.json")
    assert facts["method"] == method
    assert facts["training_bytes"] == 12 * facts["trainable_parameters"] < 12 * facts["parameters"]
    folder = tmp_path / "out" / "model"
    predictor = Predictor.load(folder)
    assert predictor.max_length == (54 if method == "prompt" else 64)
    found = list(predictor.predict(example.text for example in task.splits["test"]))
    with open(tmp_path / "out" / "units" / "pretrained-all-0" / "test_scores.npy", "rb") as stream:
        import numpy as np

        scores = np.load(stream, allow_pickle=False)
    given = np.array([list(row["probabilities"].values()) for row in found])
    assert np.allclose(given, scores, atol=1e-6)
    if method in APART:
        with pytest.raises(ArtefactError, match="cannot hold"):
            export(folder, tmp_path / "exported")
        with pytest.raises(OSError, match="model.safetensors"):
            AutoModelForSequenceClassification.from_pretrained(folder)
    else:
        export(folder, tmp_path / "exported")
        stock = AutoModelForSequenceClassification.from_pretrained(tmp_path / "exported").eval()
        text = task.splits["test"][0].text
        with torch.inference_mode():
            logits_of_stock = stock(**tokenizer(text, return_tensors="pt")).logits
        assert np.allclose(logits_of_stock.softmax(-1).numpy()[0], scores[0], atol=1e-5)


def test_a_random_start_trains_everything(tokenizer_folder, tmp_path):
    write_task(toy.task("classify", 20, 10), tmp_path / "task")
    grid.run(
        grid.Job(
            tmp_path / "task",
            toy.model(),
            tokenizer_folder,
            toy.settings(seeds=(0,), light={"method": "lora"}, max_steps=1, min_steps=1, evaluations=1),
            ("all",),
            tmp_path / "out",
            task_name="t",
            model_name="m",
            start_name="random",
        ),
        quiet=True,
    )
    facts = files.read_json(tmp_path / "out" / "units" / "random-all-0" / "result.json")
    assert facts["method"] == "full"
    assert facts["trainable_parameters"] == facts["parameters"]


def test_parts_that_do_not_belong_together_are_refused(tokenizer, tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        model = made("houlsby", "bert", tokenizer)
        with torch.no_grad():
            model.classifier.weight.add_(seed)
        stored.save(model, tokenizer, tmp_path / name, LightSettings(method="houlsby"))
    other = tmp_path / "b" / "base" / "model.safetensors"
    (tmp_path / "a" / "base" / "model.safetensors").write_bytes(other.read_bytes())
    with pytest.raises(ArtefactError, match="not the one"):
        stored.load(tmp_path / "a", "classify")
    facts = json.loads((tmp_path / "b" / "light.json").read_text())
    facts["settings"]["bottleneck"] = 5
    (tmp_path / "b" / "light.json").write_text(json.dumps(facts))
    with pytest.raises(ArtefactError, match="do not fit"):
        stored.load(tmp_path / "b", "classify")
    facts["settings"]["method"] = "magic"
    (tmp_path / "b" / "light.json").write_text(json.dumps(facts))
    with pytest.raises(ArtefactError, match="do not fit"):
        Predictor.load(tmp_path / "b")
    (tmp_path / "b" / "light.safetensors").write_bytes(b"nothing")
    with pytest.raises(ArtefactError):
        stored.load(tmp_path / "b", "classify")


def test_a_start_cannot_be_a_folder_of_two_parts(tokenizer, tmp_path):
    stored.save(made("prompt", "bert", tokenizer), tokenizer, tmp_path, LightSettings(method="prompt"))
    with pytest.raises(ArtefactError, match="cannot be loaded"):
        build.load(tmp_path, "classify")
