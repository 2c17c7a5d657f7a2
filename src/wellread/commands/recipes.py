"""Commands on a recipe: write one, plan it, build it as a whole or up to some stage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from wellread.commands.options import (
    AllowOverlap,
    Json,
    Named,
    Out,
    Processes,
    Quiet,
    RecipeArgument,
)
from wellread.errors import UserError, left_out
from wellread.progress import say


def run(
    recipe: RecipeArgument,
    out: Out = None,
    allow_overlap: AllowOverlap = False,
    quiet: Quiet = False,
    processes: Processes = None,
    named: Named = None,
    start: Annotated[
        str | None,
        typer.Option("--from", help="Begin with this checkpoint or known model; pre-train nothing."),
    ] = None,
) -> None:
    """Build everything in a recipe that is not up to date; continue what was interrupted."""
    from wellread.api import run as build
    from wellread.pretrain.processes import helper

    done = build(
        recipe,
        out=out,
        allow_overlap=allow_overlap,
        quiet=quiet,
        processes=processes,
        finetune=named,
        start=start,
    )
    if helper():
        return
    print(done.report)
    task = next(iter(done.recipe.tasks), None)
    if task:
        say(f"Next: open the report in a browser, or `wellread predict {done.folder} --task {task}`.")


def plan(recipe: RecipeArgument, out: Out = None, as_json: Json = False) -> None:
    """Say what a recipe would take, and what is wrong with it, before anything runs."""
    from wellread.plan import examine, words

    result = examine.plan(recipe, out)
    print(json.dumps(result, indent=1) if as_json else words.to_text(result))
    if result["problems"]:
        raise typer.Exit(2)
    say(f"Next: `wellread run {recipe}`.")


def new(
    name: Annotated[str, typer.Argument(help="Name of the run; NAME.toml is written.")],
    text: Annotated[list[str] | None, typer.Option(help="Files or folders with raw text.")] = None,
    task: Annotated[list[Path] | None, typer.Option(help="Folders with labelled files.")] = None,
) -> None:
    """Write a recipe for your own text, with comments."""
    from wellread import starter

    path = starter.write(name, text or [], task or [])
    print(path)
    say(f"Next: read it, then `wellread plan {path}`.")


def recipes() -> None:
    """List the recipes that come along."""
    from wellread.api import recipes_folder
    from wellread.recipe import load

    folder = recipes_folder()
    if not folder.is_dir():
        raise left_out("the recipes", str(folder))
    for path in sorted(folder.glob("*.toml")):
        print(f"{path.stem:20} {load(path).description}")
    say("Next: `wellread plan NAME`.")


def up_to(kind: str) -> Callable[..., None]:
    """The command that builds a recipe up to the stages of some kind."""

    def command(
        recipe: RecipeArgument,
        out: Out = None,
        allow_overlap: AllowOverlap = False,
        quiet: Quiet = False,
        processes: Processes = None,
    ) -> None:
        _build(recipe, kind, out=out, allow_overlap=allow_overlap, quiet=quiet, processes=processes)

    return command


def _build(recipe: str, until: str, named: str | None = None, **options: Any) -> None:
    from wellread.api import run as build
    from wellread.pretrain.processes import helper

    done = build(recipe, until=until, finetune=named, **options)
    if helper():
        return
    print(done.folder)
    say(f"Next: `wellread run {recipe}{f' --recipe {named}' if named else ''}` does the rest.")


def _refuse(options: dict[str, Any], why: str) -> None:
    for option, value in options.items():
        if value:
            raise UserError(why, where=option, fix="leave it out")


def finetune(
    recipe: Annotated[str | None, typer.Argument(help="A recipe; or give --model and --data.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="Checkpoint folder of any maker, or a run folder.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Your labelled file, or a folder of splits.")] = None,
    task: Annotated[str | None, typer.Option(help="With --data: name of the task.")] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="With --data: runs of each number of labels; default 5.")
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="With --data: KEY=VALUE of [finetune], once or more.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="With --data: CPU threads.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --data: print JSON for machines.")] = False,
    out: Out = None,
    allow_overlap: AllowOverlap = False,
    quiet: Quiet = False,
    processes: Processes = None,
    named: Named = None,
) -> None:
    """Fine-tune a model on your labelled file, or build a recipe up to the fine-tuned models."""
    if model is not None and data is not None and recipe is None:
        from wellread import tuning

        _refuse({"--allow-overlap": allow_overlap, "--processes": processes}, "goes with a recipe")
        job = tuning.prepare(
            model,
            data,
            task=task,
            seeds=seeds or 5,
            named=named or "stable",
            changes=tuple(change or ()),
            out=out,
            threads=threads,
        )
        found = tuning.run(job, quiet=quiet)
        print(json.dumps(found, indent=1) if as_json else tuning.to_text(found))
        say(f"Next: `wellread predict {found['model']}` labels new text.")
        return
    if recipe is None or model is not None or data is not None:
        raise UserError(
            "neither a recipe nor a model with data"
            if recipe is None
            else "a recipe brings its model and data",
            where="finetune",
            fix="give RECIPE, or --model FOLDER with --data FILE",
        )
    _refuse(
        {"--task": task, "--seeds": seeds, "--set": change, "--threads": threads, "--json": as_json},
        "goes with --model and --data; a recipe says this itself",
    )
    switches: dict[str, Any] = {"allow_overlap": allow_overlap, "quiet": quiet, "processes": processes}
    _build(recipe, "finetune", named, out=out, **switches)
