"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RecipeArgument = Annotated[str, typer.Argument(help="A TOML recipe, or the name of one that comes along.")]
RunArgument = Annotated[Path, typer.Argument(help="A run folder, for instance runs/quickstart.")]
Out = Annotated[Path | None, typer.Option("--out", help="Run folder; default runs/NAME.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print no progress.")]
Processes = Annotated[
    int | None, typer.Option("--processes", help="Processes that share each pre-training; default 1.")
]
Named = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="Settings of fine-tuning: stable or standard; keys that stand in [finetune] win.",
    ),
]
AllowOverlap = Annotated[
    bool,
    typer.Option("--allow-overlap", help="Pre-train on documents of a task's dev or test set all the same."),
]
