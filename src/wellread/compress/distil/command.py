"""``wellread distil`` and ``wellread committee``: the command line of distillation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from wellread.commands.options import Json, Quiet
from wellread.progress import say


def distil(
    teacher: Annotated[
        Path, typer.Argument(help="Fine-tuned model's folder of any maker, a committee's, or a run folder.")
    ],
    student: Annotated[Path, typer.Option(help="Pre-trained checkpoint to start from, or a run folder.")],
    task: Annotated[str, typer.Option(help="Task folder, or the name of a task of the teacher's run.")],
    out: Annotated[Path, typer.Option(help="Folder to make, or to go on in.")],
    text: Annotated[
        list[str] | None,
        typer.Option(
            help="Unlabelled text of the task's kind: a run folder, known corpus, file, folder or pattern; "
            "once or more."
        ),
    ] = None,
    size: Annotated[int, typer.Option(min=1, help="Unlabelled texts at most.")] = 20_000,
    temperature: Annotated[float, typer.Option(help="Softens both distributions.")] = 1.0,
    alpha: Annotated[float, typer.Option(help="Weight of the soft labels against the labels.")] = 1.0,
    own: Annotated[bool, typer.Option(help="Learn from the task's own training texts too.")] = True,
    fine_tune: Annotated[
        bool, typer.Option(help="Fine-tune on the labels afterwards; kept where dev is no worse.")
    ] = True,
    seeds: Annotated[int, typer.Option(min=1, help="Students; the best on dev is kept.")] = 3,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE of [finetune], once or more.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default all cores.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Teach a small pre-trained model what a fine-tuned one says of unlabelled text."""
    from wellread import api, given
    from wellread.compress.distil import job as running
    from wellread.compress.distil.settings import DistilSettings
    from wellread.recipe import merge
    from wellread.settings import FinetuneSettings
    from wellread.workers import cores

    values = {"temperature": temperature, "alpha": alpha, "transfer": size, "own": own}
    fixed = {"seeds": tuple(range(seeds)), "starts": ("pretrained",)}
    changes = {"recipe": "stable"} | given.changes(tuple(change or ())) | fixed
    training = merge(FinetuneSettings(), changes, "--set")
    job = running.prepare(
        teacher,
        student,
        task,
        text or (),
        out,
        settings=merge(DistilSettings(), values | {"fine_tune": fine_tune}, "distil"),
        training=training,
        threads=threads or cores(),
    )
    api.use_threads(job.threads)
    found = running.run(job, quiet=quiet)
    print(json.dumps(found, indent=1) if as_json else running.to_text(found))
    say(f"Next: `wellread predict {found['model']}` labels new text.")


def committee(
    models: Annotated[list[Path], typer.Argument(help="Fine-tuned models of one task and one tokenizer.")],
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    logits: Annotated[bool, typer.Option(help="Average logits, not probabilities.")] = False,
) -> None:
    """Put several fine-tuned models into one folder; their predictions are averaged."""
    from wellread.compress.distil.committee import make

    make(models, out, "logits" if logits else "probabilities")
    print(out)
    say(f"Next: `wellread predict {out}` labels new text.")
