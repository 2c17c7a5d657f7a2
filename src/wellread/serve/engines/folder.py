"""Export a fine-tuned encoder into one folder: graphs, tokenizer, labels, hashes, and how to run it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from wellread import files
from wellread.errors import ArtefactError, UserError
from wellread.finetune.light import stored
from wellread.models import build
from wellread.serve import export, predict
from wellread.serve.engines import agreement, onnx, onnx_int8, openvino, openvino_int8, parity, readme
from wellread.serve.engines.engine import FACTS, OPEN, feed, open_engine
from wellread.serve.engines.formats import FORMATS, TRANSFORMERS, check_formats
from wellread.serve.predict import Predictor
from wellread.sparsity.linear import STACKS
from wellread.stages import stage_folder
from wellread.tasks.task import Example, Task

CALIBRATION = 300  # texts, as NNCF takes by default
FILES = {"onnx": "onnx/model.onnx", "openvino": "openvino/model.xml"}
ENCODERS = ("modernbert", "bert")
USED = ("torch", "tokenizers", "numpy")  # by every format


def export_engine(
    folder: str | Path,
    to: str | Path,
    formats: str | Sequence[str],
    calibration_texts: Sequence[Any] = (),
    *,
    task: Task | None = None,
    force: bool = False,
    card: str | None = None,
    keep_layers: Sequence[int] = (),
) -> dict[str, Any]:
    """Export a fine-tuned encoder for one engine or several.

    Every graph is compared with the model in torch over a grid of shapes before anything is kept.

    Args:
        folder: a fine-tuned stock classifier of sequences or tokens.
        to: the folder to make.
        formats: names of :data:`.formats.FORMATS`, and "transformers" for the stock checkpoint beside them.
        calibration_texts: inputs as :meth:`Predictor.predict` takes them, for formats that are calibrated.
        task: of the model; its training texts calibrate where no others are given, and on its dev set int8 is
            compared with floating point.
        force: replace an earlier export.
        card: the model card, which then begins README.md.
        keep_layers: numbers of layers whose matrix products stay in floating point in int8 formats.

    Returns:
        What engine.json holds: {"kind", "labels", "max_length", "pad_id", "inputs", "parity", "engines":
        {name: {"format", "file", "bytes", "int8", "agreement", "versions"}}}; "agreement" is that of
        :func:`.agreement.compare`, None where it was not measured.

    Raises:
        ArtefactError: no such model, one that no engine can run, or a graph that differs from the model.
        UserError: an unknown format, a missing package, no texts to calibrate on, or ``to`` is taken.
    """
    folder, to = Path(folder), Path(to)
    names = check_formats([formats] if isinstance(formats, str) else formats)
    reference = _open(folder)
    _refuse_others(task, reference, folder)
    chosen = [name for name in names if name != TRANSFORMERS]
    if not chosen:
        raise UserError("no engine's format", where="--format", fix=f"one of: {', '.join(FORMATS)}")
    examples = predict.examples(calibration_texts, reference.kind) or (task.splits["train"] if task else [])
    if any(FORMATS[name].calibrated for name in chosen) and not examples:
        raise UserError(
            "this format is calibrated on texts of the task, and there are none",
            where=f"--format {','.join(chosen)}",
            fix="give the labelled data with --data, or the run folder with --task",
        )
    export.check_place(folder, to, force=force)
    with export.writing(to), files.new_folder(to) as partial:
        facts = _write(folder, partial, reference, chosen, examples, keep_layers)
        if task is not None:
            _compare(partial, reference, facts, task)
        files.write_json(partial / FACTS, facts)
        patterns = export.PATTERNS if TRANSFORMERS in names else export.BESIDE
        export.copy_files(folder, partial, patterns)
        section = readme.text(facts)
        (partial / "README.md").write_text(f"{card}\n{section}" if card else section, "utf-8")
    return facts


def task_of(run: Path | None, task: str | None, data: Path | None) -> Task | None:
    """The labelled data of a model: those given, else those of its run; None where there are none."""
    from wellread.tasks.read import read_task

    if data is not None:
        return read_task(data)
    return None if run is None or task is None else read_task(stage_folder(run, f"tasks/{task}"), task)


def _refuse_others(task: Task | None, reference: Predictor, folder: Path) -> None:
    """Refuse data that the model was not fine-tuned on.

    Raises:
        ArtefactError: their kind or labels are others than the model's.
    """
    if task is None or (task.kind == reference.kind == "regress"):
        return
    if task.kind != reference.kind or set(task.labels) != set(reference.labels):
        raise ArtefactError(
            f"the model's labels are not those of {task.name}",
            where=str(folder),
            fix="give the data that the model was fine-tuned on",
        )


def _open(folder: Path) -> Predictor:
    """The model in torch.

    Raises:
        ArtefactError: it cannot become a graph, with what to do instead.
    """
    config = build.load_config(folder)
    export.refuse_ours(folder)
    what = fix = ""
    if stored.is_light(folder):
        what = "a model in two parts cannot become one graph"
        fix = 'fine-tune with light.method "lora", "bitfit" or "full", which leave a plain model'
    elif (folder / predict.NOTES).exists():
        what = "a model with another head than the classifier cannot be exported to an engine"
        fix = 'fine-tune with finetune.head "classifier", or use --format transformers'
    elif config.model_type not in ENCODERS:
        what = f"engines run encoders ({', '.join(ENCODERS)}), not {config.model_type}"
        fix = "use --format transformers; for GGUF, convert that with llama.cpp"
    if what:
        raise ArtefactError(what, where=str(folder), fix=fix)
    return Predictor.load(folder, "torch")


def _write(
    folder: Path,
    partial: Path,
    reference: Predictor,
    formats: Sequence[str],
    examples: Sequence[Example],
    keep_layers: Sequence[int],
) -> dict[str, Any]:
    """Write the graphs of all formats; returns the folder's facts."""
    model: Any = build.load(folder, "tag" if reference.kind == "tag" else "classify").eval()
    inputs = ["input_ids", "attention_mask"]
    if model.config.model_type == "bert" and "token_type_ids" in reference.tokenizer.model_input_names:
        inputs.append("token_type_ids")
    pad_id = int(reference.tokenizer.pad_token_id)
    engines: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="wellread-export-") as scratch:
        plain = Path(scratch) / "model.onnx"
        onnx.write(model, inputs, plain)
        kept = onnx.layer_products(plain, STACKS[model.config.model_type], keep_layers) if keep_layers else []
        checks = []
        for name in formats:
            engine, path = FORMATS[name].engine, partial / FILES[FORMATS[name].engine]
            path.parent.mkdir()
            checks.append(
                parity.check(model, OPEN[engine](plain, 1, 1), inputs, reference.max_length, str(folder))
            )
            if name == "onnx":
                shutil.copyfile(plain, path)
            elif name == "onnx-int8":
                onnx_int8.write(plain, path, kept)
            elif name == "openvino":
                openvino.write(plain, path)
            else:
                feeds = _feeds(reference, examples, tuple(inputs), pad_id)
                openvino_int8.write(plain, path, feeds, kept)
            engines[engine] = _facts(name, path, partial)
    return {
        "kind": reference.kind,
        "labels": list(reference.labels),
        "iob2": reference.iob2,
        "max_length": reference.max_length,
        "pad_id": pad_id,
        "inputs": inputs,
        "parity": max(checks, key=lambda one: one["largest_difference"]),
        "engines": engines,
    }


def _facts(name: str, path: Path, partial: Path) -> dict[str, Any]:
    return {
        "format": name,
        "file": path.relative_to(partial).as_posix(),
        "bytes": sum(one.stat().st_size for one in path.parent.iterdir()),
        "int8": FORMATS[name].int8,
        "agreement": None,
        "versions": {package: version(package) for package in (*USED, *FORMATS[name].packages)},
    }


def _feeds(
    reference: Predictor, examples: Sequence[Example], inputs: tuple[str, ...], pad_id: int
) -> list[dict[str, np.ndarray]]:
    """Single texts, evenly spread over those given, as inputs of the graph."""
    places = np.unique(np.linspace(0, len(examples) - 1, min(CALIBRATION, len(examples))).astype(int))
    encoded = reference.head.encode([examples[place] for place in places], reference.max_length)
    return [feed(encoded, np.array([number]), inputs, pad_id) for number in range(len(encoded.lengths))]


def _compare(partial: Path, reference: Predictor, facts: dict[str, Any], task: Task) -> None:
    """Put the agreement of each int8 engine with floating point into the facts."""
    for name, one in facts["engines"].items():
        if one["int8"]:
            other = predict.with_engine(reference, open_engine(partial, facts, name, 1, 1))
            one["agreement"] = agreement.compare(reference, other, task)
