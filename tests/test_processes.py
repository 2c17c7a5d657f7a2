"""Real processes: what a user of ``--processes`` and of torchrun sees, also when one of them dies."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import psutil
import pytest
import torch

import wellread
from synthetic import write_tiny_run
from wellread import files, recipe
from wellread.errors import UserError
from wellread.pretrain import processes
from wellread.settings import ModelSettings, PretrainSettings, SparsitySettings

MODULE = "wellread.pretrain.processes"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A tiny recipe and its run, ready for pre-training."""
    folder = tmp_path_factory.mktemp("prepared")
    path = write_tiny_run(folder)
    return path, wellread.run(path, out=folder / "run", until="tokens", quiet=True).folder


@pytest.fixture(scope="module")
def whole(prepared, tmp_path_factory):
    """The run after an undisturbed pre-training in two processes."""
    path, run = prepared
    folder = tmp_path_factory.mktemp("whole") / "run"
    shutil.copytree(run, folder)
    wellread.run(path, out=folder, until="pretrain", quiet=True, processes=2)
    return folder


def test_workers_are_told_only_what_is_given(tmp_path):
    given = processes.Job(
        ModelSettings(layers=1, start="model"),
        PretrainSettings(tokens=5, sparsity={"level": 0.5}),
        *(tmp_path, tmp_path, tmp_path),
        seed=0,
        quiet=True,
        threads=None,
    )
    found = processes.Job.from_json(json.loads(json.dumps(given.to_json())))
    assert found == given
    assert found.model.model_fields_set == {"layers", "start"}
    assert found.settings.sparsity.model_fields_set == {"level"}


@pytest.fixture
def job(prepared, tmp_path):
    """A pre-training of 50 steps, with a checkpoint after each."""
    path, run = prepared
    given = recipe.load(path)

    def make(name, **changes):
        (tmp_path / name).mkdir(exist_ok=True)
        return processes.Job(
            given.model,
            given.pretrain.model_copy(update={"checkpoint_seconds": 1e-9} | changes),
            tokens=run / "stages" / "tokens",
            tokenizer=run / "stages" / "tokenizer",
            folder=tmp_path / name,
            seed=0,
            quiet=True,
            threads=1,
        )

    return make


def results(folder):
    """SHA-256 of all files of a folder but the clock's."""
    return {
        path.relative_to(folder).as_posix(): files.sha256_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in {*files.NOT_IDENTITY, files.MANIFEST}
    }


def workers(parent):
    """The living workers of a process, in order of rank."""
    found = [
        child
        for child in psutil.Process(parent).children(recursive=True)
        if MODULE in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE
    ]
    return sorted(found, key=lambda child: child.create_time())


def wait_for_new(folder, known, seconds=120):
    """Return once a checkpoint stands that is not among the known ones."""
    deadline = time.monotonic() + seconds
    while checkpoints(folder) <= known:
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.01)


def checkpoints(folder):
    return {path for path in folder.glob("**/checkpoints/step-*") if path.suffix == ""}


def kill_when_under_way(job, rank, number):
    """In a thread: end one worker once it has trained a little; the list gets the moment."""
    moments, known = [], checkpoints(job.folder)

    def strike():
        wait_for_new(job.folder, known)
        workers(os.getpid())[rank].send_signal(number)
        moments.append(time.monotonic())

    threading.Thread(target=strike, daemon=True).start()
    return moments


@pytest.mark.slow
def test_a_killed_rank_stops_the_others_and_the_run_goes_on_to_the_same_bits(job, whole):
    killed = job("killed")
    for rank, number in ((1, signal.SIGKILL), (0, signal.SIGSEGV)):
        moments = kill_when_under_way(killed, rank, number)
        with pytest.raises(UserError, match=f"rank {rank}.*{signal.Signals(number).name}") as caught:
            processes.run(killed, 2)
        assert time.monotonic() - moments[0] < 30
        assert "the same command" in caught.value.fix
        assert workers(os.getpid()) == []
        assert not (killed.folder / "pretrain.json").exists()
    processes.run(killed, 2)
    assert results(killed.folder) == results(whole / "stages" / "pretrain" / "main")
    assert not list(killed.folder.rglob("*.partial"))


def test_an_error_meant_for_users_comes_through(job, tmp_path):
    before = torch.get_num_threads()
    with pytest.raises(UserError) as caught:
        processes.run(replace(job("run"), tokenizer=tmp_path), 2)
    assert str(tmp_path) in caught.value.where and caught.value.fix
    assert workers(os.getpid()) == [] and torch.get_num_threads() == before


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_no_worker_outlives_the_command(number, code, prepared, tmp_path, ctrl_c):
    """Ctrl-C reaches every process of the terminal's foreground group; SIGKILL only the parent."""
    path, run = prepared
    shutil.copytree(run, tmp_path / "run")
    text = path.read_text().replace("epochs = 1\n", "epochs = 100\n")
    (tmp_path / path.name).write_text(text.replace("pubmed99", f"{path.parent}/pubmed99"))
    arguments = ["pretrain", tmp_path / path.name, "--out", tmp_path / "run", "--processes", "2"]
    parent = subprocess.Popen(
        [sys.executable, "-m", "wellread.cli", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for_new(tmp_path / "run", set())
    children = workers(parent.pid)
    assert len(children) == 2
    if number == signal.SIGINT:
        os.killpg(parent.pid, number)
    else:
        parent.send_signal(number)
    _, said = parent.communicate(timeout=30)
    assert parent.returncode == code
    assert "Traceback" not in said
    deadline = time.monotonic() + 30
    while any(alive(child) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.slow
def test_torchrun_does_the_same_as_processes(prepared, whole, tmp_path):
    path, run = prepared
    shutil.copytree(run, tmp_path / "other")
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "wellread.cli"]
    done = subprocess.run(
        [sys.executable, "-m", *torchrun, "pretrain", str(path), "--out", str(tmp_path / "other")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "other")]
    one, other = (files.identity(folder / "stages/pretrain/main") for folder in (whole, tmp_path / "other"))
    assert one == other
    assert files.read_json(whole / "run.json")["processes"] == 2


@pytest.mark.parametrize("count", [0, -1])
def test_an_impossible_number_of_processes_is_refused(count, prepared, tmp_path):
    with pytest.raises(UserError) as caught:
        wellread.run(prepared[0], out=tmp_path / "run", processes=count)
    assert caught.value.where == "--processes"
    assert not (tmp_path / "run").exists()


def test_more_processes_than_cores_are_warned_of(capsys):
    processes.check(10_000, None)
    assert "10000 processes" in capsys.readouterr().err
    processes.check(1, 10_000)
    assert capsys.readouterr().err == ""


def test_torchrun_decides_the_number(monkeypatch):
    for name, value in {"RANK": 1, "WORLD_SIZE": 4, "MASTER_ADDR": "localhost", "MASTER_PORT": 1}.items():
        assert processes.launched() == 0 and not processes.helper()
        monkeypatch.setenv(name, str(value))
    assert processes.launched() == 4 and processes.helper()
    with pytest.raises(UserError, match="torchrun started 4"):
        processes.check(2, 1)


def test_a_job_survives_its_trip(job):
    made = job("trip", learning_rate=1 / 3, sparsity=SparsitySettings(level=0.75))
    assert processes.Job.from_json(json.loads(json.dumps(made.to_json()))) == made
