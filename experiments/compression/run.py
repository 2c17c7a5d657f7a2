"""Every method of compression on fine-tuned models, several seeds: size, latency, score; resumable.

    python experiments/compression/run.py --subject MODEL TASK --subject MODEL TASK ... --out WORK

MODEL is the folder of a fine-tuned model, TASK that of its labelled data.  Nothing is chosen here: every
method runs at the settings below, with every seed if it learns, and each model is scored on test.
"""

from __future__ import annotations

import argparse
import functools
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from table import LIMITS, write

from wellread import api, files, rng
from wellread.bench.infer_options import InferOptions
from wellread.compress import gate, pareto, units
from wellread.compress.binarise import accounting
from wellread.compress.distil import job as distilling
from wellread.compress.distil.settings import DistilSettings
from wellread.compress.subject import open_subject
from wellread.compress.targets import Candidate, missing
from wellread.compress.units import FP32, Shop
from wellread.errors import UserError
from wellread.guard import guarded
from wellread.models import build
from wellread.models.grow.shapes import settings_of
from wellread.progress import say
from wellread.settings import FinetuneSettings
from wellread.tasks.read import read_task
from wellread.tasks.task import Task
from wellread.workers import cores

HALF_FFN = {"ffn": 0.5}


def bits(name: str, *, learns: bool = False, **settings: Any) -> Candidate:
    more = {key: settings.pop(key) for key in ("high",) if key in settings}
    aware = {"aware": True} if learns else {}
    return Candidate(name, "quantise", {"quantise": settings, **more, **aware}, learns=learns)


EVERY = (
    *(
        Candidate(name, "engine", {"format": name})
        for name in ("onnx", "onnx-int8", "openvino", "openvino-int8")
    ),
    bits("int8-weights", method="int8"),
    bits("nf4", method="nf4"),
    bits("fp4", method="fp4"),
    bits("4bit", bits=4),
    bits("4bit+aware", bits=4, learns=True),
    bits("2-3bit+aware", bits=2, high=3, activation_bits=8, learns=True),
    bits("2-4bit+aware", bits=2, high=4, activation_bits=8, learns=True),
    Candidate("dual-binary", "dual", learns=True),
    Candidate("binary", "binary", learns=True),
    Candidate("pruned-ffn50", "structured", HALF_FFN, learns=True),
    Candidate("pruned-layer", "structured", {"layers": 1}, learns=True),
    Candidate("magnitude75", "magnitude", {"level": 0.75}, learns=True),
    Candidate("magnitude75-block16", "magnitude", {"level": 0.75, "pattern": "block16"}, learns=True),
    Candidate("movement75", "movement", {"level": 0.75}, learns=True),
    Candidate("wanda50", "wanda", {"level": 0.5}),
    Candidate(
        "pruned-ffn50+openvino-int8",
        "engine",
        {"format": "openvino-int8", "after": {"method": "structured", "settings": HALF_FFN}},
        learns=True,
    ),
    Candidate("early-exit", "early_exit", {"drop": 0.5}, learns=True),
)


class Counter(Shop):
    """A shop that also asks the model itself about test, once."""

    @functools.cached_property
    def said(self) -> gate.Answers:
        return gate.answers(self.open(self.subject.folder), self.subject.task, "test")


def main() -> None:
    given = arguments()
    api.use_threads(given.train_threads)
    found = []
    for number, (model, place) in enumerate(given.subject):
        task = shortened(read_task(place), given.most)
        settings = FinetuneSettings(recipe="stable", **limits(given, given.steps))
        folder = given.out / f"{number}-{task.name}"
        (folder / "units").mkdir(parents=True, exist_ok=True)
        shop = Counter(open_subject(model, task, settings), folder, (0,), speed(given))
        shop = replace(shop, speed=units.fitting(shop.speed, shop.work.max_length))
        rows = [measured(shop, FP32, [None])]
        rows += [row for one in EVERY if one.name in given.methods and (row := of(shop, one, given))]
        if given.student is not None:
            rows.append(distilled(shop, place, given))
        facts = {"model": weights_hash(model), "task": task.name, "kind": task.kind, "metric": task.metric}
        facts |= {key: getattr(given, key) for key in ("seeds", "threads", *LIMITS)}
        facts["machine"] = f"{api.processor()}, {cores()} core(s)"
        found.append({**facts, "rows": rows})
        write(given.results, found)


def arguments() -> argparse.Namespace:
    names = [one.name for one in EVERY]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--subject", nargs=2, type=Path, action="append", required=True, metavar=("MODEL", "TASK")
    )
    parser.add_argument("--out", type=Path, required=True, help="where the models are kept")
    parser.add_argument("--results", type=Path, default=Path("docs/results"), help="for table and JSON")
    parser.add_argument("--methods", nargs="+", default=names, choices=names)
    parser.add_argument("--student", type=Path, help="pre-trained checkpoint for Pre-trained Distillation")
    parser.add_argument("--text", nargs="*", default=(), help="unlabelled texts for it, as `wellread distil`")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="most optimiser steps of a training")
    parser.add_argument("--student-steps", type=int, help="most steps of a student's; default --steps")
    parser.add_argument("--max-length", type=int, help="longest input in tokens; default the model's")
    parser.add_argument("--most", type=int, help="dev and test examples of a task; a random sample")
    parser.add_argument("--rounds", type=int, default=30, help="counted pairs of short calls")
    parser.add_argument("--batches", nargs="+", type=int, default=(1, 32))
    parser.add_argument("--lengths", nargs="+", type=int, default=(32, 128, 512))
    parser.add_argument("--threads", type=int, default=1, help="while speed is measured")
    parser.add_argument("--train-threads", type=int, help="default all cores")
    return parser.parse_args()


def limits(given: argparse.Namespace, steps: int | None) -> dict[str, Any]:
    most = {"max_steps": steps, "min_steps": min(steps, 200)} if steps else {}
    return most | ({"max_length": given.max_length} if given.max_length else {})


def speed(given: argparse.Namespace) -> InferOptions:
    return InferOptions(
        threads=(given.threads,),
        rounds=given.rounds,
        batches=tuple(given.batches),
        lengths=tuple(given.lengths),
        quiet=True,
    )


def shortened(task: Task, most: int | None) -> Task:
    """The task with a random sample of dev and test, the same in every run."""
    splits = dict(task.splits)
    for name in ("dev", "test"):
        total = len(splits[name])
        if most and most < total:
            places = sorted(rng.permute(range(most), total, 0, "compression-sample", name == "test"))
            splits[name] = [splits[name][place] for place in places]
    return replace(task, splits=splits)


def of(shop: Counter, candidate: Candidate, given: argparse.Namespace) -> dict[str, Any] | None:
    """A method with every seed; None where it cannot be."""
    say(f"{shop.subject.task.name}: {candidate.name}")
    absent = missing(candidate)
    if absent:
        say(f"  left out: not installed: {', '.join(absent)}")
        return None
    seeds = range(given.seeds if candidate.learns else 1)
    try:
        for seed in seeds:
            one = replace(candidate, name=f"{candidate.name}-{seed}", learns=True)
            units.make(replace(shop, seeds=(seed,)), one)
    except UserError as error:
        say(f"  left out: {error.what}")
        return None
    return measured(shop, candidate.name, list(seeds))


def measured(shop: Counter, name: str, seeds: list[int | None]) -> dict[str, Any]:
    """Scores on test of all seeds; size and latency of the first."""
    places = [FP32 if seed is None else f"{name}-{seed}" for seed in seeds]
    records = units.latency(shop, places[0])
    row = scored(shop, [shop.model(place) for place in places])
    row |= {"name": name, "latency": pareto.timings([one for one in records if one["name"] == places[0]])}
    row["speed"] = pareto.speed([one for one in records if one["name"] == places[0]])
    if name == "binary":
        row["flops_ratio"] = counted(shop)
    return row


def scored(shop: Counter, models: list[Path]) -> dict[str, Any]:
    task = shop.subject.task
    before = shop.said
    judged = [gate.judge(task, "test", before, gate.answers(shop.open(one), task, "test")) for one in models]
    scores = [one["score"] for one in judged]
    return {
        "bytes": units.weight_bytes(models[0]),
        "scores": scores,
        "score": statistics.fmean(scores),
        "std": statistics.stdev(scores) if len(scores) > 1 else None,
        "drop": statistics.fmean(one["drop"] for one in judged),
        "agreement": statistics.fmean(one["agreement"] for one in judged),
        "interval": judged[0]["drop_interval"],
    }


def weights_hash(model: Path) -> str:
    """Names a model by its weights, wherever it lies."""
    return files.sha256_file(model / "model.safetensors")


def counted(shop: Shop) -> float | None:
    """FLOPs of the model over those of its binary form, as BiBERT counts, for an input of 128 tokens."""
    config: Any = build.load_config(shop.subject.folder)
    length = min(128, config.max_position_embeddings)
    if config.model_type not in ("bert", "modernbert"):
        return None
    shape = settings_of(config)
    if shape.layout == "bert":
        count = accounting.bert(shape, config.vocab_size, length)
        return count.real_flops / count.binary_flops
    real, binary = accounting.modernbert_flops(shape, length)
    return real / binary


def distilled(shop: Counter, task: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Pre-trained Distillation, then fine-tuning: the row of the students of all seeds."""
    job = distilling.prepare(
        shop.subject.folder,
        given.student,
        str(task),
        given.text,
        shop.folder / "distil",
        settings=DistilSettings(fine_tune=True),
        training=FinetuneSettings(
            recipe="stable",
            seeds=tuple(range(given.seeds)),
            **limits(given, given.student_steps or given.steps),
        ),
        threads=given.train_threads or cores(),
    )
    distilling.run(job, quiet=True)
    for seed in range(given.seeds):
        place = shop.folder / "units" / f"distilled-{seed}"
        if not place.is_symlink():
            place.symlink_to((job.out / "units" / str(seed)).resolve())
    found = files.read_json(job.out / "result.json")
    row = measured(shop, "distilled", list(range(given.seeds)))
    return row | {"parameters": found["student"]["parameters"]}


if __name__ == "__main__":
    guarded(main)
