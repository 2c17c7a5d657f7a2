"""``wellread bench``: the command line of the measurements."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from wellread.commands.options import Json, Quiet
from wellread.errors import UserError, install
from wellread.progress import say

LINEARS = "384x384,384x1536,1536x384,768x768"
Threads = Annotated[str | None, typer.Option(help="Threads, each in turn; default 1,2.")]
Out = Annotated[Path | None, typer.Option(help="JSON file to write as well, part by part.")]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print Markdown tables.")]
bench = typer.Typer(help="Measure speed and memory on this machine.", no_args_is_help=True)


@bench.command("train")
def train(
    only: Annotated[str | None, typer.Option(help="Some of layers,steps,trainer,memory.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One thread, few pairs, short steps.")] = False,
    memory: Annotated[bool, typer.Option("--memory", help="Peak memory too (takes some GB).")] = False,
    threads: Threads = None,
    linear: Annotated[str, typer.Option(help="Layers, inputs x outputs.")] = LINEARS,
    tokens: Annotated[int | None, typer.Option(min=1, help="Tokens in a layer's call; default 4096.")] = None,
    shape: Annotated[str, typer.Option(help="Model, layers x width.")] = "6x384",
    vocabulary: Annotated[
        int | None, typer.Option(min=300, max=1_000_000, help="Of the made-up tokens; default 16384.")
    ] = None,
    max_length: Annotated[int, typer.Option(min=8, help="Longest sequence in tokens.")] = 512,
    batch_tokens: Annotated[int | None, typer.Option(min=8, help="Tokens in a step; default 4096.")] = None,
    tokens_from: Annotated[
        Path | None, typer.Option(help="Run folder whose tokens and tokenizer are used.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Counted pairs of each comparison.")] = None,
    memory_shape: Annotated[str, typer.Option(help="Model whose memory is measured.")] = "12x768",
    memory_tokens: Annotated[str, typer.Option(help="Tokens in its steps, each in turn.")] = "1024,4096",
    out: Out = None,
    as_json: Json = False,
    markdown: Markdown = False,
    quiet: Quiet = False,
) -> None:
    """Time sparse layers, sparse steps and transformers' Trainer against each other, in alternation."""
    from wellread.bench import options as reading
    from wellread.workers import cores

    _check(out)
    if tokens_from and vocabulary:
        what = "a run has its own vocabulary"
        raise UserError(what, where="--vocabulary", fix="leave out this or --tokens-from")
    usual = reading.QUICK_ROUNDS if quick else reading.ROUNDS
    if threads is None and quick:
        threads = "1"
    chosen = reading.Options(
        parts=reading.read_parts(only, memory),
        threads=reading.read_threads(threads, cores()),
        linears=reading.read_linears(linear),
        linear_tokens=tokens or (2048 if quick else 4096),
        shape=reading.read_shape(shape, "--shape"),
        vocabulary=vocabulary or 16384,
        max_length=max_length,
        batch_tokens=batch_tokens or (1024 if quick else 4096),
        rounds={part: rounds or usual[part] for part in usual},
        memory_shape=reading.read_shape(memory_shape, "--memory-shape"),
        memory_tokens=reading.read_numbers(memory_tokens, "--memory-tokens"),
        tokens_from=tokens_from,
        quiet=quiet,
    )
    if only is None and "trainer" not in chosen.parts:
        say(f"the Trainer is left out; to measure against it: {install('bench')}")
    from wellread.bench.run import run

    _show(run(chosen, _keeper(out)), as_json, markdown)


@bench.command("infer")
def infer(
    model: Annotated[Path | None, typer.Option(help="Folder of a fine-tuned model; default made up.")] = None,
    texts: Annotated[
        Path | None, typer.Option(help="Documents, one a line or JSONL; default made up.")
    ] = None,
    documents: Annotated[int, typer.Option(min=1, help="Documents of the file, at most.")] = 512,
    shape: Annotated[str, typer.Option(help="Made-up model, layers x width.")] = "6x384",
    layout: Annotated[str, typer.Option(help="Made-up model: modernbert or bert.")] = "modernbert",
    only: Annotated[str | None, typer.Option(help="Some of latency,file.")] = None,
    against: Annotated[str | None, typer.Option("--engines", help="Some of the contenders.")] = None,
    batches: Annotated[str, typer.Option(help="Texts in a call, each in turn.")] = "1,32",
    lengths: Annotated[str, typer.Option(help="Tokens in a text, each in turn.")] = "32,128,512",
    threads: Threads = None,
    rounds: Annotated[int, typer.Option(min=1, help="Counted pairs of short calls.")] = 30,
    out: Out = None,
    as_json: Json = False,
    markdown: Markdown = False,
    quiet: Quiet = False,
) -> None:
    """Time predictions of transformers, torch int8, ONNX Runtime and OpenVINO on the same weights."""
    from wellread.bench import infer_options as reading
    from wellread.bench.options import read_numbers, read_shape, read_threads
    from wellread.workers import cores

    _check(out)
    chosen = reading.InferOptions(
        model=model,
        texts=texts,
        documents=documents,
        shape=read_shape(shape, "--shape"),
        layout=reading.read_layout(layout),
        parts=reading.read_names(only, reading.PARTS, "--only"),
        contenders=reading.read_contenders(against),
        batches=read_numbers(batches, "--batches"),
        lengths=read_numbers(lengths, "--lengths"),
        threads=read_threads(threads, cores()),
        rounds=rounds,
        quiet=quiet,
    )
    from wellread.bench.infer import run

    _show(run(chosen, _keeper(out)), as_json, markdown)


@bench.command("table")
def table(
    file: Annotated[Path, typer.Argument(help="JSON that `wellread bench` wrote.")],
    markdown: Markdown = False,
) -> None:
    """Print earlier measurements as tables."""
    from wellread.bench.table import check
    from wellread.files import read_json

    _show(check(read_json(file), str(file)), False, markdown)


def _check(out: Path | None) -> None:
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise UserError("no file can be written here", where=str(out), fix="give a file in a folder that is")


def _keeper(out: Path | None) -> Callable[[list[dict[str, object]]], None]:
    """Writes records to the file, if there is to be one; each time all of them."""
    from wellread.files import write_json

    return lambda records: write_json(out, records) if out is not None else None


def _show(records: list[dict[str, object]], as_json: bool, markdown: bool) -> None:
    from wellread.bench.table import to_markdown, to_text

    if as_json:
        print(json.dumps(records, indent=1))
    else:
        print(to_markdown(records) if markdown else to_text(records))
