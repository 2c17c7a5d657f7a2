"""The order of Pre-trained Distillation, and committees of shallow models against a deep one; resumable.

    python experiments/distillation/run.py --run runs/NAME --out WORK

Teachers are the run's fine-tuned models (or --teachers FOLDER, with a model in FOLDER/TASK/model); the
student is smaller, and is pre-trained here on the run's tokens.  Every stage gets the same steps.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wellread import files
from wellread.compress.distil import committee, student, transfer
from wellread.compress.distil import teacher as teachers
from wellread.compress.distil.settings import DistilSettings
from wellread.compress.distil.student import Lesson
from wellread.evaluate.metrics import score
from wellread.finetune.loop import FinetuneResult, finetune
from wellread.guard import guarded
from wellread.models import build
from wellread.pretrain.loop import pretrain
from wellread.progress import say
from wellread.serve.predict import Predictor
from wellread.settings import FinetuneSettings, ModelSettings, PretrainSettings
from wellread.stages import stage_folder
from wellread.tasks.read import read_task
from wellread.tasks.task import Task
from wellread.tokens import tokenizer as tokenizers

ARMS = ("random + fine-tune", "random + distil", "pre-train + fine-tune", "PD", "PD + fine-tune")


def main() -> None:
    given = arguments()
    torch.set_num_threads(given.threads)
    facts = {
        key: str(value) for key, value in vars(given).items() if key not in ("threads", "part", "results")
    }
    if (given.out / "facts.json").exists() and files.read_json(given.out / "facts.json") != facts:
        raise SystemExit(f"{given.out} was made with other arguments; choose another --out")
    given.out.mkdir(parents=True, exist_ok=True)
    files.write_json(given.out / "facts.json", facts)
    found = {"arguments": facts}
    if given.part in ("order", "both"):
        found["order"] = order(given)
    if given.part in ("committee", "both"):
        found["committee"] = committees(given)
    files.write_json(given.results or given.out / "results.json", found)
    say(f"results: {given.results or given.out / 'results.json'}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="run folder with tokens, tasks and models")
    parser.add_argument("--out", type=Path, required=True, help="where everything is kept")
    parser.add_argument("--results", type=Path, help="JSON to write; default OUT/results.json")
    parser.add_argument("--part", choices=("order", "committee", "both"), default="both")
    parser.add_argument("--tasks", nargs="+", default=["role", "disease", "human"])
    parser.add_argument("--variant", default="dense", help="the run's model that teaches")
    parser.add_argument("--teachers", type=Path, help="other teachers: FOLDER/TASK/model")
    parser.add_argument("--layers", type=int, default=1, help="of the student")
    parser.add_argument("--hidden", type=int, default=64, help="of the student")
    parser.add_argument("--heads", type=int, default=1, help="of the student")
    parser.add_argument("--pretrain-tokens", type=int, default=8_000_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sizes", nargs="+", type=int, default=[2_000, 20_000], help="unlabelled texts")
    parser.add_argument("--steps", type=int, default=1500, help="of every arm")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--deep-layers", type=int, default=6)
    parser.add_argument("--shallow-hidden", type=int, default=128, help="of the deep model and the members")
    parser.add_argument("--members", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def training(given: argparse.Namespace) -> FinetuneSettings:
    values = {
        "batch": 32,
        "min_steps": given.steps,
        "max_steps": given.steps,
        "learning_rate": given.rate,
        "max_length": given.max_length,
        "evaluations": 6,
        "patience": 6,
    }
    return FinetuneSettings.model_validate(values)


def order(given: argparse.Namespace) -> dict[str, Any]:
    """Scores by task, arm, transfer size and seed."""
    shape = shape_of(given.layers, given.hidden, given.heads)
    start = pretrained(given, "student", shape, seed=0)
    found: dict[str, Any] = {}
    for name in given.tasks:
        task = read_task(stage_folder(given.run, f"tasks/{name}"), name)
        teacher = (given.teachers or stage_folder(given.run, f"finetune/{name}")) / (
            f"{name}/model" if given.teachers else f"{given.variant}/model"
        )
        found[name] = {"metric": task.metric, "teacher": teacher_scores(task, teacher), "arms": []}
        for size in given.sizes:
            lesson = lesson_of(given, task, teacher, start, size)
            for arm in ARMS:
                if arm.endswith("+ fine-tune") and not arm.startswith("PD") and size != given.sizes[0]:
                    continue  # without the transfer set its size does not matter
                runs = [one_run(given, lesson, arm, size, seed, start, shape) for seed in range(given.seeds)]
                found[name]["arms"].append({"arm": arm, "size": size, **summary(runs, task.metric)})
                say(f"{name} {arm} {size}: {found[name]['arms'][-1]['dev']}")
    return found


def lesson_of(given: argparse.Namespace, task: Task, teacher: Path, start: Path, size: int) -> Lesson:
    chosen = DistilSettings(transfer=size)
    texts = transfer.gather(task, [str(given.run)], chosen).examples
    rows = teachers.kept_labels(teacher, texts, task, given.out / "soft" / task.name)
    return student.prepare(task, texts, rows, tokenizers.load(start), given.max_length, training(given))


def one_run(
    given: argparse.Namespace,
    lesson: Lesson,
    arm: str,
    size: int,
    seed: int,
    start: Path,
    shape: ModelSettings,
) -> dict[str, Any]:
    """Result of a run; one that is done is not done again."""
    task, tokenizer, settings = lesson.gold.task, tokenizers.load(start), training(given)
    begin = shape if arm.startswith("random") else start

    def fit() -> FinetuneResult:
        if arm.endswith("+ fine-tune") and not arm.startswith("PD"):
            return finetune(lesson.gold, task.splits["train"], begin, tokenizer, settings, seed)
        chosen = DistilSettings(transfer=size, fine_tune=arm == "PD + fine-tune")
        return student.distil(lesson, begin, tokenizer, chosen, settings, seed)

    name = arm.replace(" + ", "-").replace(" ", "-")
    return kept(given.out / "order" / task.name / f"{name}-{size}-{seed}", fit)


def committees(given: argparse.Namespace) -> dict[str, Any]:
    """A deep model and committees of 1 to K shallow ones: scores, and time of one text on one thread."""
    found: dict[str, Any] = {}
    for name in given.tasks:
        task = read_task(stage_folder(given.run, f"tasks/{name}"), name)
        rows = [row for seed in range(given.seeds) for row in scored(given, task, seed)]
        found[name] = {"metric": task.metric, "rows": rows, "equal": at_equal_latency(rows, task.metric)}
    return found


def scored(given: argparse.Namespace, task: Task, seed: int) -> list[dict[str, Any]]:
    """Scores and times of the deep model and of all committees of a seed; kept, so taken once."""
    kept_in = given.out / "committee" / task.name / f"scores-{seed}.json"
    if kept_in.exists():
        return files.read_json(kept_in)
    width = given.shallow_hidden
    heads = max(1, width // 64)
    deep = tuned(given, task, "deep", shape_of(given.deep_layers, width, heads), 0, seed)
    # Members differ in pre-training, head and order of the labels; every second one in its heads.
    shallow = [
        tuned(given, task, f"shallow-{n}", shape_of(1, width, heads * (1 + n % 2)), n, 1000 * seed + n)
        for n in range(given.members)
    ]
    models = {"deep": Predictor.load(deep)}
    members = [Predictor.load(one) for one in shallow]
    for count in range(1, given.members + 1):
        models[f"committee of {count}"] = committee.join(members[:count], shallow[:count])
    times = latency(models, task)
    rows = [
        {"model": label, "seed": seed, **times[label], **scores_of(model, task)}
        for label, model in models.items()
    ]
    files.write_json(kept_in, rows)
    return rows


def at_equal_latency(rows: list[dict[str, Any]], metric: str) -> list[dict[str, Any]]:
    """For each seed the deep model and the largest committee that is no slower."""
    found = []
    for seed in sorted({row["seed"] for row in rows}):
        deep, *others = (row for row in rows if row["seed"] == seed)
        fit = [row for row in others if row["p50_ms"] <= deep["p50_ms"]]
        best = fit[-1] if fit else None
        pair = {"deep": deep, "committee": best}
        found.append(
            {
                "seed": seed,
                **{
                    label: None
                    if row is None
                    else {
                        "model": row["model"],
                        "p50_ms": row["p50_ms"],
                        "dev": row["dev"][metric],
                        "test": row["test"][metric],
                    }
                    for label, row in pair.items()
                },
            }
        )
    return found


def latency(models: dict[str, Predictor], task: Task, texts: int = 60) -> dict[str, dict[str, float]]:
    """Milliseconds from text to prediction, one text at a time, the models in alternation on one thread."""
    torch.set_num_threads(1)
    times: dict[str, list[float]] = {name: [] for name in models}
    for number, example in enumerate(task.splits["test"][: texts + 5]):
        for name, model in models.items():
            began = time.perf_counter()
            next(model.predict([example.text]))
            if number >= 5:
                times[name].append(1000 * (time.perf_counter() - began))
    return {
        name: {"p50_ms": float(np.median(found)), "p95_ms": float(np.percentile(found, 95))}
        for name, found in times.items()
    }


def scores_of(model: Predictor, task: Task) -> dict[str, Any]:
    found = {}
    for split in ("dev", "test"):
        rows = teachers.soft_labels(model, task.splits[split], task.labels)
        found[split] = score(task, split, teachers.answers(task.kind, task.labels, rows, task.splits[split]))
    return found


def teacher_scores(task: Task, teacher: Path) -> dict[str, Any]:
    model = teachers.open_teacher(teacher, task)
    parameters = sum(weight.numel() for weight in model.model.parameters())
    return {"parameters": parameters, **scores_of(model, task)}


def tuned(
    given: argparse.Namespace, task: Task, name: str, shape: ModelSettings, pretrain_seed: int, seed: int
) -> Path:
    """Folder of a model, pre-trained once and fine-tuned on a task."""
    start = pretrained(given, name, shape, pretrain_seed)
    tokenizer, folder = tokenizers.load(start), given.out / "committee" / task.name / f"{name}-{seed}"

    def fit() -> FinetuneResult:
        from wellread.finetune.data import prepare

        data = prepare(task, task.splits["train"], tokenizer, given.max_length, training(given))
        return finetune(data, task.splits["train"], start, tokenizer, training(given), seed)

    kept(folder, fit, tokenizer)
    return folder / "model"


def kept(folder: Path, fit: Callable[[], FinetuneResult], tokenizer: Any = None) -> dict[str, Any]:
    """What a run gave; with a tokenizer its model is kept too."""
    if not folder.exists():
        result = fit()
        names = ("failed", "dev", "test", "steps", "best_step", "picked", "parameters")
        with files.new_folder(folder) as partial:
            if tokenizer is not None:
                build.save(result.model, tokenizer, partial / "model")
            files.write_json(partial / "result.json", {name: getattr(result, name) for name in names})
    return files.read_json(folder / "result.json")


def pretrained(given: argparse.Namespace, name: str, shape: ModelSettings, seed: int) -> Path:
    """Folder of a model pre-trained on the run's tokens; an interrupted pre-training goes on."""
    folder = given.out / "pretrain" / name
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "pretrain.json").exists():
        settings = PretrainSettings(
            tokens=given.pretrain_tokens,
            batch_tokens=1024,
            optimizer="muon",
            muon_learning_rate=0.008,
            learning_rate=1e-3,
            embedding_learning_rate=4e-3,
        )
        places = {part: stage_folder(given.run, part) for part in ("tokens", "tokenizer")}
        pretrain(shape, settings, **places, folder=folder, seed=seed)
    return folder / "model"


def shape_of(layers: int, hidden: int, heads: int) -> ModelSettings:
    return ModelSettings(layers=layers, hidden=hidden, heads=heads, max_length=256, init_std=0.088)


def summary(runs: list[dict[str, Any]], metric: str) -> dict[str, Any]:
    """Scores of all seeds, a failed one left out, with mean and spread on test."""
    whole = [one for one in runs if not one["failed"]]
    test = [one["test"][metric] for one in whole]
    return {
        "parameters": runs[0]["parameters"],
        "failed": len(runs) - len(whole),
        "dev": [round(one["dev"][metric], 4) for one in whole],
        "test": [round(value, 4) for value in test],
        "test_mean": statistics.fmean(test) if test else None,
        "test_std": statistics.stdev(test) if len(test) > 1 else None,
    }


if __name__ == "__main__":
    guarded(main)
