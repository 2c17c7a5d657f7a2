"""Predictions in alternation: records of every contender, tables, and values that are refused."""

import json

import pytest

from wellread.bench import infer, table
from wellread.bench.contenders import BASELINE
from wellread.bench.infer_options import InferOptions
from wellread.bench.measure import KEYS, record
from wellread.serve.engines.formats import FORMATS


@pytest.fixture
def little(monkeypatch):
    monkeypatch.setattr(infer, "VOCABULARY", 300)
    monkeypatch.setattr(infer, "SETTLE", 0.0)
    monkeypatch.setattr(infer, "WARMUP", 0)


TINY = ("bench", "infer", "--shape", "1x32", "--threads", "1", "--rounds", "2", "--quiet")


def test_every_contender_against_transformers(command, little, tmp_path):
    for package in {package for one in FORMATS.values() for package in one.packages}:
        pytest.importorskip(package, reason=f"{package} is not installed (the extra deploy)")
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join("a1 2b 3c " * number for number in range(1, 6)))
    out = tmp_path / "infer.json"
    names = ("torch-packed", "torch-int8", "onnx-int8", "openvino-int8")  # one tracing: it takes its time
    some = ("--batches", "1,3", "--lengths", "16", "--texts", texts, "--engines", ",".join(names))
    some = (*some, "--out", out, "--json")
    code, printed, talk = command(*TINY, *some)
    assert code == 0, talk
    records = json.loads(printed)
    assert records == json.loads(out.read_text()) and all(set(one) == set(KEYS) for one in records)
    found = [one for one in records if one["part"] == "latency"]
    assert [(one["batch"], one["name"]) for one in found] == [
        (batch, name) for batch in (1, 3) for name in (BASELINE, *names)
    ]
    for one in found:
        assert one["shape"] == "1x32" and one["length"] == 16 and one["threads"] == 1
        assert one["p95_seconds"] >= one["seconds"] > 0
        assert one["tokens"] == 16 * one["batch"]
        assert one["documents_per_second"] == pytest.approx(one["batch"] / one["seconds"])
        if one["name"] != BASELINE:
            assert one["spread"][0] <= one["ratio"] <= one["spread"][1] and one["against"] == BASELINE
    of_file = [one for one in records if one["part"] == "file"]
    assert {one["batch"] for one in of_file} == {5} and len(of_file) == 1 + len(names)
    assert {one["tokens"] for one in of_file} == {3 * 15 + 2 * 5}
    code, text, _ = command("bench", "table", out)
    assert code == 0 and "openvino-int8" in text and "documents/s" in text


def test_texts_have_the_length_that_is_asked_for(little, tmp_path):
    work = infer.prepare(InferOptions(shape=(1, 32), documents=20), tmp_path)
    for length in (3, 32, 512):
        for texts in infer._texts_of_length(work, length, 2):
            assert [len(row) for row in work.tokenizer(texts)["input_ids"]] == [length, length]


def test_texts_longer_than_the_model_are_cut_without_a_warning(little, tmp_path):
    work = infer.prepare(InferOptions(shape=(1, 32), documents=20), tmp_path)
    work.tokenizer.model_max_length = 16
    infer._texts_of_length(work, 32, 2)
    assert not work.tokenizer.deprecation_warnings  # what transformers has complained of


@pytest.mark.parametrize(
    "arguments",
    [
        ("--only", "speed"),
        ("--engines", "tensorflow"),
        ("--layout", "gpt2"),
        ("--lengths", "0"),
        ("--lengths", "600", "--engines", "torch-packed"),
        ("--model", "no-such-folder"),
        ("--texts", "no-such-file", "--engines", "torch-packed"),
        ("--threads", "100000"),
    ],
)
def test_bad_values_exit_with_2_and_print_no_data(command, little, arguments):
    code, printed, talk = command(*TINY, *arguments)
    assert code == 2 and printed == "" and talk and "Traceback" not in talk


def test_older_records_are_read_as_well():
    old = {
        key: value for key, value in record("steps", "step", "step", 1, ratio=1.5).items() if key in KEYS[:26]
    }
    assert "batch" not in old
    assert table.check([old], "x") == [record("steps", "step", "step", 1, ratio=1.5)]
