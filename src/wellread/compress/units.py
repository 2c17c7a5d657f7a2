"""Candidates as units: the model of each, how it does on dev and how fast it is; each made once.

units/NAME/model/         what ``wellread predict`` reads
units/NAME/result.json    {"name", "says", "method", "settings", "runs": [{"seed", "score", "failure" where it
failed}], "seed", "bytes", "seconds" and the keys of :func:`wellread.compress.gate.judge`}
latency/NAME.json         {"facts", "records"}, records as of ``wellread bench infer``
sensitivity.json          {"inputs", "omega"}, of each layer
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from wellread import files
from wellread.bench import contenders, infer
from wellread.bench.infer import Work
from wellread.bench.infer_options import InferOptions
from wellread.bench.measure import Record
from wellread.compress import gate
from wellread.compress.gate import Answers
from wellread.compress.methods import METHODS
from wellread.compress.quantise.sensitivity import SensitivitySettings, sensitivities
from wellread.compress.subject import Subject
from wellread.compress.targets import Candidate
from wellread.errors import ArtefactError, UserError
from wellread.models import build
from wellread.pipeline.context import FINETUNING
from wellread.stages import code_hash
from wellread.workers import tokenizer_threads, torch_threads

FP32 = "fp32"
# What units are made with (tests/test_stage_code.py); tables and pages are no part of them.
CODE = (
    *FINETUNING,
    *(f"compress/{name}" for name in ("methods", "gate", "subject", "early_exit", "exits")),
    *(f"compress/{name}" for name in ("quantise", "prune", "binarise", "distil/committee")),
    *("serve/engines", "serve/predict", "serve/inputs", "serve/export"),
    *(f"objectives/{name}" for name in ("clm", "cross_entropy", "prediction")),
    *("sparsity", "evaluate/bootstrap"),
)
WEIGHTS = ("*.safetensors", "*.onnx", "*.xml", "*.bin")
# Enough to rank layers; the paper's ten parts of a tenth of the data take long on a processor.
SENSITIVITY = SensitivitySettings(parts=4, sequences=16, max_iterations=10)


@dataclass(frozen=True)
class Shop:
    """Where the candidates of one model are made.

    Attributes:
        subject: the model and its task.
        folder: of the units.
        seeds: of candidates that learn.
        speed: what is timed: batches, lengths, rounds, threads.
    """

    subject: Subject
    folder: Path
    seeds: tuple[int, ...]
    speed: InferOptions

    @cached_property
    def identity(self) -> str:
        """A hash of all that the candidates depend on but their own settings."""
        task = self.subject.task
        folder = sorted(self.subject.folder.iterdir())
        facts: list[Any] = [
            {path.name: files.sha256_file(path) for path in folder if _counts(path)},
            [task.kind, task.labels, task.metric],
            [repr(example) for split in ("train", "dev") for example in task.splits[split]],
            self.subject.settings.facts("seeds", "starts"),
            [code_hash(name) for name in CODE],
        ]
        return files.sha256_bytes(files.canonical_json(facts))

    @cached_property
    def reference(self) -> Answers:
        """What the model itself says of dev."""
        return gate.answers(self.open(self.subject.folder), self.subject.task, "dev")

    @cached_property
    def work(self) -> Work:
        """The texts whose predictions are timed: words of dev."""
        task, config = self.subject.task, build.load_config(self.subject.folder)
        texts = [" ".join(filter(None, (one.text, one.text_pair))) for one in task.splits["dev"]]
        longest = build.longest(config, self.subject.tokenizer)
        shape = f"{config.num_hidden_layers}x{config.hidden_size}"
        return Work(self.subject.folder, self.subject.tokenizer, longest, shape, texts, task.name)

    def open(self, folder: Path) -> Any:
        """A form of the model, ready to predict."""
        return gate.open_model(folder, self.subject.folder, self.speed.threads[0])

    def model(self, name: str) -> Path:
        """Folder of a form."""
        return self.subject.folder if name == FP32 else self.folder / "units" / name / "model"


def reference(shop: Shop) -> dict[str, Any]:
    """The row of the model itself."""
    judged = gate.judge(shop.subject.task, "dev", shop.reference, shop.reference)
    facts: dict[str, Any] = {"name": FP32, "says": "the model as it is", "method": None, "settings": {}}
    return {**facts, "runs": [], "seed": None, "bytes": weight_bytes(shop.subject.folder), **judged}


def make(shop: Shop, candidate: Candidate) -> dict[str, Any]:
    """A candidate's result, from its unit if it is there.

    Raises:
        UserError: the method cannot be used on this model or task, or a package is missing.
    """
    unit = shop.folder / "units" / candidate.name
    seeds = shop.seeds if candidate.learns else shop.seeds[:1]
    wanted = [shop.identity, candidate.method, candidate.settings, seeds]
    inputs = files.sha256_bytes(files.canonical_json(wanted))
    manifest = files.read_manifest(unit)
    if manifest is None or manifest.get("inputs") != inputs or files.problems(unit):
        with files.new_folder(unit, inputs=inputs) as partial:
            files.write_json(partial / "result.json", _made(shop, candidate, seeds, partial))
    return files.read_json(unit / "result.json")


def _made(shop: Shop, candidate: Candidate, seeds: Sequence[int], folder: Path) -> dict[str, Any]:
    """Make a candidate with each seed; ``folder/model`` is the best on dev, between equals the first.

    Raises:
        UserError: it can be made with none of them.
    """
    runs: list[dict[str, Any]] = []
    best: dict[str, Any] = {}
    failure: UserError | None = None
    began = time.perf_counter()
    for seed in seeds:
        place = folder / f"seed-{seed}"
        try:
            METHODS[candidate.method](shop.subject, candidate.settings, seed, place, lambda: omega(shop))
        except UserError as error:  # one seed may diverge, and the others not
            failure = error
            runs.append({"seed": seed, "score": None, "failure": error.what})
            shutil.rmtree(place, ignore_errors=True)
            continue
        found = gate.answers(shop.open(place), shop.subject.task, "dev")
        judged = gate.judge(shop.subject.task, "dev", shop.reference, found)
        runs.append({"seed": seed, "score": judged["score"]})
        if best and judged["score"] <= best["score"]:
            shutil.rmtree(place)
            continue
        shutil.rmtree(folder / "model", ignore_errors=True)
        place.rename(folder / "model")
        best = {"seed": seed, "bytes": weight_bytes(folder / "model"), **judged}
    if failure and not best:
        raise failure
    facts = {key: getattr(candidate, key) for key in ("name", "says", "method", "settings")}
    return {**facts, "runs": runs, **best, "seconds": round(time.perf_counter() - began, 1)}


def omega(shop: Shop) -> list[float]:
    """The sensitivity of each layer, measured once."""
    path = shop.folder / "sensitivity.json"
    try:
        known = files.read_json(path)
        if known["inputs"] == shop.identity:
            return known["omega"]
    except (ArtefactError, KeyError, TypeError):
        pass
    found = [one.omega for one in sensitivities(shop.subject, shop.seeds[0], SENSITIVITY)]
    files.write_json(path, {"inputs": shop.identity, "omega": found})
    return found


def latency(shop: Shop, name: str, advance: Callable[[int], None] = lambda _: None) -> list[Record]:
    """Timings of a form against plain transformers, from its file if they are there."""
    threads, speed = shop.speed.threads[0], shop.speed
    path = shop.folder / "latency" / f"{name}.json"
    unit = files.read_manifest(shop.folder / "units" / name) or {}
    facts = {
        "model": shop.identity if name == FP32 else unit.get("sha256"),
        "shapes": [list(speed.batches), list(speed.lengths), speed.rounds, threads],
    }
    if path.exists():
        known = files.read_json(path)
        if known.get("facts") == facts:
            return known["records"]
    path.parent.mkdir(exist_ok=True)
    with torch_threads(threads), tokenizer_threads(threads):
        answers = contenders.make(shop.subject.folder, (), {}, threads, side_by_side=False)
        answers[name] = contenders.of_predictor(shop.open(shop.model(name)))
        records = infer.time_answers(speed, shop.work, answers, threads, advance)
    files.write_json(path, {"facts": facts, "records": records})
    return records


def fitting(speed: InferOptions, longest: int) -> InferOptions:
    """The same measurement without the lengths that the model cannot read; at least its longest."""
    lengths = tuple(length for length in speed.lengths if length <= longest) or (longest,)
    return replace(speed, lengths=lengths)


def weight_bytes(folder: Path) -> int:
    """Bytes of weights and graphs on disk; tokenizer and configuration are the same for all."""
    found = {path for pattern in WEIGHTS for path in folder.rglob(pattern)}
    return sum(path.stat().st_size for path in found)


def _counts(path: Path) -> bool:
    return path.is_file() and path.name not in files.NOT_IDENTITY
