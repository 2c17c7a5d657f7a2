"""Commands on finished runs: compare them, check their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from wellread.commands.options import Json, RunArgument
from wellread.progress import say


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Two or more run folders.")],
    as_json: Json = False,
    price: Annotated[float | None, typer.Option(help="Of an hour of the machine, to count money.")] = None,
) -> None:
    """Put the scores of several runs side by side, and what their pre-training took."""
    from wellread.api import open_run
    from wellread.report import compare as comparing

    table = comparing.compare([open_run(folder).folder for folder in runs], price)
    print(json.dumps(table, indent=1) if as_json else comparing.to_text(table))


def verify(run: RunArgument, as_json: Json = False) -> None:
    """Compare every file of a run with its recorded hash."""
    from wellread.api import open_run

    found = open_run(run).verify()
    print(
        json.dumps({"run": str(run), "problems": found}, indent=1)
        if as_json
        else "\n".join(found or ["intact"])
    )
    if found:
        say("Next: `wellread run` the recipe again; damaged stages are made anew.")
        raise typer.Exit(2)
