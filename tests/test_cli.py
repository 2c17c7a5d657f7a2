"""The command line: talk on stderr, data on stdout, exit codes, cheap imports, errors without tracebacks."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer

import wellread
from synthetic import write_pubmed, write_tiny_run
from wellread import cli, files


def wellread_command(*arguments, cwd=None, **environment):
    return subprocess.run(
        [sys.executable, "-m", "wellread.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, **environment},
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A tiny run through the command line, and what it printed."""
    folder = tmp_path_factory.mktemp("tiny")
    recipe = write_tiny_run(folder)
    done = wellread_command("run", recipe, "--out", folder / "run")
    assert done.returncode == 0, done.stderr
    return folder, done


def test_importing_and_helping_load_nothing_heavy():
    heavy = "{'torch', 'transformers', 'pyarrow', 'sklearn', 'matplotlib', 'lxml', 'pydantic'}"
    code = f"import sys, wellread, wellread.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


COMMANDS = "run plan new recipes tokenize pretrain finetune evaluate report predict compare export verify"


@pytest.mark.parametrize("command", [*COMMANDS.split(), "doctor", "data", "bench"])
def test_every_command_has_help(command):
    done = wellread_command(command, "--help")
    assert done.returncode == 0 and "Usage" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "no-such-recipe.toml"),
        ("plan", "no-such-recipe.toml"),
        ("verify", "no-such-run"),
        ("predict", "no-such-run", "--task", "x"),
        ("export", "no-such-run", "--to", "somewhere"),
        ("compare", "no-such-run"),
        ("data", "get", "no-such-corpus"),
        ("data", "check", "no-such-folder"),
        ("new", "Bad Name"),
        ("run",),
        ("finetune", "quickstart", "--seeds", "1"),
        ("finetune", "quickstart", "--set", "epochs=1"),
        ("finetune", "--model", "m", "--data", "d", "--processes", "2"),
        ("no-such-command",),
    ],
)
def test_bad_input_exits_with_2_and_no_traceback(arguments, tmp_path):
    done = wellread_command(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr and (done.stderr + done.stdout).strip()
    assert done.stdout == "" or arguments[:2] == ("data", "check")
    assert list(tmp_path.iterdir()) == []


def test_a_tilde_after_an_equals_sign_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["wellread", "new", "mine", "--text=~/texts", "--note=a~b", "~"])
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(cli, "app", lambda: None)
    cli.main()
    assert sys.argv[1:] == ["new", "mine", f"--text={tmp_path}/texts", "--note=a~b", "~"]


def test_debug_shows_the_traceback(tmp_path):
    done = wellread_command("run", "no-such-recipe.toml", "--debug", cwd=tmp_path)
    assert "Traceback" in done.stderr


def test_run_says_where_the_report_is_and_what_is_next(finished):
    folder, done = finished
    assert done.stdout.strip() == str(folder / "run" / "report.html")
    assert "Next:" in done.stderr and "Traceback" not in done.stderr
    assert (folder / "run" / "report.html").stat().st_size > 5000


def test_second_run_builds_nothing(finished):
    folder, _ = finished
    done = wellread_command("run", folder / "tiny.toml", "--out", folder / "run")
    assert done.returncode == 0 and "0 stage(s) built" in done.stderr


def test_verify_finds_one_changed_byte_in_any_file(finished):
    folder, _ = finished
    run = wellread.open_run(folder / "run")
    assert run.verify() == []
    assert wellread_command("verify", folder / "run").stdout.strip() == "intact"
    for path in sorted(p for p in (folder / "run").rglob("*") if p.is_file()):
        if path.name in (".lock", "inputs.json") or path.stat().st_size == 0:
            continue
        original = path.read_bytes()
        middle = len(original) // 2
        path.write_bytes(original[:middle] + bytes([original[middle] ^ 1]) + original[middle + 1 :])
        assert run.verify(), path
        path.write_bytes(original)
    assert run.verify() == []


def test_metrics_have_the_promised_fields(finished):
    folder, _ = finished
    records = json.loads((folder / "run" / "metrics.json").read_text())
    fields = {"task", "split", "model", "start", "sparsity", "pattern", "labels", "seed", "metric", "value"}
    assert records and all(fields <= set(record) for record in records)
    assert {record["start"] for record in records} == {"pretrained", "random", "rival"}


def test_predict_reads_text_and_jsonl(finished, tmp_path):
    folder, _ = finished
    (tmp_path / "in.txt").write_text("Patients were randomly assigned to placebo.\nMean score decreased.\n")
    done = wellread_command("predict", folder / "run", "--task", "role", "--input", tmp_path / "in.txt")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 2 and all({"label", "probability"} <= set(line) for line in lines)
    (tmp_path / "in.jsonl").write_text('{"text": "Patients were randomly assigned to placebo."}\n')
    done = wellread_command("predict", folder / "run", "--task", "role", "--input", tmp_path / "in.jsonl")
    assert json.loads(done.stdout)["label"] == lines[0]["label"]
    api = wellread.open_run(folder / "run").predict("role", ["Patients were randomly assigned to placebo."])
    assert api[0]["label"] == lines[0]["label"]


def test_unknown_task_is_refused_with_the_known_ones(finished):
    folder, _ = finished
    done = wellread_command("predict", folder / "run", "--task", "roll")
    assert done.returncode == 2 and "role" in done.stderr


def test_export_and_compare(finished, tmp_path):
    folder, _ = finished
    done = wellread_command("export", folder / "run", "--task", "role", "--to", tmp_path / "model")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model" / "model.safetensors").exists()
    assert "role" in (tmp_path / "model" / "README.md").read_text()
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "letter.txt").write_text("dear")
    done = wellread_command("export", folder / "run", "--to", tmp_path / "precious", "--force")
    assert done.returncode == 2 and (tmp_path / "precious" / "letter.txt").exists()
    done = wellread_command("compare", folder / "run", folder / "run", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)


def test_plan_and_doctor_speak_json(finished):
    folder, _ = finished
    done = wellread_command("plan", folder / "tiny.toml", "--out", folder / "run", "--json")
    assert done.returncode == 0, done.stderr
    planned = json.loads(done.stdout)
    assert planned["problems"] == [] and planned["time"]["seconds"] >= 0
    done = wellread_command("doctor", "--json")
    assert {check["state"] for check in json.loads(done.stdout)} <= {"good", "note", "bad"}


def test_new_writes_a_recipe_that_plans(tmp_path):
    write_pubmed(tmp_path / "mine.xml.gz", 60)
    done = wellread_command("new", "mine", "--text", "mine.xml.gz", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.strip() == "mine.toml"
    again = wellread_command("new", "mine", cwd=tmp_path)
    assert again.returncode == 2 and "already" in again.stderr


def test_a_read_only_run_folder_is_refused(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    recipe = write_tiny_run(tmp_path / "data")
    (tmp_path / "locked").mkdir(mode=0o500)
    done = wellread_command("run", recipe, "--out", tmp_path / "locked" / "run")
    assert done.returncode == 2 and "cannot be written" in done.stderr


def test_a_full_disk_is_reported_and_the_run_goes_on_later(tmp_path, monkeypatch):
    recipe = write_tiny_run(tmp_path / "data")
    real = files.write_manifest

    def full(folder, **facts):
        if "tokenizer" in str(folder):
            raise OSError(28, "No space left on device", str(folder))
        return real(folder, **facts)

    monkeypatch.setattr(files, "write_manifest", full)
    with pytest.raises(wellread.UserError, match="No space"):
        wellread.run(recipe, out=tmp_path / "run", until="tokens", quiet=True)
    monkeypatch.setattr(files, "write_manifest", real)
    done = wellread.run(recipe, out=tmp_path / "run", until="tokens", quiet=True)
    assert done.verify() == [] or all("SHA256SUMS" not in problem for problem in done.verify())


def test_the_api_is_typed_and_lazy():
    assert (Path(wellread.__file__).parent / "py.typed").exists()
    with pytest.raises(AttributeError):
        wellread.no_such_thing  # noqa: B018


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_interrupted_command_says_how_to_go_on(monkeypatch, capsys, name, code):
    number = getattr(signal, name)
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background begins without it
    app = typer.Typer()
    app.command()(lambda: (os.kill(os.getpid(), number), time.sleep(10)))
    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(sys, "argv", ["wellread"])
    try:
        with pytest.raises(SystemExit) as stopped:
            cli.main()
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    assert stopped.value.code == code
    assert "the same command continues" in capsys.readouterr().err
