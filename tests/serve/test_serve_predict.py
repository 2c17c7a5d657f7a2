"""Predictions equal the stock pipeline's; streams are bounded."""

import json
import shutil

import numpy as np
import pytest
import torch
import toy
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities
from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline

from wellread import files
from wellread.errors import ArtefactError
from wellread.models import build
from wellread.serve import predict
from wellread.serve.predict import Predictor
from wellread.tasks import decoding
from wellread.tasks.examples import TOKEN, iob2_tags

TEXTS = ["Aspirin extract in patients.", "", "brca1 extract showed the dose", "µ of kras-2", "cell " * 40]


def stock(models, kind):
    return pipeline("text-classification", model=str(models / kind / "model"), top_k=None, device="cpu")


def test_classification_equals_the_stock_pipeline(models, predictors):
    reference = stock(models, "classify")(TEXTS)
    for ours, rows in zip(predictors["classify"].predict(TEXTS), reference, strict=True):
        assert ours["label"] == rows[0]["label"]
        assert ours["probability"] == pytest.approx(rows[0]["score"], abs=1e-5)
        assert ours["probabilities"] == pytest.approx({r["label"]: r["score"] for r in rows}, abs=1e-5)
        assert sum(ours["probabilities"].values()) == pytest.approx(1)


def test_multilabel_equals_the_stock_pipeline(models, predictors):
    for ours, rows in zip(
        predictors["multilabel"].predict(TEXTS), stock(models, "multilabel")(TEXTS), strict=True
    ):
        assert ours["probabilities"] == pytest.approx({r["label"]: r["score"] for r in rows}, abs=1e-5)
        assert sorted(ours["labels"]) == sorted(r["label"] for r in rows if r["score"] >= 0.5)


def test_scores_of_pairs_equal_the_stock_pipeline(models, predictors):
    pairs = [(text, "patients with effect") for text in TEXTS[:4]]
    reference = stock(models, "regress")([{"text": a, "text_pair": b} for a, b in pairs])
    for ours, rows in zip(predictors["regress"].predict(pairs), reference, strict=True):
        assert set(ours) == {"score"}
        assert ours["score"] == pytest.approx(rows[0]["score"], abs=1e-3)


def test_tags_equal_the_stock_model_at_first_pieces(models, predictors):
    folder = models / "tag" / "model"
    model = AutoModelForTokenClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    sentences = [list(example.tokens) for example in toy.task("tag", 5, 20).splits["dev"]]
    for words, ours in zip(sentences, predictors["tag"].predict(sentences), strict=True):
        inputs = tokenizer(words, is_split_into_words=True, return_tensors="pt")
        owners = inputs.word_ids()
        first = [owners.index(number) for number in range(len(words))]
        logits = model(**inputs).logits[0][first].detach().numpy()
        assert [ours["tags"]] == decoding.tags(list(model.config.id2label.values()), logits, [len(words)])


def test_a_tagger_made_elsewhere_may_begin_entities_with_an_inner_tag(models, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(models / "tag" / "model", folder)
    (folder / files.MANIFEST).unlink(missing_ok=True)
    model = AutoModelForTokenClassification.from_pretrained(folder)
    labels = list(model.config.id2label.values())
    inner = next(number for number, label in enumerate(labels) if label.startswith("I-"))
    model.classifier.weight.data.zero_()
    model.classifier.bias.data.copy_(torch.eye(len(labels))[inner])
    model.classifier.bias.data[labels.index("O")] = 0.5
    model.save_pretrained(folder)
    (found,) = Predictor.load(folder).predict([["one"]])
    assert found["tags"] == [f"B-{labels[inner][2:]}"]


def test_spans_of_raw_text_have_character_offsets(predictors):
    text = "Patients  received\taspirin extract,brca1 extract\nand more."
    (found,) = predictors["tag"].predict([text])
    assert found["spans"]
    words = [match.span() for match in TOKEN.finditer(text)]
    for span in found["spans"]:
        assert span["text"] == text[span["start"] : span["end"]]
        assert span["start"] in [begin for begin, _ in words]
        assert span["end"] in [end for _, end in words]
        assert 0 < span["probability"] <= 1
        assert span["label"] in ("Drug", "Gene")
    (given_as_words,) = predictors["tag"].predict([[match.group() for match in TOKEN.finditer(text)]])
    assert [words[s["start"]][0] for s in given_as_words["spans"]] == [s["start"] for s in found["spans"]]


def test_a_long_text_keeps_the_spans_of_all_its_windows(predictors):
    text = "aspirin extract in patients with study results " * 60
    (found,) = predictors["tag"].predict([text])
    assert max(span["end"] for span in found["spans"]) > len(text) * 0.9
    assert "truncated" not in found


def test_long_texts_of_classifiers_are_marked(predictors):
    results = list(predictors["classify"].predict(["cell", "cell " * 100]))
    assert ["truncated" in result for result in results] == [False, True]


def test_labels_stand_in_the_order_of_the_outputs_whatever_the_file_says(models, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(models / "classify" / "model", folder)
    (folder / files.MANIFEST).unlink(missing_ok=True)
    config = json.loads((folder / "config.json").read_text())
    names = config["id2label"]
    config["id2label"] = dict(sorted(names.items(), reverse=True))
    (folder / "config.json").write_text(json.dumps(config))
    assert Predictor.load(folder).labels == tuple(names[str(number)] for number in range(len(names)))


def test_order_and_chunks_change_nothing(predictors, monkeypatch):
    texts = [" ".join(toy.FILLER[: 1 + number % 15]) for number in range(23)]
    whole = list(predictors["classify"].predict(texts))
    monkeypatch.setattr(predict, "CHUNK", 4)
    parts = list(predictors["classify"].predict(iter(texts)))
    for one, other in zip(whole, parts, strict=True):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-6)
    (alone,) = predictors["classify"].predict([texts[7]])
    assert alone["probabilities"] == pytest.approx(whole[7]["probabilities"], abs=1e-6)


def test_streams_are_read_in_chunks(predictors, monkeypatch):
    monkeypatch.setattr(predict, "CHUNK", 4)
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield "cell"

    results = predictors["classify"].predict(endless())
    assert next(results)["label"] in ("drug", "gene", "none")
    assert len(taken) == 4


def test_few_long_texts_are_a_chunk(predictors, monkeypatch):
    monkeypatch.setattr(predict, "CHUNK_CHARACTERS", 20)
    long, short = "cell " * 4, "cell"
    assert [len(chunk) for chunk in predict.chunks([long, short, short, long, long, short])] == [1, 3, 1, 1]
    for value in ((short, long), [short] * 5, {"text": short, "options": [short] * 4}):
        assert [len(chunk) for chunk in predict.chunks([value, value, 7])] == [1, 1, 1]
    taken = []
    results = predictors["classify"].predict(taken.append(1) or long for _ in range(9))
    assert next(results)["label"] and len(taken) == 1


def test_a_run_keeps_its_model_until_it_is_made_anew(models, tmp_path, monkeypatch):
    from wellread import api

    shutil.copytree(models / "classify" / "model", tmp_path / "model")
    run = api.Run(tmp_path)
    monkeypatch.setattr(run, "model", lambda task, variant: tmp_path / "model")
    kept = run.predictor("any")
    assert isinstance(kept, Predictor) and run.predictor("any") is kept
    assert run.predict("any", ["cell"]) == list(kept.predict(["cell"]))
    shutil.rmtree(tmp_path / "model")
    shutil.copytree(models / "tag" / "model", tmp_path / "model")
    assert run.predictor("any").kind == "tag"


@given(st.lists(st.sampled_from(["O", "B-x", "I-x", "B-y", "I-y"]), max_size=10))
def test_spans_are_seqevals_entities(row):
    row = list(iob2_tags(row))
    assert [(b, e - 1, label) for b, e, label in predict.spans(row)] == [
        (b, e, label) for label, b, e in get_entities(row)
    ]


def test_models_without_labels_or_with_damage_are_refused(models, tmp_path):
    from wellread.tokens import tokenizer as tokenizers

    tokenizer = tokenizers.load(models / "tokenizer")
    build.save(build.build(toy.model(), tokenizer, "mlm", 0), tokenizer, tmp_path / "mlm")
    with pytest.raises(ArtefactError, match="gives no labels"):
        Predictor.load(tmp_path / "mlm")
    with pytest.raises(ArtefactError):
        Predictor.load(tmp_path / "nothing")
    import shutil

    shutil.copytree(models / "tag/model", tmp_path / "damaged")
    path = tmp_path / "damaged/model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtefactError, match="damaged"):
        Predictor.load(tmp_path / "damaged")


def test_the_saved_scores_are_the_predictions(models, predictors):
    from wellread.tasks.read import read_task

    task = read_task(models / "tasks" / "classify", "classify")
    saved = np.load(models / "classify/units/random-all-0/test_scores.npy")
    found = predictors["classify"].predict([example.text for example in task.splits["test"]])
    rows = [[result["probabilities"][label] for label in task.labels] for result in found]
    assert np.allclose(rows, saved, atol=1e-6)
