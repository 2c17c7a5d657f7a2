"""Exported graphs predict what torch predicts, and run where Wellread and torch cannot be imported."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import toy

from wellread import cli, files
from wellread.commands import models as models_command
from wellread.errors import ArtefactError, UserError
from wellread.finetune.encode import texts
from wellread.models import build
from wellread.serve.engines import parity
from wellread.serve.engines.agreement import agreement
from wellread.serve.engines.engine import feed, open_engine, padded_batches
from wellread.serve.engines.folder import export_engine
from wellread.serve.engines.formats import check_formats
from wellread.serve.lines import predict_lines
from wellread.serve.predict import Predictor
from wellread.tasks.examples import TOKEN
from wellread.tasks.read import read_task
from wellread.tokens import tokenizer as tokenizers

for name in ("onnx", "onnxscript", "onnxruntime", "openvino", "nncf"):
    pytest.importorskip(name, reason=f"{name} is not installed (the extra deploy)")

TEXTS = ["Aspirin extract in patients.", "", "brca1 extract showed the dose", "µ of kras-2", "cell " * 90]
PAIRS = [[text, "patients with effect"] for text in TEXTS]
INT8 = ("onnx-int8", "openvino-int8")


@pytest.fixture(scope="session")
def exported(models, tmp_path_factory):
    """Two folders: a sequence classifier in 8 bits, a tagger in floating point with its checkpoint."""
    to = tmp_path_factory.mktemp("exported")
    task = read_task(models / "tasks/classify", "classify")
    facts = export_engine(models / "classify/model", to / "classify", INT8, task=task)
    formats = ("--format", "transformers", "--format", "onnx", "--format", "openvino")
    command("export", models / "tag/model", "--to", to / "tag", *formats)
    return to, facts


def command(*arguments):
    """``wellread ARGUMENTS`` in this process; it must succeed."""
    before, sys.argv = sys.argv, ["wellread", *map(str, arguments)]
    try:
        cli.main()
    except SystemExit as end:
        assert not end.code
    finally:
        sys.argv = before


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """A regression on pairs in the BERT layout, whose models are told the texts of a pair apart."""
    from wellread.models import heads

    folder = tmp_path_factory.mktemp("pairs")
    tokenizer = toy.make_tokenizer(folder / "tokenizer")
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    model = heads.task_model(toy.model("bert"), tokenizer, "regress", ("score",), 0.1, 0)
    build.save(model.eval(), tokenizer, folder / "model")
    export_engine(folder / "model", folder / "out", "onnx")
    return folder


def same(ours, expected, close):
    assert ours.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, float):
            assert ours[key] == pytest.approx(value, abs=close)
        elif isinstance(value, dict):
            same(ours[key], value, close)
        elif key == "spans":
            for one, other in zip(ours[key], value, strict=True):
                same(one, other, close)
        else:
            assert ours[key] == value


@pytest.mark.parametrize("engine", ["onnx", "openvino", "torch"])
def test_one_folder_runs_on_every_engine_and_gives_the_same_lines(models, exported, engine):
    expected = list(Predictor.load(models / "tag/model").predict([*TEXTS, ["aspirin", "extract"]]))
    found = Predictor.load(exported[0] / "tag", engine).predict([*TEXTS, ["aspirin", "extract"]])
    for ours, theirs in zip(found, expected, strict=True):
        same(ours, theirs, 1e-5)


def test_the_command_predicts_with_the_engine_that_is_asked_for(exported, tmp_path):
    (tmp_path / "in.txt").write_text("aspirin extract\nbrca1\n")
    lines = []
    for engine in ("onnx", "openvino", "torch"):
        out = tmp_path / f"{engine}.jsonl"
        command(
            *("predict", exported[0] / "tag", "--input", tmp_path / "in.txt", "--out", out),
            *("--engine", engine, "--threads", 1),
        )
        lines.append([json.loads(line) for line in out.read_text().splitlines()])
    for one, *others in zip(*lines, strict=True):
        for other in others:
            same(other, one, 1e-5)
    with pytest.raises(UserError, match="no graph for 'openvino'"):
        open_engine(tmp_path, {"engines": {"onnx": {}}}, "openvino", 1, 1)
    with pytest.raises(UserError, match="there is no engine 'tensorflow'"):
        Predictor.load(exported[0] / "tag", "tensorflow")
    with pytest.raises(UserError, match="without the checkpoint"):
        Predictor.load(exported[0] / "classify", "torch")


def test_pairs_with_segments(pairs):
    expected = [row["score"] for row in Predictor.load(pairs / "model").predict(PAIRS)]
    found = [row["score"] for row in Predictor.load(pairs / "out").predict(PAIRS)]
    assert found == pytest.approx(expected, abs=1e-5)
    assert files.read_json(pairs / "out/engine.json")["inputs"][-1] == "token_type_ids"


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_int8_agrees_with_floating_point(models, exported, engine):
    import io

    folder, facts = exported
    said = facts["engines"][engine]["agreement"]
    assert said["examples"] == 20 and said["agreement"] >= 0.9
    assert said["drop"] == pytest.approx(said["reference_score"] - said["score"])
    lines = list(
        predict_lines(Predictor.load(folder / "classify", engine), io.BytesIO(b"aspirin\nbrca1\n"), "x")
    )
    expected = list(
        predict_lines(Predictor.load(models / "classify/model"), io.BytesIO(b"aspirin\nbrca1\n"), "x")
    )
    for ours, theirs in zip(map(json.loads, lines), map(json.loads, expected), strict=True):
        assert ours.keys() == theirs.keys() and ours["label"] == theirs["label"]
        assert ours["probability"] != theirs["probability"]  # it did compute in 8 bits


def test_the_stated_agreement_is_that_of_the_predictions(models, exported):
    folder, facts = exported
    dev = read_task(models / "tasks/classify", "classify").splits["dev"]
    rows = [
        [row["label"] for row in Predictor.load(place, engine).predict([one.text for one in dev])]
        for place, engine in ((models / "classify/model", "torch"), (folder / "classify", "onnx"))
    ]
    same_labels = np.mean([one == other for one, other in zip(*rows, strict=True)])
    assert facts["engines"]["onnx"]["agreement"]["agreement"] == same_labels


def test_labels_in_another_order_are_the_same_and_others_are_refused(models, tmp_path):
    task = read_task(models / "tasks/classify", "classify")
    turned = dataclasses.replace(task, labels=task.labels[::-1])
    places = (tmp_path / "plain", tmp_path / "turned")
    found = [
        export_engine(models / "classify/model", place, "onnx-int8", task=one)["engines"]["onnx"]["agreement"]
        for place, one in zip(places, (task, turned), strict=True)
    ]
    assert found[0] == found[1]
    other = read_task(models / "tasks/multilabel", "multilabel")
    with pytest.raises(ArtefactError, match="labels are not those of multilabel"):
        export_engine(models / "classify/model", tmp_path / "other", "onnx-int8", task=other)
    assert not (tmp_path / "other").exists()


BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "wellread", "transformers"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
for name in ("torch", "wellread"):
    try:
        __import__(name)
        raise SystemExit(f"{name} could be imported")
    except ModuleNotFoundError:
        pass
"""


def run_readme(folder, given):
    """What the script in a folder's README prints, in a process without Wellread and torch."""
    code = (folder / "README.md").read_text("utf-8").split("```python\n")[1].split("```")[0]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-I", "-c", BLOCKED + code]
    done = subprocess.run(
        command, cwd=folder, env=environment, input=json.dumps(given), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_the_script_in_the_readme_needs_neither_wellread_nor_torch(exported, pairs):
    folder = exported[0]
    expected = [row["label"] for row in Predictor.load(folder / "classify", "onnx").predict(TEXTS)]
    assert run_readme(folder / "classify", TEXTS) == expected
    scores = [row["score"] for row in Predictor.load(pairs / "out").predict(PAIRS)]
    assert run_readme(pairs / "out", PAIRS) == pytest.approx(scores, abs=1e-5)
    texts = [
        "  aspirin extract,brca1  in patients (\u226565 at 38.5\u00b0C)",
        "",
        *["cell " * n for n in range(1, 40)],
    ]
    given = [[match.group() for match in TOKEN.finditer(text)] for text in texts]
    tagged = Predictor.load(folder / "tag", "onnx").predict(given)
    for text, found, expected in zip(texts, run_readme(folder / "tag", texts), tagged, strict=True):
        assert [(begin, end) for begin, end, _ in found] == [match.span() for match in TOKEN.finditer(text)]
        assert [tag for *_, tag in found] == expected["tags"]


def test_the_script_takes_many_texts_in_any_order_and_none(exported, models):
    folder = exported[0] / "classify"
    examples = read_task(models / "tasks/classify", "classify").splits["train"][:40]
    texts = [example.text for example in examples]
    expected = [row["label"] for row in Predictor.load(folder, "onnx").predict(texts)]
    assert (
        np.mean([one == other for one, other in zip(run_readme(folder, texts), expected, strict=True)]) > 0.9
    )
    assert run_readme(folder, []) == []
    assert "range(0, len(order), 16)" in (folder / "README.md").read_text("utf-8")


def test_the_readme_names_the_versions_and_where_the_script_may_stand(exported):
    folder = exported[0] / "classify"
    said, versions = (folder / "README.md").read_text("utf-8"), exported[1]["engines"]["onnx"]["versions"]
    packages = " ".join(f"{name}=={versions[name]}" for name in ("onnxruntime", "tokenizers", "numpy"))
    assert f"pip install {packages}" in said and "python ../script.py" in said
    (folder / "script.py").write_text("print()")
    try:
        with pytest.raises(ArtefactError, match=r"script\.py") as caught:
            Predictor.load(folder)
        assert "delete" not in caught.value.fix
    finally:
        (folder / "script.py").unlink()


def test_one_models_folder_has_no_tasks_and_variants(exported, tmp_path):
    for options in (("--task", "nonsense"), ("--model", "dense")):
        with pytest.raises(UserError, match="one model"):
            models_command.predict(exported[0] / "tag", **{options[0][2:]: options[1]})
        with pytest.raises(UserError, match="one model"):
            models_command.export(exported[0] / "tag", tmp_path / "out", **{options[0][2:]: options[1]})


def test_as_many_batches_side_by_side_as_threads_are_given(exported):
    assert Predictor.load(exported[0] / "tag", "onnx", 3).model.workers == 3


def test_what_stands_in_the_folder(exported, models):
    folder = exported[0]
    held = {path.relative_to(folder / "classify").as_posix() for path in (folder / "classify").rglob("*.*")}
    assert held >= {"config.json", "tokenizer.json", "engine.json", "README.md", "manifest.json"}
    assert held >= {"onnx/model.onnx", "openvino/model.xml", "openvino/model.bin"}
    assert not any(name.endswith(".safetensors") for name in held)
    assert files.problems(folder / "classify") == []
    path = folder / "classify/onnx/model.onnx"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    try:
        with pytest.raises(ArtefactError, match="damaged"):
            Predictor.load(folder / "classify")
    finally:
        path.write_bytes(data)


def test_a_graph_that_differs_is_refused_and_nothing_is_left(models, tmp_path, monkeypatch):
    model = build.load(models / "classify/model", "classify").eval()
    inputs = ("input_ids", "attention_mask")

    def exact(feed):
        import torch

        return model(**{name: torch.from_numpy(row) for name, row in feed.items()}).logits.detach().numpy()

    found = parity.check(model, exact, inputs, 64, "x")
    assert found["largest_difference"] < 1e-6 and found["shapes"] == len(parity.grid(64))
    for wrong in (lambda x: exact(x) + 1e-3, lambda x: exact(x) * np.nan, lambda x: exact(x)[:1]):
        with pytest.raises(ArtefactError, match="does not give the model's logits"):
            parity.check(model, wrong, inputs, 64, "x")

    def ignores_the_mask(feed):
        return exact({**feed, "attention_mask": np.ones_like(feed["attention_mask"])})

    with pytest.raises(ArtefactError, match="off by"):
        parity.check(model, ignores_the_mask, inputs, 64, "x")


def test_batches_hold_every_sequence_once_within_the_budget():
    lengths = np.array([5, 60, 7, 7, 1, 30, 200, 5])
    batches = padded_batches(lengths, 64)
    assert sorted(np.concatenate(batches).tolist()) == list(range(8))
    assert all(len(index) * lengths[index].max() <= 64 or len(index) == 1 for index in batches)
    assert padded_batches(np.zeros(0, dtype=int), 64) == []


def test_padding_of_a_batch(models):
    tokenizer = tokenizers.load(models / "tokenizer")
    encoded = texts(tokenizer, ["aspirin", "brca1 showed the dose"], None, 64)
    given = feed(encoded, np.array([1, 0]), ("input_ids", "attention_mask", "token_type_ids"), 0)
    expected = tokenizer(["brca1 showed the dose", "aspirin"], padding=True, return_tensors="np")
    assert (given["input_ids"] == expected["input_ids"]).all()
    assert (given["attention_mask"] == expected["attention_mask"]).all()
    assert not given["token_type_ids"].any()


def test_agreement():
    reference = np.array([[1.0, 2.0], [3.0, -1.0], [0.0, 5.0]])
    found = np.array([[2.0, 1.0], [9.0, -1.0], [0.0, 1.0]])
    assert agreement("classify", reference, found) == agreement("tag", reference, found) == 2 / 3
    assert agreement("multilabel", reference, -reference) == pytest.approx(0 + 1 / 6)
    assert agreement("regress", reference[:, :1], 2 * reference[:, :1] + 1) == pytest.approx(1)


def test_models_that_no_engine_runs_are_refused_with_a_way_out(models, tmp_path):
    from wellread.models import heads

    tokenizer = tokenizers.load(models / "tokenizer")
    made = heads.task_model(toy.model("gpt2"), tokenizer, "classify", ("a", "b"), 0.0, 0)
    build.save(made, tokenizer, tmp_path / "gpt2")
    with pytest.raises(ArtefactError, match="engines run encoders.*\n.*transformers"):
        export_engine(tmp_path / "gpt2", tmp_path / "out", "onnx")
    build.save(build.build(toy.model(), tokenizer, "mlm", 0), tokenizer, tmp_path / "mlm")
    with pytest.raises(ArtefactError, match="gives no labels"):
        export_engine(tmp_path / "mlm", tmp_path / "out", "onnx")
    (tmp_path / "mlm/answers.json").write_text("{}")
    with pytest.raises(ArtefactError, match="another head"):
        export_engine(tmp_path / "mlm", tmp_path / "out", "onnx")
    (tmp_path / "mlm/answers.json").rename(tmp_path / "mlm/light.json")
    with pytest.raises(ArtefactError, match="two parts"):
        export_engine(tmp_path / "mlm", tmp_path / "out", "onnx")
    with pytest.raises(UserError, match="calibrated"):
        export_engine(models / "classify/model", tmp_path / "out", "openvino-int8")
    with pytest.raises(UserError, match="no graph for an engine"):
        Predictor.load(models / "classify/model", "onnx")
    assert not (tmp_path / "out").exists()


def test_formats(monkeypatch):
    import importlib.util

    assert check_formats(["onnx", "transformers", "onnx"]) == ("onnx", "transformers")
    for names, what in (
        (["gguf"], "convert_hf_to_gguf"),
        (["onx"], "onnx-int8"),
        (INT8[:1] + ("onnx",), "two"),
    ):
        with pytest.raises(UserError, match=what):
            check_formats(names)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install -c constraints.txt -e '.\[deploy\]'"):
        check_formats(["onnx"])
