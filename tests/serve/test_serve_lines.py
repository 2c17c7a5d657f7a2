"""Lines of text and of JSON; bad lines are named; a file appears whole or not at all."""

import io
import json

import pytest

from wellread.errors import DataError
from wellread.serve import inputs, predict
from wellread.serve.lines import predict_file, predict_lines


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
        (b'{"tokens": ["secret", "b"]}\n', 1, "`tokens` where this model takes a text"),
        (b'{"text": "a"}\n{"text": "secret \\ud800"}\n', 2, "surrogate"),
        (b"fine\nsecret \xff\n", 2, "not UTF-8"),
        ("secret".encode("utf-16"), 1, "not UTF-8"),
        (b'{"text": "a"}\n' + b"[" * 100_000 + b"\n", 2, "not valid JSON"),
        (b'\n[{"text": "secret"}, {"text": "b"}]', 2, "a JSON array"),
        (b'[\n {"text": "secret"}\n]', 1, "a JSON array"),
        (b'["secret",\n"b"]', 1, "a JSON array"),
        (b" []", 1, "a JSON array"),
        (b'{"text": "a"}\n{"text": ""}', 2, "`text` is empty"),
        (b'{"text": " \\n"}', 1, "`text` is empty"),
        (b'{"text": "secret", "text_pair": ""}', 1, "`text_pair` is empty"),
        (b'{"text": "\\t", "options": ["secret", "b"]}', 1, "`text` is empty"),
        (b'{"tokens": []}', 1, "`tokens` is empty"),
    ],
)
def test_bad_lines_are_named_and_never_shown(predictors, data, line, what):
    with pytest.raises(DataError, match=what) as caught:
        lines(predictors["classify"], data)
    assert caught.value.where == f"in.jsonl:{line}"
    assert "secret" not in str(caught.value)


def test_a_text_may_begin_with_a_bracket(predictors):
    assert len(lines(predictors["classify"], b'[Aspirin] in use.\n["Extract" of brca1].\n')) == 2
    assert len(lines(predictors["classify"], b'["Extract" of brca1].\n')) == 1


def test_a_chunk_is_out_before_the_next_is_read(models, monkeypatch):
    monkeypatch.setattr(predict, "CHUNK", 2)

    class Source(io.BytesIO):
        seen = ()

        def readline(self, limit):
            line = super().readline(limit)
            Source.seen += (len(out.shown),)
            return line

    class Out(io.StringIO):
        shown = ()

        def flush(self):
            self.shown = tuple(self.getvalue().splitlines())

    class Stdin:
        buffer = Source(b"aspirin\n" * 5)

    out = Out()
    monkeypatch.setattr("sys.stdin", Stdin)
    monkeypatch.setattr("sys.stdout", out)
    predict_file(models / "classify/model", "-", None)
    assert Source.seen == (0, 0, 2, 2, 4, 4) and len(out.shown) == 5


def test_a_line_without_end_is_refused_in_bounded_memory(predictors):
    class Endless:
        read = 0

        def readline(self, limit):
            self.read += limit
            return b"x" * limit

    stream = Endless()
    with pytest.raises(DataError, match="longer than 16 MiB"):
        list(predict_lines(predictors["classify"], stream, "in.txt"))
    assert stream.read == inputs.MAX_LINE_BYTES + 1


def test_a_tagger_takes_no_pair(predictors):
    with pytest.raises(DataError, match="a pair where this model takes one text"):
        lines(predictors["tag"], b'{"text": "secret", "text_pair": "b"}')


def test_tables_are_read_as_labelled_files_are(predictors, models, tmp_path):
    out = tmp_path / "out.jsonl"
    plain = [r["probabilities"] for r in predictors["classify"].predict(["Aspirin, an extract", "brca1"])]
    for name, text in (
        ("in.csv", 'id,label,text\r\n7,x,"Aspirin, an extract"\r\n8,,brca1\r\n'),
        ("in.tsv", "text\tid\nAspirin, an extract\t7\nbrca1\t8\n"),
    ):
        (tmp_path / name).write_text(text, "utf-8")
        assert predict_file(models / "classify" / "model", str(tmp_path / name), out) == 2
        found = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
        assert [(one["line"], one["id"]) for one in found] == [(2, "7"), (3, "8")]
        assert [one["probabilities"] for one in found] == plain
    (tmp_path / "in.conll").write_text("aspirin\tO\nextract\tO\n\ncell\tO\n", "utf-8")
    assert predict_file(models / "tag" / "model", str(tmp_path / "in.conll"), out) == 2
    assert [len(json.loads(line)["tags"]) for line in out.read_text("utf-8").splitlines()] == [2, 1]
    (tmp_path / "in.csv").write_text('text,id\nbrca1,7\n"  ",8\n', "utf-8")
    with pytest.raises(DataError, match=r"in.csv:3: `text` is empty"):
        predict_file(models / "classify" / "model", str(tmp_path / "in.csv"), out)
    (tmp_path / "in.csv").write_text("a text without a header\n", "utf-8")
    with pytest.raises(DataError, match="names no `text` column"):
        predict_file(models / "classify" / "model", str(tmp_path / "in.csv"), out)


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
