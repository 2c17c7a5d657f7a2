"""``wellread compress``: the command line of compression."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from wellread.commands.options import Json, Quiet
from wellread.errors import UserError
from wellread.progress import say


def compress(
    run: Annotated[Path, typer.Argument(help="A run folder, or the folder of a fine-tuned model.")],
    task: Annotated[str | None, typer.Option(help="Task of the run.")] = None,
    target: Annotated[
        str, typer.Option(help="int8, 4bit, 2bit-mixed, binary, pruned, or auto: the fastest of many.")
    ] = "auto",
    max_drop: Annotated[float, typer.Option(min=0.0, help="Points that may be lost on dev.")] = 0.5,
    seeds: Annotated[int, typer.Option(min=1, help="Of what is trained; the best on dev is kept.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Folder to make, or to go on in; default compressed/TASK-TARGET.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Labelled data; default those of the run.")] = None,
    model: Annotated[str | None, typer.Option(help="Variant of the run; default the main one.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads while speed is measured.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Counted pairs of short calls.")] = 15,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the smallest and fastest form of a fine-tuned model that keeps its quality."""
    from wellread import api
    from wellread.bench.infer_options import InferOptions
    from wellread.compress.targets import check
    from wellread.workers import cores

    check(target)
    is_model = (run / "config.json").exists()
    if not is_model and task is None:
        raise UserError(
            "which task?", where=str(run), fix=f"--task {' or '.join(api.open_run(run).recipe.tasks)}"
        )
    if is_model and data is None:
        raise UserError("a model's folder brings no data", where=str(run), fix="give --data, or a run folder")
    if threads > cores():
        raise UserError(f"there are {cores()} cores", where=f"--threads {threads}", fix=f"{cores()} at most")
    folder = run if is_model else api.open_run(run).model(task, model)
    from wellread.compress import job as running
    from wellread.compress.pareto import to_text

    name = task or (data.stem if data else "")
    job = running.Job(
        model=folder,
        run=None if is_model else run,
        task=task,
        data=data,
        variant=model,
        target=target,
        max_drop=max_drop,
        seeds=seeds,
        out=out or Path("compressed") / f"{name}-{target}",
        speed=InferOptions(threads=(threads,), rounds=rounds, quiet=True),
    )
    api.use_threads(None)
    found = running.run(job, quiet=quiet)
    print(json.dumps(found, indent=1) if as_json else to_text(found))
    say(f"Next: `wellread predict {job.out / 'model'}` labels new text; compress.html shows more.")
