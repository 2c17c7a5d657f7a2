"""Commands on a model: predict with it, export it, make it read longer texts, write examples with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from wellread.commands.options import Json, Quiet, RunArgument
from wellread.errors import UserError
from wellread.progress import say


def predict(
    run: Annotated[Path, typer.Argument(help="A run folder, or the folder of an exported model.")],
    task: Annotated[str | None, typer.Option(help="Task of the run.")] = None,
    source: Annotated[
        str, typer.Option("--input", help="Texts: one a line, JSONL, CSV or TSV; - for stdin.")
    ] = "-",
    out: Annotated[Path | None, typer.Option(help="JSONL file to write; default stdout.")] = None,
    model: Annotated[str | None, typer.Option(help="Variant; default the main one.")] = None,
    engine: Annotated[
        str | None, typer.Option(help="torch, onnx or openvino; default what the folder was exported for.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default all cores.")] = None,
) -> None:
    """Predict labels: text or JSONL in, JSONL with label, probability or spans out."""
    from wellread.api import use_threads
    from wellread.serve.lines import predict_file

    folder = _model_folder(run, task, model)
    use_threads(threads)
    predict_file(folder, source, out, engine, threads)


def extend(
    checkpoint: Annotated[Path, typer.Argument(help="BERT or ModernBERT folder, run folder or known model.")],
    to: Annotated[Path, typer.Option(help="Folder to make.")],
    length: Annotated[int, typer.Option(min=1, help="Longest sequence in tokens.")] = 4096,
    attention: Annotated[
        str | None, typer.Option(help="window, full or bigbird; default window for BERT, else full.")
    ] = None,
    window: Annotated[int, typer.Option(help="window: width in tokens, half of it to each side.")] = 512,
    block: Annotated[int, typer.Option(help="bigbird: tokens in a block.")] = 64,
    random: Annotated[int, typer.Option(help="bigbird: blocks that are drawn at random.")] = 3,
    as_json: Json = False,
) -> None:
    """Make a checkpoint read longer texts: a folder that transformers loads too."""
    from wellread import given
    from wellread.models.long import extend as long

    if attention not in (None, "window", "full", "bigbird"):
        what = f"{attention!r} is no attention"
        raise UserError(what, where="--attention", fix="give window, full or bigbird")
    wanted = long.Extension(length, attention, window, block, random)  # type: ignore[arg-type]
    found = long.extend(given.checkpoint(checkpoint), to, wanted)
    print(json.dumps(found | {"folder": str(to)}, indent=1) if as_json else to)
    say(f"{found['class']}, {found['length']} tokens, {found['parameters'] / 1e6:.1f}M parameters.")
    say(f"Next: `wellread finetune --model {to} --data FILE`.")


def augment(
    task: Annotated[Path, typer.Argument(help="Task folder; with --known a benchmark's original files.")],
    generator: Annotated[Path, typer.Option(help="A transformers folder of a decoder, or a GGUF file.")],
    out: Annotated[Path, typer.Option(help="Folder to make, or to go on with.")],
    known: Annotated[str | None, typer.Option(help="Name of the known task.")] = None,
    way: Annotated[list[str] | None, typer.Option(help="rewrite or new; default both.")] = None,
    copies: Annotated[int, typer.Option(min=1, help="Texts of each way for each source.")] = 1,
    sources: Annotated[int | None, typer.Option(min=1, help="Training examples to start from.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Texts that are written side by side.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of all draws.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Let a language model on this machine write more training examples; check them; write task folders."""
    from wellread.augment import run as augmenting
    from wellread.tasks.known import read_known
    from wellread.tasks.read import read_task

    ways = augmenting.check_ways(way or [])
    settings = augmenting.AugmentSettings(ways, copies, sources, batch=batch, seed=seed)
    read = read_known(known, task) if known else read_task(task)
    augmenting.augment(read, generator, out, settings, quiet=quiet)
    print(out / "tasks")
    say("Next: fine-tune on each of these task folders, several seeds each, and compare.")


def export(
    run: RunArgument,
    to: Annotated[Path, typer.Option(help="Folder to make.")],
    task: Annotated[str | None, typer.Option(help="Task; default the pre-trained model.")] = None,
    model: Annotated[str | None, typer.Option(help="Variant; default the main one.")] = None,
    force: Annotated[bool, typer.Option(help="Replace an earlier export.")] = False,
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="transformers (default), onnx, onnx-int8, openvino or openvino-int8; "
            "once or more, all go into one folder. Or sentence-transformers: texts as mean vectors.",
        ),
    ] = None,
    labelled: Annotated[
        Path | None,
        typer.Option("--data", help="For int8: labelled data of the task; default those of the run."),
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Store the weights in half precision.")] = False,
) -> None:
    """Copy a model into a folder that any transformers user can load, or make graphs for fast engines."""
    from wellread.serve.engines.formats import check_formats
    from wellread.serve.export import export as copy
    from wellread.serve.export import head_of

    formats = check_formats(kinds or ["transformers"])
    plain = formats in (("transformers",), ("sentence-transformers",))
    if half and not plain:
        raise UserError("engines have no half precision", where="--half", fix="leave it out, or export int8")
    folder, text = _model_folder(run, task, model), None
    head = head_of(folder)
    if folder != run:
        from wellread.report import card, gather

        text = card.card(gather.gather(run), task, model, head)
    if not plain:
        from wellread.serve.engines.folder import export_engine, task_of

        of = task_of(None if folder == run else run, task, labelled)
        export_engine(folder, to, formats, task=of, force=force, card=text)
        print(to)
        say(f"Next: `wellread predict {to} --input FILE`; README.md there shows how to do without Wellread.")
        return
    if formats == ("sentence-transformers",):
        from wellread.serve.sentences import export_sentences

        export_sentences(folder, to, force=force, card=text, half=half)
        print(to)
        say(f"Next: `SentenceTransformer({str(to)!r})`, with or without Wellread.")
        return
    copy(folder, to, force=force, card=text, half=half)
    print(to)
    say(
        f"Next: `wellread predict {to} --input FILE`; without Wellread the head {head!r} does not answer."
        if head
        else f"Next: `AutoModel.from_pretrained({str(to)!r})`, with or without Wellread."
    )


def _model_folder(run: Path, task: str | None, model: str | None) -> Path:
    """The model meant by a run folder with a task, or by an exported model's own folder.

    Raises:
        UserError: there is no such folder, task or variant; or a model's own folder, with one of these named.
    """
    from wellread.api import open_run

    if (run / "config.json").exists() or (run / "committee.json").exists():
        for key, value in (("--task", task), ("--model", model)):
            if value is not None:
                what, fix = "the folder is that of one model", "leave it out, or give the run folder"
                raise UserError(what, where=f"{key} {value}", fix=fix)
        return run
    return open_run(run).model(task, model)
