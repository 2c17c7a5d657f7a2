"""Predictions equal the stock pipeline's; streams are bounded; bad lines are named."""

import io
import json

import numpy as np
import pytest
import toy
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities
from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline

from wellread.errors import ArtefactError, DataError
from wellread.finetune.objective import valid_iob2
from wellread.models import build
from wellread.serve import predict
from wellread.serve.predict import Predictor, predict_file, predict_lines
from wellread.tasks.examples import TOKEN

TEXTS = ["Aspirin extract in patients.", "", "brca1 extract showed the dose", "µ of kras-2", "cell " * 40]


@pytest.fixture(scope="module")
def predictors(models):
    return {kind: Predictor.load(models / kind / "model") for kind in toy.KINDS}


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
        best = model(**inputs).logits[0].argmax(-1).tolist()
        owners = inputs.word_ids()
        tags = [model.config.id2label[best[owners.index(number)]] for number in range(len(words))]
        assert ours["tags"] == valid_iob2(tags)


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


@given(st.lists(st.sampled_from(["O", "B-x", "I-x", "B-y", "I-y"]), max_size=10))
def test_spans_are_seqevals_entities(row):
    row = valid_iob2(row)
    assert [(b, e - 1, label) for b, e, label in predict.spans(row)] == [
        (b, e, label) for label, b, e in get_entities(row)
    ]


def lines(predictor, data: bytes):
    return [json.loads(line) for line in predict_lines(predictor, io.BytesIO(data), "in.jsonl")]


def test_lines_of_text_and_of_json(predictors):
    text = lines(predictors["classify"], "\ufeffAspirin µ\r\n\r\n  \nbrca1\n".encode())
    assert [result["line"] for result in text] == [1, 4]
    data = b'\xef\xbb\xbf{"id": 7, "text": "Aspirin \\u00b5"}\n\n{"text": "brca1"}'
    as_json = lines(predictors["classify"], data)
    assert [result.get("id") for result in as_json] == [7, None]
    assert [r["probabilities"] for r in as_json] == [r["probabilities"] for r in text]
    (pair,) = lines(predictors["regress"], b'{"text": "aspirin", "text_pair": "patients with effect"}')
    (expected,) = predictors["regress"].predict([("aspirin", "patients with effect")])
    assert pair["score"] == expected["score"]
    (tagged,) = lines(predictors["tag"], b'{"tokens": ["aspirin", "extract"]}')
    assert len(tagged["tags"]) == 2
    assert lines(predictors["classify"], b"") == []


@pytest.mark.parametrize(
    ("data", "line", "what"),
    [
        (b'{"text": "a"}\n{"text": }\n', 2, "not valid JSON"),
        (b'{"text": "a"}\n["secret"]\n', 2, "not a JSON object"),
        (b'{"text": "a"}\n\n{"txt": "secret"}\n', 3, "neither `text` nor `tokens`"),
        (b'{"text": 5}\n', 1, "a int where a text"),
        (b'{"text": "secret", "text_pair": 5}\n', 1, "where a text"),
        (b'{"tokens": ["secret", "b", "c"]}\n', 1, "3 strings"),
        (b'{"text": "a"}\n{"text": "secret \\ud800"}\n', 2, "surrogate"),
        (b"fine\nsecret \xff\n", 2, "not UTF-8"),
        ("secret".encode("utf-16"), 1, "not UTF-8"),
        (b'{"text": "a"}\n' + b"[" * 100_000 + b"\n", 2, "not valid JSON"),
    ],
)
def test_bad_lines_are_named_and_never_shown(predictors, data, line, what):
    with pytest.raises(DataError, match=what) as caught:
        lines(predictors["classify"], data)
    assert caught.value.where == f"in.jsonl:{line}"
    assert "secret" not in str(caught.value)


def test_a_line_without_end_is_refused_in_bounded_memory(predictors):
    class Endless:
        read = 0

        def readline(self, limit):
            self.read += limit
            return b"x" * limit

    stream = Endless()
    with pytest.raises(DataError, match="longer than 16 MiB"):
        list(predict_lines(predictors["classify"], stream, "in.txt"))
    assert stream.read == predict.MAX_LINE_BYTES + 1


def test_a_file_appears_whole_or_not_at_all(models, tmp_path, capsys):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"text": "aspirin"}\n' + json.dumps({"text": "cell " * 90}) + "\n", "utf-8")
    assert predict_file(models / "classify/model", str(source), out) == 2
    assert len(out.read_text("utf-8").splitlines()) == 2
    assert "1 of 2 texts are longer than the model's 64 tokens" in capsys.readouterr().err
    source.write_text('{"text": "aspirin"}\n' * 600 + "{", "utf-8")
    out.unlink()
    with pytest.raises(DataError, match="in.jsonl:601"):
        predict_file(models / "classify/model", str(source), out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl"]
    with pytest.raises(DataError, match="cannot be read"):
        predict_file(models / "classify/model", str(tmp_path / "nowhere"), out)
    with pytest.raises(DataError, match="cannot be written"):
        source.write_text("aspirin")
        predict_file(models / "classify/model", str(source), tmp_path / "no" / "out.jsonl")


def test_stdin_to_stdout(models, monkeypatch, capsys):
    class Stdin:
        buffer = io.BytesIO(b"aspirin extract\n")

    monkeypatch.setattr("sys.stdin", Stdin)
    predict_file(models / "tag/model", "-", None)
    assert json.loads(capsys.readouterr().out)["line"] == 1


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
