"""The command line: the list of commands.  Each is a few lines; what it does stands in the module it imports.

Standard output is data, standard error is talk.  Bad input, and what ``verify``, ``doctor`` or ``data check``
find, exits with code 2 (see ``guard``).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from wellread.bench.command import bench
from wellread.benchmark.command import benchmark
from wellread.commands import data, models, recipes, runs
from wellread.compress.command import compress
from wellread.compress.distil.command import committee, distil
from wellread.doctor import doctor
from wellread.guard import guarded
from wellread.methods import app as methods

app = typer.Typer(
    help="From a field's raw text to a small, fast, accurate specialist language model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)
app.command()(compress)
app.command()(distil)
app.command()(committee)
app.command()(recipes.run)
app.command()(recipes.plan)
app.command()(recipes.new)
app.command()(recipes.recipes)
for _name, _kind, _help in (
    ("tokenize", "tokens", "Build a recipe up to the token store."),
    ("pretrain", "pretrain", "Build a recipe up to the pre-trained models."),
    ("evaluate", "evaluate", "Build a recipe up to the scores."),
    ("report", "report", "Bring a recipe's report up to date."),
):
    app.command(_name, help=_help)(recipes.up_to(_kind))
app.command()(recipes.finetune)
app.command()(models.predict)
app.command()(models.extend)
app.command()(models.augment)
app.command()(runs.compare)
app.command()(models.export)
app.command()(runs.verify)
app.command()(doctor)
app.add_typer(data.app, name="data")
app.add_typer(bench, name="bench")
app.add_typer(benchmark, name="benchmark")
app.add_typer(methods, name="methods")


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of every error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    del debug  # guarded() reads it, wherever it stands on the line
    if version:
        from wellread import __version__

        print(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point of the ``wellread`` program."""
    sys.argv[1:] = [_at_home(argument) for argument in sys.argv[1:]]
    guarded(app)


def _at_home(argument: str) -> str:
    """``--out=~/runs`` as meant: shells open a tilde at the beginning of a word only."""
    return re.sub(r"^(--[a-z-]+=)~(?=/|$)", lambda option: option[1] + str(Path.home()), argument)


if __name__ == "__main__":
    main()
