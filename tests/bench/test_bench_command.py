"""The command: tables, JSON, files, and bad values."""

import json
import subprocess
import sys

import pytest

from wellread.bench import data, layers, table
from wellread.bench.measure import KEYS, record
from wellread.errors import DataError
from wellread.workers import cores

TINY = ("bench", "train", "--threads", "1", "--rounds", "1", "--linear", "16x16", "--tokens", "8")


def test_json_on_stdout_and_in_a_file(command, tmp_path):
    out = tmp_path / "bench.json"
    code, printed, talk = command(*TINY, "--only", "layers", "--json", "--out", out)
    assert code == 0, talk
    records = json.loads(printed)
    assert records == json.loads(out.read_text()) and all(set(one) == set(KEYS) for one in records)
    assert {one["part"] for one in records} == {"machine", "layers"}
    code, again, _ = command("bench", "table", out)
    assert code == 0 and "16->16" in again and "block16" in again
    code, marked, _ = command("bench", "table", out, "--markdown")
    assert marked == table.to_markdown(records) + "\n"


@pytest.mark.skipif(cores() < 2, reason="more threads than cores are refused")
def test_what_is_interrupted_leaves_the_parts_that_were_done(command, tmp_path, monkeypatch):
    out, measured = tmp_path / "bench.json", layers.bench

    def second_is_interrupted(options, threads, advance):
        if threads == 2:
            raise KeyboardInterrupt
        return measured(options, threads, advance)

    monkeypatch.setattr(layers, "bench", second_is_interrupted)
    code, printed, _ = command(*TINY, "--only", "layers", "--threads", "1,2", "--json", "--out", out)
    assert code and not printed
    assert {one["threads"] for one in json.loads(out.read_text()) if one["part"] == "layers"} == {1}


@pytest.mark.parametrize(
    "arguments",
    [
        ("--only", "layer"),
        ("--threads", "0"),
        ("--threads", "100000"),
        ("--shape", "6"),
        ("--shape", "6x200"),
        ("--linear", "384"),
        ("--linear", ""),
        ("--tokens", "0"),
        ("--rounds", "-1"),
        ("--vocabulary", "10"),
        ("--batch-tokens", "100"),
        ("--memory-shape", "a"),
        ("--memory-tokens", "12,"),
        ("--out", "no/such/folder/file.json"),
        ("--tokens-from", "no-such-run", "--only", "steps"),
        ("--tokens-from", "no-such-run", "--vocabulary", "500"),
        ("--no-such-option",),
    ],
)
def test_bad_values_exit_with_2_and_print_no_data(command, arguments):
    code, printed, talk = command("bench", "train", *arguments)
    assert code == 2 and printed == "" and talk and "Traceback" not in talk


def test_a_file_of_something_else_is_refused(command, tmp_path):
    for content in ("[]", "{}", '[{"ratio": 1}]', "no json"):
        path = tmp_path / "other.json"
        path.write_text(content)
        code, printed, talk = command("bench", "table", path)
        assert code == (0 if content == "[]" else 2) and printed.strip() == "", talk
    with pytest.raises(DataError, match="other"):
        table.check([1], "other")


def test_bad_values_are_found_before_anything_heavy_is_imported():
    code = (
        "import sys\nfrom wellread import cli\n"
        "sys.argv = ['wellread', 'bench', 'train', '--shape', 'x']\n"
        "try: cli.main()\nexcept SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2 False"


def test_tokens_of_a_run(command, tiny_options, tmp_path):
    stages = tmp_path / "run" / "stages"
    data.make_up(300, 64, tmp_path, documents=60)
    stages.mkdir(parents=True)
    (tmp_path / "tokenizer").rename(stages / "tokenizer")
    (stages / "tokens").mkdir()
    (tmp_path / "tokens").rename(stages / "tokens" / "train")
    small = ("--shape", "1x32", "--max-length", "64", "--batch-tokens", "64", "--memory-tokens", "64")
    code, printed, talk = command(
        *TINY, "--only", "steps", *small, "--tokens-from", tmp_path / "run", "--json"
    )
    assert code == 0, talk
    found = [one for one in json.loads(printed) if one["part"] == "steps"]
    assert found and all("run, vocabulary 300" in one["note"] for one in found)


def made_up_records():
    """One record of each kind, as the benchmark makes them."""
    figures = {
        "shape": "6x384",
        "pattern": "block16",
        "sparsity": 0.75,
        "zeros": 0.75,
        "against": "packed dense step",
        "ratio": 1.75,
        "spread": [1.5, 2.0],
        "repetitions": 9,
        "tokens": 4090.0,
        "seconds": 2.0,
        "tokens_per_second": 2045.0,
        "share_of_peak": 0.5,
        "share_of_roofline": 0.625,
        "bytes": 2.5e9,
    }
    predicted = {"batch": 1, "length": 128, "p95_seconds": 2.5, "documents_per_second": 0.5}
    passes = ("forward", "backward", "both")
    return [
        record("machine", "matrix product", "fp32", 1, flops_per_second=1e11, note="a machine"),
        *(
            record("layers", "linear", name, 1, **(figures | {"ratio": n}))
            for n, name in enumerate(passes, 1)
        ),
        record("steps", "step", "step", 1, **figures),
        record("trainer", "packed step", "step", 1, **figures),
        record("memory", "peak memory", "process", 1, **figures),
        record("latency", "onnx", "latency", 1, **(figures | predicted)),
        record("file", "onnx", "file", 1, **(figures | predicted)),
    ]


def test_markdown_tables():
    lines = table.to_markdown(made_up_records()).splitlines()
    assert [line for line in lines if line.startswith("#")] == [
        f"### {title}" for title in table.TITLES.values()
    ]
    assert "| 1 | matrix product, fp32 | 100.0 GFLOP/s | a machine |" in lines
    layer = "| 1 | 6x384 | block16 | 75.0% | 1.00x | 2.00x | 3.00x | 1.50-2.00 | 2000.00 | 50% | 62% |"
    assert layer in lines
    step = "| 1 | 6x384 | block16 | 75.0% | 1.75x | 1.50-2.00 | 9 | 4090 | 2.000 | 2045 | 50% |"
    assert step in lines
    assert "| 1 | 6x384 | 1 | 128 | onnx | 1.75x | 1.50-2.00 | 9 | 2000.00 | 2500.00 |" in lines
    assert "| 1 | 6x384 | onnx | 1.75x | 1.50-2.00 | 9 | 0.5 | 2045 |" in lines
    bars = [line.count("|") for line in lines if line.startswith("|")]
    blocks = "\n".join(lines).split("\n\n")
    assert bars and all(
        len({line.count("|") for line in block.splitlines() if line.startswith("|")}) <= 1 for block in blocks
    )


def test_text_columns_line_up():
    text = table.to_text(made_up_records())
    heads, row = text.split("Pre-training steps")[1].splitlines()[2:4]
    assert heads.index("ratio") == row.index("1.75x") and heads.index("tokens/s") == row.index("2045")


def test_no_records_no_tables():
    assert table.to_text([]) == "" and table.to_markdown([]) == ""
