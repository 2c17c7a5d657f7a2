"""A run folder as the stages leave it, with made-up but plausible numbers; the same every time."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from wellread import files

RECIPE = """
name = "quick"
description = "A sparse encoder for the sentences of abstracts."
[corpus]
sources = ["sample.jsonl"]
[model]
layers = 3
hidden = 128
heads = 4
max_length = 256
[pretrain]
tokens = 1_500_000
{variants}
{tasks}
"""
ROLES = ["BACKGROUND", "OBJECTIVE", "METHODS", "RESULTS", "CONCLUSIONS"]
DISEASES = [f"Disease group number {number}" for number in range(1, 17)]
TERMS = [
    "immunohistochemistry", "tumor", "acetylcholinesterase", "myocardial", "hyperglycemia", "carcinoma",
    "phosphorylation", "lymphocyte", "cytokine", "randomized", "pharmacokinetics", "angiotensin", "hepatitis",
    "thrombocytopenia", "electrocardiogram", "methyltransferase", "neurotransmitter", "glomerulonephritis",
    "erythropoietin", "corticosteroid",
]  # fmt: skip
PREDICTABLE = {"pretrained": 0.0, "random": -0.09, "rival": -0.04}


def make(
    run: Path,
    *,
    variants: tuple[tuple[str, float, str], ...] = (
        ("sparse75", 0.75, "unstructured"),
        ("dense", 0.0, "unstructured"),
    ),
    tasks: tuple[str, ...] = ("sentence-role", "human-animal", "disease-category"),
    budgets: tuple[Any, ...] = (100, 500, "all"),
    seeds: tuple[int, ...] = (0, 1, 2),
    shift: float = 0.0,
    labels: dict[str, list[str]] | None = None,
    pretrained: bool = True,
) -> Path:
    """Write every file of docs/architecture.md that the report reads.

    Args:
        run: where.
        variants: (name, sparsity, pattern); one alone named "main" is a recipe without variants.
        tasks: names; those that are not known get two labels.
        budgets, seeds: of fine-tuning.
        shift: added to all scores of pre-trained models.
        labels: label names of a task instead of the usual ones.
        pretrained: whether there are pre-training stages.
    """
    known = {
        "sentence-role": ROLES,
        "disease-category": DISEASES,
        "human-animal": ["animal", "human"],
        **(labels or {}),
    }
    run.mkdir(parents=True)
    table = "".join(
        f'[[variants]]\nname = "{name}"\npretrain.sparsity = {{level = {level}, pattern = "{pattern}"}}\n'
        for name, level, pattern in variants
        if name != "main"
    )
    wanted = "".join(
        f'[tasks.{task}]\nderive = "sentence-role"\nbudgets = {json.dumps(list(budgets))}\n' for task in tasks
    )
    (run / "recipe.toml").write_text(RECIPE.format(variants=table, tasks=wanted))
    stages = run / "stages"
    _corpus(stages)
    _tokenizer(stages)
    for task in tasks:
        _task(stages / "tasks" / task, task, known.get(task, ["no", "yes"]))
    if pretrained:
        for name, level, pattern in variants:
            _pretrain(stages / "pretrain" / name, level, pattern)
    if tasks:
        _evaluate(
            stages, variants, {task: known.get(task, ["no", "yes"]) for task in tasks}, budgets, seeds, shift
        )
    for place, folder in enumerate(sorted(_stage_folders(stages))):
        files.write_json(
            folder / "costs.json",
            {"seconds": 12.5 * (place + 1), "peak_memory_bytes": 4 * 10**8 + place * 10**7},
        )
        name = folder.relative_to(stages).as_posix()
        files.write_manifest(folder, fingerprint=files.sha256_bytes(folder.name.encode()), stage=name)
    _provenance(run)
    return run


def _stage_folders(stages: Path) -> list[Path]:
    single = [stages / name for name in ("corpus", "selection", "tokenizer", "tokens", "evaluate")]
    several = [
        *stages.glob("tasks/*"),
        *stages.glob("pretrain/*"),
        *stages.glob("finetune/*/*"),
        *stages.glob("rivals/*"),
    ]
    return [folder for folder in (*single, *several) if folder.is_dir()]


def _provenance(run: Path) -> None:
    files.write_json(
        run / "run.json",
        {
            "recipe": {"name": "quick", "sha256": "0" * 64},
            "wellread": "0.1.0",
            "commit": "0123456789abcdef0123456789abcdef01234567",
            "code": {"corpus": "a" * 64, "pretrain": "b" * 64},
            "python": "3.11.9",
            "libraries": {"torch": "2.13.0", "transformers": "5.23.0"},
            "machine": {"system": "Linux x86_64", "processor": "A processor", "cores": 2, "threads": 2,
                        "memory_bytes": 8 * 10**9, "gpu": None},
            "began": "2026-01-02T03:04:05Z",
            "seconds": 412.0,
            "built": ["corpus"],
            "up_to_date": [],
        },
    )  # fmt: skip
    files.write_json(run / "inputs.json", {"/data/sample.jsonl": [123, 456, "c" * 64]})


def _corpus(stages: Path) -> None:
    folder = stages / "corpus"
    folder.mkdir(parents=True)
    publishers = {
        f"Publisher {letter} and Company, all rights reserved": 900 - 10 * ord(letter)
        for letter in "ABCDEFGHIJK"
    }
    edges = (0, 20, 50, 100, 150, 200, 250, 300, 400, 500, 1000, 2000, 5000, 10000)
    counts = (0, 400, 1800, 3600, 4100, 4300, 2600, 900, 300, 40, 3, 0, 0, 0)
    files.write_json(
        folder / "report.json",
        {
            "documents_read": 20788,
            "kept": 18043,
            "dropped": {"language": 1102, "too short": 1391, "duplicate (exact)": 41, "duplicate (near)": 9},
            "duplicates": {"ids": 0, "exact": 41, "near": 211},
            "words": 3931556,
            "characters": 26123456,
            "replacement_characters": 3,
            "words_per_document": {"min": 20, "p5": 61, "median": 214, "max": 1204, "mean": 218.0},
            "lengths": [
                {"from": low, "to": high, "documents": count}
                for low, high, count in zip(edges, (*edges[1:], None), counts, strict=True)
            ],
            "languages": {"eng": 18001, "not stated": 42},
            "sections": {"none": 13073, **{role: 4970 - 700 * place for place, role in enumerate(ROLES)}},
            "sources": {"pubmed-sample": 18043},
            "licences": {"not stated": 9120, **publishers},
            "years": {"1977": 2, "2018": 40, "2019": 1031, "2020": 14020, "2021": 2900, "not stated": 50},
            "files": [{"name": "sample.jsonl", "bytes": 1000, "sha256": "c" * 64, "documents": 20788}],
        },
    )  # fmt: skip
    selection = stages / "selection"
    selection.mkdir()
    (selection / "train_ids.txt").write_text("".join(f"pmid:{n}\n" for n in range(900)))
    (selection / "valid_ids.txt").write_text("".join(f"pmid:{n}\n" for n in range(900, 910)))
    files.write_json(selection / "leakage.json", {})


def _tokenizer(stages: Path) -> None:
    folder = stages / "tokenizer"
    folder.mkdir(parents=True)

    def measures(vocabulary: int, per_word: float, step: int) -> dict[str, Any]:
        pieces = {term: [term[i : i + step] for i in range(0, len(term), step)] for term in TERMS}
        return {"vocab_size": vocabulary, "words": 39000, "distinct_words": 6100, "tokens_per_word": per_word,
                "whole_words": 2 - per_word, "unknown_words": 0.0001, "terms": pieces}  # fmt: skip

    files.write_json(
        folder / "fertility.json",
        {"own": measures(8192, 1.41, 9), "general": measures(30522, 1.62, 4), "note": ""},
    )
    for split, tokens in (("train", 1_480_000), ("valid", 15_000)):
        place = stages / "tokens" / split
        place.mkdir(parents=True)
        files.write_json(place / "store.json", {"tokens": tokens, "documents": 900, "bytes": 5 * tokens})


def _task(folder: Path, task: str, labels: list[str]) -> None:
    folder.mkdir(parents=True)
    sizes = {"train": 40 * len(labels), "dev": 10 * len(labels), "test": 15 * len(labels) + 100}
    for split, size in sizes.items():
        lines = [
            json.dumps({"id": f"{split}{n}", "text": "words", "label": labels[n % len(labels)]})
            for n in range(size)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    quoted = ", ".join(json.dumps(label) for label in labels)
    (folder / "task.toml").write_text(
        f'name = "{task}"\nkind = "classify"\nmetric = "macro_f1"\nlabels = [{quoted}]\nderived = true\n'
        f'source = "derived from the corpus"\nlicence = ""\n[counts]\ntrain = {sizes["train"]}\n'
        f"dev = {sizes['dev']}\ntest = {sizes['test']}\n"
    )


def _pretrain(folder: Path, level: float, pattern: str) -> None:
    (folder / "model").mkdir(parents=True)
    files.write_json(folder / "model" / "config.json", {"vocab_size": 8192, "intermediate_size": 352})
    steps, per_step, slower = 180, 8200, 1.03 if level else 1.0
    dense = 6.2e9 * per_step / 8200
    kept = 1 - 0.62 * level
    rows, checks, clock = [], [], []
    for step in range(steps + 1):
        tokens = step * per_step
        loss = 3.4 + 5.6 * math.exp(-step / 28) + 0.25 * level + 0.04 * math.sin(1.7 * step)
        row = {"step": step, "tokens": tokens, "flops": dense * kept * tokens / 8, "loss": loss}
        if step:
            rows.append({**row, "learning_rate": 2e-3, "gradient_norm": 0.7})
            clock.append({"step": step, "seconds": 1.31 * slower * step})
        if step % 18 == 0:
            checks.append({**row, "loss": loss + 0.02, "accuracy": 0.36 - 0.03 * level})
    for name, lines in (("log", rows), ("validation", checks), ("timing", clock)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    names = ("attn.Wqkv", "attn.Wo", "mlp.Wi", "mlp.Wo")
    shapes = ([384, 128], [128, 128], [704, 128], [128, 352])
    layers = [
        {"name": f"model.layers.{layer}.{name}", "shape": shape, "level": level, "dead_rows": 0}
        for layer in range(3)
        for name, shape in zip(names, shapes, strict=True)
    ]
    files.write_json(
        folder / "sparsity.json",
        {"level": level, "pattern": pattern if level else "dense", "layers": layers if level else []},
    )
    total = steps * per_step
    files.write_json(
        folder / "pretrain.json",
        {
            "objective": "mlm", "layout": "modernbert", "steps": steps, "tokens": total,
            "parameters": 1_714_688, "parameters_without_embeddings": 649_728,
            "sparsity": level, "pattern": pattern,
            "flops": {"dense": dense * total / 8, "accounted": dense * kept * total / 8},
            "loss": checks[-1]["loss"], "max_length": 256, "mask_rate": 0.3,
        },
    )  # fmt: skip


def _evaluate(
    stages: Path, variants: Any, tasks: dict[str, list[str]], budgets: Any, seeds: Any, shift: float
) -> None:
    folder = stages / "evaluate"
    folder.mkdir(parents=True)
    models = [(name, "pretrained", level, pattern if level else "dense") for name, level, pattern in variants]
    models += [
        ("random", "random", 0.0, "dense"),
        ("tfidf", "rival", 0.0, "none"),
        ("majority", "rival", 0.0, "none"),
    ]
    summary: dict[str, Any] = {"tasks": {}}
    records = []
    for place, (task, labels) in enumerate(tasks.items()):
        groups = []
        for budget in budgets:
            for model, start, level, pattern in models:
                group = _group(place, labels, budget, model, start, seeds, shift)
                groups.append(
                    {"model": model, "start": start, "sparsity": level, "pattern": pattern, **group}
                )
                for seed, value in zip(seeds, _seed_values(group["mean"], seeds, place), strict=True):
                    shape = {"model": model, "start": start, "sparsity": level, "pattern": pattern}
                    which = {"labels": group["labels"], "budget": budget, "seed": seed}
                    score = {"metric": "macro_f1", "value": value}
                    records.append({"task": task, "split": "test", **shape, **which, **score})
                    _unit(
                        stages, records[-1], failed=start == "random" and budget == budgets[0] and seed == 0
                    )
        counts = {"train": 40 * len(labels), "dev": 10 * len(labels), "test": 15 * len(labels) + 100}
        summary["tasks"][task] = {
            "kind": "classify",
            "metric": "macro_f1",
            "labels": labels,
            "counts": counts,
            "groups": groups,
        }
    files.write_json(folder / "summary.json", summary)
    files.write_json(folder / "metrics.json", records)


def _seed_values(mean: float, seeds: Any, place: int) -> list[float]:
    middle = (len(seeds) - 1) / 2
    return [mean + 0.011 * (order - middle) * (1 + 0.1 * place) for order in range(len(seeds))]


def _group(
    place: int, labels: list[str], budget: Any, model: str, start: str, seeds: Any, shift: float
) -> dict[str, Any]:
    count = 6120 if budget == "all" else budget
    best = (0.86, 0.93, 0.62)[place % 3]
    mean = best - 0.9 / math.sqrt(count) + PREDICTABLE[start] + (0.012 if model == "dense" else 0.0)
    mean += shift if start == "pretrained" else 0.0
    if start == "random":
        mean += 0.02 * math.log10(count) - 0.03
    if place == 2 and model == "tfidf":
        mean += 0.09
    if model == "majority":
        mean = 1 / len(labels) / 2
    values = _seed_values(mean, seeds, place)
    half = 0.4 / math.sqrt(15 * len(labels) + 100)
    failed = int(start == "random" and budget != "all" and count == 100)
    return {
        "budget": budget, "labels": count, "seeds": list(seeds), "failed": failed, "mean": mean,
        "std": 0.011, "min": min(values), "max": max(values),
        "interval": [mean - half, mean + half], "metrics": {"macro_f1": mean, "accuracy": mean + 0.01},
        "confusion": _confusion(len(labels), mean, 3 * (15 * len(labels) + 100) // len(labels)),
        "calibration": None if model == "majority" else _bins(mean, 0.07 if model == "dense" else 0.02),
    }  # fmt: skip


def _confusion(size: int, right: float, row: int) -> list[list[int]]:
    wrong = [[(3 * i + 5 * j) % 7 if i != j else 0 for j in range(size)] for i in range(size)]
    cells = []
    for place, shares in enumerate(wrong):
        spread = [int(row * (1 - right) * share / (sum(shares) or 1)) for share in shares]
        spread[place] = row - sum(spread)
        cells.append(spread)
    return cells


def _bins(mean: float, off: float) -> dict[str, Any]:
    bins = [
        {
            "confidence": (n + 0.5) / 15,
            "accuracy": min(1.0, max(0.0, (n + 0.5) / 15 - off)),
            "count": 3 * n * n,
        }
        for n in range(5, 15)
    ]
    return {"ece": off, "bins": bins}


def _unit(stages: Path, record: dict[str, Any], *, failed: bool) -> None:
    rival = record["start"] == "rival"
    parent = (
        stages / ("rivals" if rival else "finetune") / record["task"] / ("" if rival else record["model"])
    )
    name = record["model"] if rival else record["start"]
    unit = parent / "units" / f"{name}-{record['budget']}-{record['seed']}"
    unit.mkdir(parents=True)
    files.write_json(
        unit / "result.json",
        {
            **{key: record[key] for key in ("task", "model", "start", "budget", "labels", "seed")},
            "failed": failed, "failure": "the loss became NaN" if failed else "", "truncated": 12,
            "dev": {}, "test": {"macro_f1": record["value"]}, "steps": 100, "best_step": 80,
            "history": [{"step": 10, "loss": 1.0, "dev": 0.5}],
        },
    )  # fmt: skip
    files.write_manifest(unit)
