"""Kills a run again and again, at random moments and inside its saves, and tells what it left.

    python tests/killing.py RECIPE FOLDER --kills 25 --seed 0 [--longest SECONDS]

Prints JSON: the identity of every stage of an undisturbed run, and of every run that was killed on its way,
with the moments of the kills.  The heavy libraries are imported once and every attempt is a fork, so that the
kills fall into the work and not into start-up.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import sklearn.feature_extraction.text  # noqa: F401
import sklearn.linear_model  # noqa: F401
import torch  # noqa: F401
import transformers  # noqa: F401

import wellread
from wellread import files


def identities(run: Path) -> dict[str, str]:
    """The identity of every committed stage, and hashes of the files at the top that hold no clock."""
    found = {
        manifest.parent.relative_to(run).as_posix(): files.identity(manifest.parent)
        for manifest in sorted((run / "stages").glob("**/manifest.json"))
        if manifest.parent.parent.name != "units" and manifest.parent.name != "report"
    }
    return found | {"metrics.json": files.sha256_file(run / "metrics.json")}


def die_at_write(number: int) -> None:
    """Let the process kill itself at its ``number``-th flush, rename or replacement of a file."""
    count = 0

    def counted(function):
        def call(*arguments, **keywords):
            nonlocal count
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **keywords)

        return call

    os.fsync = counted(os.fsync)
    Path.rename = counted(Path.rename)
    Path.replace = counted(Path.replace)


def attempt(recipe: Path, out: Path, *, seconds: float | None = None, write: int | None = None) -> int:
    """Run the recipe in a fork, killed after ``seconds`` or at its ``write``-th write; the wait status."""
    child = os.fork()
    if child == 0:
        try:
            sys.stderr = open(out.with_suffix(".log"), "a")  # noqa: SIM115
            if write is not None:
                die_at_write(write)
            wellread.run(recipe, out=out, quiet=True)
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
    if seconds is not None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return status
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    generator = random.Random(options.seed)

    began = time.monotonic()
    if attempt(options.recipe, options.folder / "whole") != 0:
        sys.exit((options.folder / "whole.log").read_text())
    whole_seconds = time.monotonic() - began
    result = {"seconds": round(whole_seconds, 1), "whole": identities(options.folder / "whole"), "runs": []}
    kills = 0
    while kills < options.kills:
        out = options.folder / f"killed{len(result['runs'])}"
        moments: list[str] = []
        while True:
            if kills >= options.kills:
                how = {}
            elif generator.random() < 0.5:
                how = {"seconds": round(generator.uniform(0.05, 0.6 * whole_seconds), 3)}
            else:
                how = {"write": generator.randint(1, 150)}
            status = attempt(options.recipe, out, **how)
            if status == 0:
                break
            if not os.WIFSIGNALED(status):
                sys.exit(f"an attempt failed after {moments}:\n" + out.with_suffix(".log").read_text())
            kills += 1
            moments.append(" ".join(f"{key} {value}" for key, value in how.items()))
        result["runs"].append(
            {
                "kills": moments,
                "identities": identities(out),
                "problems": wellread.open_run(out).verify(),
                "leftovers": [
                    p.name for p in (out / "stages").rglob("*") if p.suffix in (".partial", ".old", ".tmp")
                ],
            }
        )
        shutil.rmtree(out)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
