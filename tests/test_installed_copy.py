"""An installation that is a copy of the package says what it lacks, and how to get it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import wellread
from wellread.errors import install

ASK = """
from pathlib import Path
from wellread import errors, known_models, methods
from wellread.commands import recipes

model = lambda: known_models.folder_of("wellread-pubmed-mini", Path(), "model.start")
for ask in (recipes.recipes, methods.folder, model):
    try:
        print(ask())
    except errors.ArtefactError as error:
        print(error.fix)
"""


def test_recipes_pages_and_models_are_said_to_be_left_out(tmp_path):
    here = Path(wellread.__file__).parent
    shutil.copytree(
        here, tmp_path / "lib" / "site" / "wellread", ignore=shutil.ignore_patterns("__pycache__")
    )
    surroundings = {
        **os.environ,
        "PYTHONPATH": str(tmp_path / "lib" / "site"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    found = subprocess.run(
        [sys.executable, "-c", ASK],
        env=surroundings,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.splitlines() == [f"run `{install()}` in a checkout"] * 3
