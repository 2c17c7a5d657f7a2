"""Work in other processes: done once each, as in this one, and over when this one is."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from wellread import workers
from wellread.errors import DataError, UserError
from wellread.workers import share, side_by_side, tick

# Without an ``if __name__ == "__main__"``, as users write scripts.
SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_workers import wait
from wellread.workers import side_by_side
for _ in side_by_side(wait, [({folder!r}, number) for number in range(2)], workers=2, threads=1):
    print("done", flush=True)
"""


def note(folder, number):
    import torch

    (folder / str(number)).write_text(f"{os.getpid()} {torch.get_num_threads()}")


def complain(folder, number):
    raise DataError("too short", where=f"a.txt:{number}", fix="write more")


def die(folder, number):
    os.kill(os.getpid(), signal.SIGKILL)


def wait(folder, number):
    (Path(folder) / str(number)).write_text(str(os.getpid()))
    time.sleep(60)


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/", {"cpu.max": "150000 100000"}, 2),
        ("0::/", {"cpu.max": "max 100000"}, 8),
        ("0::/a/b", {"cpu.max": "max 100000", "a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        ("0::/of-another-container", {"cpu.max": "5000 100000"}, 1),
        (
            "3:cpu,cpuacct:/a\n1:memory:/",
            {"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"},
            3,
        ),
        ("3:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ("0::/", {"cpu.max": "9900000 100000"}, 8),
        ("", {}, 8),
    ],
)
def test_a_containers_share_of_time_counts_as_cores(groups, files, expected, tmp_path, monkeypatch):
    (tmp_path / "own").write_text(groups)
    for name, text in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(text + "\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(workers, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(workers, "GROUPS", tmp_path / "groups")
    assert workers.cores() == expected
    monkeypatch.setattr(workers, "OWN_GROUPS", tmp_path / "none")
    assert workers.cores() == 8


def test_cores_are_shared_out():
    assert share(1, 6) == (1, 1)
    assert share(2, 6) == (2, 1)
    assert share(16, 3) == (3, 5)
    assert share(4, 1) == (1, 4)
    assert share(4, 0) == (1, 4)


def test_one_worker_is_this_process(tmp_path):
    assert len(list(side_by_side(note, [(tmp_path, n) for n in range(3)], workers=1, threads=1))) == 3
    assert {path.read_text().split()[0] for path in tmp_path.iterdir()} == {str(os.getpid())}


def test_two_workers_do_every_call_once_with_their_threads(tmp_path):
    assert len(list(side_by_side(note, [(tmp_path, n) for n in range(5)], workers=2, threads=1))) == 5
    found = [path.read_text().split() for path in sorted(tmp_path.iterdir())]
    assert len(found) == 5
    assert str(os.getpid()) not in {process for process, _ in found}
    assert {threads for _, threads in found} == {"1"}


def half(folder, number):
    tick(0.5)
    _until((folder / "seen").exists, 60)


@pytest.mark.parametrize("workers", [1, 2])
def test_calls_under_way_say_how_far_they_are(workers, tmp_path):
    told = []

    def watch(done):
        told.append(done)
        if done == 0.5 * workers:  # all that run at once have said it
            (tmp_path / "seen").touch()

    calls = [(tmp_path, number) for number in range(workers)]
    assert len(list(side_by_side(half, calls, workers=workers, threads=1, watch=watch))) == workers
    tick(0.9)  # outside of a call: nobody is told
    assert max(told) == 0.5 * workers


def test_errors_for_the_user_keep_their_parts(tmp_path):
    with pytest.raises(DataError) as caught:
        list(side_by_side(complain, [(tmp_path, 7)] * 2, workers=2, threads=1))
    assert (caught.value.where, caught.value.fix) == ("a.txt:7", "write more")


def test_a_worker_that_is_killed_is_named_and_the_next_call_works(tmp_path):
    with pytest.raises(UserError, match="memory"):
        list(side_by_side(die, [(tmp_path, n) for n in range(2)], workers=2, threads=1))
    assert len(list(side_by_side(note, [(tmp_path, n) for n in range(2)], workers=2, threads=1))) == 2


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(how, tmp_path, ctrl_c):
    script = SCRIPT.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    parent = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, start_new_session=True)
    _until(lambda: len(list(tmp_path.iterdir())) == 2, 60)
    time.sleep(0.5)  # the file is there before its content
    workers = [int(path.read_text()) for path in tmp_path.iterdir()]
    assert all(psutil.pid_exists(worker) for worker in workers)
    # Ctrl-C reaches every process of the terminal.
    (os.kill if how == signal.SIGKILL else os.killpg)(parent.pid, how)
    said = parent.communicate(timeout=30)[1].decode()
    _until(lambda: not any(_lives(worker) for worker in workers), 10)
    if how == signal.SIGINT:
        assert said.count("Traceback") <= 1  # the workers say nothing


def _lives(process):
    return psutil.pid_exists(process) and psutil.Process(process).status() != psutil.STATUS_ZOMBIE


def _until(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
