"""Nothing leaves the machine: the whole pipeline runs where no connection can be made."""

import subprocess
import sys

import pytest

from synthetic import write_tiny_run

BLOCKED = """
import socket, sys

def refuse(*_, **__):
    raise AssertionError("a connection was tried")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
import wellread

run = wellread.run(sys.argv[1], out=sys.argv[2], quiet=True)
print(run.predict("role", ["Patients were randomly assigned to placebo."])[0]["label"])
"""


@pytest.mark.slow
def test_the_whole_pipeline_runs_with_sockets_blocked(tmp_path):
    recipe = write_tiny_run(tmp_path / "data", records=120)
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, recipe, tmp_path / "run"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("BACKGROUND", "OBJECTIVE", "METHODS", "RESULTS", "CONCLUSIONS")
