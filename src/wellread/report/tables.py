"""The report's tables as plain lists and dictionaries, ready for the template."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from wellread.report import charts, inference, numbers, results, words
from wellread.report.charts import Style
from wellread.report.gather import RunFacts, Variant
from wellread.report.results import Score

Looks = dict[tuple[str, str], Style]


def tiles(facts: RunFacts) -> list[tuple[str, str]]:
    """The figures at the top, as (number, what it is)."""
    found = []
    main = facts.main
    if main:
        found.append((numbers.short(main.facts.get("parameters", 0)), "parameters"))
        found.append((numbers.short(main.facts.get("tokens", 0)), "tokens read"))
        if main.sparse:
            found.append((words.share(main.zeros), "of the layers' weights at zero in pre-training"))
        ratio = words.flops_ratio(main)
        if ratio and ratio > 1.005:
            found.append((f"{ratio:.2f}×", "fewer accounted FLOPs than dense (not a time)"))
    if facts.costs:
        found.append((numbers.duration(sum(cost.seconds for cost in facts.costs)), "for all stages"))
        peak = max(facts.costs, key=lambda cost: cost.peak_bytes)
        if peak.peak_bytes:
            found.append((numbers.size(peak.peak_bytes), f"peak memory ({peak.stage})"))
    return found


def models(facts: RunFacts) -> list[dict[str, Any]]:
    """One column of facts per variant, as (name, value) pairs in the same order."""
    return [{"name": variant.title, "rows": _model_rows(variant)} for variant in facts.variants]


def _model_rows(variant: Variant) -> list[tuple[str, str]]:
    known, shape = variant.facts, variant.model
    counted = known.get("flops") or {}
    ratio = words.flops_ratio(variant)
    layout = words.LAYOUTS.get(shape.layout, shape.layout)
    rows = [
        ("Layout", f"{layout} {'decoder' if shape.causal else 'encoder'}"),
        ("Started from", f"checkpoint {shape.start}" if shape.start else "random weights"),
        ("Layers × width", f"{shape.layers} × {shape.hidden}"),
        (
            "Heads, feed-forward width",
            f"{shape.heads}, {variant.config.get('intermediate_size', shape.inner)}",
        ),
        ("Longest input", f"{numbers.whole(known.get('max_length') or shape.max_length)} tokens"),
        ("Vocabulary", numbers.whole(variant.config.get("vocab_size", 0)) if variant.config else "–"),
        ("Parameters", numbers.whole(known.get("parameters", 0))),
        ("Parameters without embeddings", numbers.whole(known.get("parameters_without_embeddings", 0))),
        ("Sparsity", _sparsity_words(variant)),
        ("Objective", _objective(variant)),
        ("Tokens read", numbers.whole(known.get("tokens", 0))),
        ("Steps", numbers.whole(known.get("steps", 0))),
        ("Optimiser, peak rate", _optimiser(variant)),
        ("Last validation loss", _loss(known.get("loss"))),
        ("Loss of word frequencies alone", _loss(known.get("frequency_loss"))),
        ("FLOPs as if dense", numbers.flops(counted["dense"]) if counted.get("dense") else "–"),
        ("FLOPs accounted", numbers.flops(counted["accounted"]) if counted.get("accounted") else "–"),
        ("Ratio", f"{ratio:.2f}×" if ratio else "–"),
    ]
    pace = words.speed(variant)
    if pace:
        rows.append(("Training time", numbers.duration(variant.timing[-1]["seconds"])))
        rows.append(("Tokens per second", numbers.whole(pace)))
    return rows


def _loss(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _sparsity_words(variant: Variant) -> str:
    if not variant.sparse:
        return "dense"
    pattern = variant.facts.get("pattern", "")
    method = variant.facts.get("dynamic", {}).get("method")
    moving = f", moving ({words.DYNAMIC[method]})" if method else ""
    asked = variant.facts["sparsity"]
    instead = f" ({words.share(asked)} asked for)" if words.share(asked) != words.share(variant.zeros) else ""
    return f"{words.share(variant.zeros)}{instead}, {words.PATTERNS.get(pattern, pattern)}{moving}"


def _objective(variant: Variant) -> str:
    if variant.facts.get("objective", variant.settings.objective) == "clm":
        return "causal LM"
    rate = variant.facts.get("mask_rate") or variant.settings.mask_rate
    return f"masked LM, {numbers.percent(rate, 0)} masked"


def _optimiser(variant: Variant) -> str:
    how = variant.settings
    if how.optimizer == "muon":
        said = f"Muon {how.muon_learning_rate:g}, AdamW {how.learning_rate:g}"
    else:
        said = f"AdamW, {how.learning_rate:g}"
    if how.embedding_learning_rate:
        said += f", embeddings {how.embedding_learning_rate:g}"
    return f"{said}; bfloat16 products" if variant.facts.get("products") == "bfloat16" else said


def losses(facts: RunFacts) -> list[dict[str, Any]]:
    """First and last validation of each variant."""
    return [
        {
            "name": variant.title,
            "first": variant.validation[0]["loss"],
            "last": variant.validation[-1]["loss"],
            "accuracy": variant.validation[-1].get("accuracy"),
            "bits": variant.validation[-1].get("bits_per_byte"),
            "tokens": variant.validation[-1]["tokens"],
            "flops": variant.validation[-1]["flops"],
            "seconds": variant.timing[-1]["seconds"] if variant.timing else None,
        }
        for variant in facts.variants
        if variant.validation
    ]


def sparsity(facts: RunFacts) -> list[dict[str, Any]]:
    """Per sparse variant: the matrices by kind, each with its level in every layer."""
    return [
        {"name": variant.title, "what": _sparsity_words(variant), "kinds": _kinds(variant)}
        for variant in facts.variants
        if variant.sparse and variant.sparsity.get("layers")
    ]


def _kinds(variant: Variant) -> list[dict[str, Any]]:
    kinds = defaultdict(list)
    for layer in variant.sparsity["layers"]:
        kinds[re.sub(r"^.*?\.\d+\.", "", layer["name"])].append(layer)
    return [
        {
            "kind": kind,
            "shape": " × ".join(map(str, layers[0].get("shape") or [])),
            "low": min(layer["level"] for layer in layers),
            "high": max(layer["level"] for layer in layers),
            "dead": sum(int(layer.get("dead_rows") or 0) for layer in layers),
            "layers": len(layers),
            "strip": charts.strip(
                [layer["level"] for layer in layers], f"{variant.title}, {kind}: share of zeros per layer"
            ),
        }
        for kind, layers in kinds.items()
    ]


def legend(facts: RunFacts, by_task: dict[str, list[Score]], looks: Looks) -> list[tuple[Style, str]]:
    """Name and look of every line in the learning curves."""
    named = {one.key: results.name(one, facts) for groups in by_task.values() for one in groups}
    return [(look, named[key]) for key, look in looks.items() if key in named]


def overview(facts: RunFacts, by_task: dict[str, list[Score]]) -> dict[str, Any]:
    """All tasks and numbers of labels in rows, all models in columns."""
    every = [one for groups in by_task.values() for one in groups]
    looks = results.styles(facts, every)
    named = {one.key: results.name(one, facts) for one in every}
    keys = [key for key in looks if key in named]
    rows = []
    for task, groups in by_task.items():
        for labels in results.amounts(groups):
            here = {one.key: one for one in results.at(groups, labels)}
            marks = results.ranks(list(here.values()))
            first = next(iter(here.values()))
            rows.append(
                {
                    "task": task,
                    "metric": numbers.metric_name(first.metric),
                    "labels": labels,
                    "cells": [_cell(here.get(key), marks.get(key, "")) for key in keys],
                }
            )
    return {"columns": [named[key] for key in keys], "rows": rows}


def _cell(one: Score | None, mark: str) -> dict[str, Any]:
    if one is None:
        return {"score": "", "interval": "", "mark": "", "value": None}
    return {
        "score": numbers.score(one.mean, one.metric),
        "interval": numbers.interval(one.interval, one.metric),
        "mark": mark,
        "value": one.mean,
    }


def scores(facts: RunFacts, groups: list[Score], looks: Looks) -> dict[str, Any]:
    """A task's table: a block of rows per number of labels, intervals on one scale for the task."""
    shown = [one for one in groups if one.model != "majority"] or groups
    edges = [edge for one in shown for edge in (one.interval or (one.mean, one.mean)) if edge is not None]
    scale = (min(edges), max(edges)) if edges else (0.0, 1.0)
    others = list(dict.fromkeys(name for one in groups for name in one.metrics if name != one.metric))
    blocks: list[dict[str, Any]] = []
    for labels in results.amounts(groups):
        here = results.at(groups, labels)
        marks = results.ranks(here)
        rows: list[dict[str, Any]] = [_score_row(facts, one, marks.get(one.key, ""), others) for one in here]
        for row, one in zip(rows, here, strict=True):
            row["picture"] = (
                charts.whisker(one.mean, one.interval, scale, looks[one.key]) if one.mean is not None else ""
            )
        blocks.append({"labels": labels, "rows": rows})
    measured = any(inference.cost(facts, one) != inference.UNKNOWN for one in groups)
    return {
        "others": [numbers.metric_name(name) for name in others],
        "costs": inference.COLUMNS if measured else (),
        "blocks": blocks,
    }


def _score_row(facts: RunFacts, one: Score, mark: str, others: list[str]) -> dict[str, Any]:
    spread = ""
    if one.low is not None and one.high is not None and len(one.seeds) > 1:
        spread = f" ({numbers.score(one.low, one.metric)} to {numbers.score(one.high, one.metric)})"
    return {
        "name": results.name(one, facts),
        "value": one.mean,
        "score": numbers.score(one.mean, one.metric),
        "interval": numbers.interval(one.interval, one.metric),
        "spread": spread,
        "seeds": len(one.seeds),
        "failed": one.failed,
        "mark": mark,
        "costs": inference.cells(facts, one),
        "others": [numbers.score(one.metrics.get(name), name) for name in others],
    }


def classes(facts: RunFacts, task: str, labels: list[str]) -> list[dict[str, Any]]:
    """How many examples of each label the splits hold."""
    if task not in facts.tasks:
        return []
    counted = facts.tasks[task].classes
    named = list(dict.fromkeys([*labels, *(name for split in counted.values() for name in split)]))
    named = [name for name in named if any(name in split for split in counted.values())]
    return [
        {"label": name, **{split: counts.get(name, 0) for split, counts in counted.items()}} for name in named
    ]


def failures(facts: RunFacts, task: str, groups: list[Score]) -> list[str]:
    """The failed runs of a task and why they failed, one line each; those found in evaluation by number."""
    lines = []
    for one in groups:
        broken = [
            unit
            for unit in facts.units
            if unit.get("failed")
            and (unit["task"], unit["model"], unit["start"], unit["labels"]) == (task, *one.key, one.labels)
        ]
        where = f"{results.name(one, facts)}, {numbers.plural(one.labels, 'label')}"
        lines += [
            f"{where}, seed {unit['seed']}: {unit.get('failure') or 'no reason noted'}" for unit in broken
        ]
        if one.failed > len(broken):
            rest = numbers.plural(one.failed - len(broken), "seed")
            lines.append(f"{where}: {rest} not above the majority class on dev")
    return lines


def costs(facts: RunFacts) -> list[dict[str, Any]]:
    """Each stage's seconds with its share of the longest, and its peak memory."""
    longest = max((cost.seconds for cost in facts.costs), default=0.0) or 1.0
    return [
        {"stage": one.stage, "seconds": one.seconds, "share": one.seconds / longest, "peak": one.peak_bytes}
        for one in facts.costs
    ]


def provenance(facts: RunFacts) -> list[tuple[str, list[tuple[str, str]]]]:
    """Hashes, versions and the machine, in groups of (name, value)."""
    known = {key: value for key, value in facts.run.items() if key not in ("built", "up_to_date", "recipe")}
    plain = [
        (key, str(value)) for key, value in known.items() if not isinstance(value, dict) and value is not None
    ]
    groups = [("Run", [("recipe.toml (SHA-256)", facts.recipe_sha256), *plain])]
    for key, value in known.items():
        if isinstance(value, dict):
            rows = [(name, _plain(name, part)) for name, part in value.items() if part is not None]
            groups.append((key.capitalize(), rows))
    if facts.inputs:
        groups.append(("Input files (SHA-256)", list(facts.inputs.items())))
    groups.append(("Stages (SHA-256 of the content)", [(one.stage, one.identity) for one in facts.artefacts]))
    return [(name, rows) for name, rows in groups if rows]


def _plain(name: str, value: Any) -> str:
    return numbers.size(value) if name.endswith("_bytes") and isinstance(value, int) else str(value)
