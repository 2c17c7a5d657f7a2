"""kill -9 at any moment of any stage, then the same command: the same bytes as without."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from synthetic import write_tiny_run


@pytest.mark.slow
def test_25_kills_leave_the_same_bytes(tmp_path):
    recipe = write_tiny_run(tmp_path / "data")
    script = Path(__file__).with_name("killing.py")
    done = subprocess.run(
        [sys.executable, script, recipe, tmp_path / "runs", "--kills", "25", "--seed", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert sum(len(run["kills"]) for run in result["runs"]) == 25
    assert any("write" in moment for run in result["runs"] for moment in run["kills"])
    for run in result["runs"]:
        assert run["identities"] == result["whole"], run["kills"]
        assert run["problems"] == []
        assert run["leftovers"] == []
