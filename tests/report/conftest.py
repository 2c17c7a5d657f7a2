"""A run folder for all tests of the report."""

from pathlib import Path

import fake_run
import pytest


@pytest.fixture(scope="session", autouse=True)
def no_fsync():
    """Hundreds of small files: what the disk does with them is not tested here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session")
def run(tmp_path_factory, no_fsync) -> Path:
    return fake_run.make(tmp_path_factory.mktemp("report") / "quick")
