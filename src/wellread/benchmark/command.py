"""``wellread benchmark``: the command line of the public benchmarks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from wellread.commands.options import Json, Quiet
from wellread.progress import say

benchmark = typer.Typer(help="Fine-tune a model on a public benchmark's tasks.", no_args_is_help=True)


def _command(suite: str) -> Any:
    def command(
        model: Annotated[
            Path,
            typer.Option(
                help="Checkpoint folder of any maker, a run folder, minilm, or a cheap rival: majority, "
                "tfidf, static, minilm-frozen, minilm-setfit, cct."
            ),
        ],
        data: Annotated[
            Path | None, typer.Option(help="Folder of the tasks' folders; default $WELLREAD_DATA.")
        ] = None,
        tasks: Annotated[str | None, typer.Option(help="Some of the tasks, with commas.")] = None,
        seeds: Annotated[int, typer.Option(min=1, help="Runs of each task.")] = 5,
        first_seed: Annotated[
            int, typer.Option(min=0, help="Where they begin: the next ones may run elsewhere.")
        ] = 0,
        out: Annotated[Path | None, typer.Option(help="Run folder; default runs/BENCHMARK-MODEL.")] = None,
        name: Annotated[str | None, typer.Option(help="The model's name in tables.")] = None,
        change: Annotated[
            list[str] | None, typer.Option("--set", help="KEY=VALUE of [finetune], once or more.")
        ] = None,
        threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default all cores.")] = None,
        vectors: Annotated[
            Path | None, typer.Option(help="Folder of word vectors, for the rival static.")
        ] = None,
        as_json: Json = False,
        quiet: Quiet = False,
    ) -> None:
        from wellread.benchmark import job as planning
        from wellread.benchmark import run as running
        from wellread.benchmark.table import CAPTION, to_text

        options = planning.Options(
            model,
            data,
            tasks,
            seeds,
            out,
            name=name,
            changes=tuple(change or ()),
            threads=threads,
            vectors=vectors,
            first_seed=first_seed,
        )
        job = planning.prepare(suite, options)
        found = running.run(job, quiet=quiet)
        if as_json:
            print(json.dumps(running.results(job, found), indent=1))
            return
        print(to_text(job.suite, job.name, found))
        say(f"{CAPTION}\nEvery score: {job.out / 'metrics.json'}.  The same command continues a run.")

    return command


for _name, _help in (
    ("blurb", "The thirteen tasks of BLURB, beside published models."),
    ("general", "Tasks outside biomedicine: citations, sentiment, Spanish and Turkish."),
):
    benchmark.command(_name, help=_help)(_command(_name))


@benchmark.command("compare")
def _compare(
    results: Annotated[
        list[Path], typer.Argument(help="Run folders of a benchmark, or their benchmark.json.")
    ],
    plot: Annotated[
        Path | None, typer.Option(help="Draw score against the time of a prediction into this file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Several models on one benchmark, side by side, with what they cost."""
    from wellread.benchmark import compare

    suite, models = compare.read(results)
    if as_json:
        print(json.dumps({model.name: model.tasks for model in models}, indent=1))
    else:
        print(compare.to_markdown(suite, models))
    say("percent on test: mean ± standard deviation (runs); published columns as reported")
    if plot:
        drawn = compare.plot(suite, models, plot)
        say(f"{plot}: {', '.join(drawn) or 'nothing has a task in common with the others and a time'}")
