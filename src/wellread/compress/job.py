"""``wellread compress``: the smallest and fastest form of a fine-tuned model that keeps its quality.

The folder holds ``units/`` and ``latency/`` (see :mod:`.units`), ``model/`` (the form that was chosen),
``compress.json`` (everything that was measured), ``compress.html`` and ``README.md``.  An interrupted run
goes on where it was.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wellread import api, files, stages
from wellread.bench.infer import latency_tokens
from wellread.bench.infer_options import InferOptions
from wellread.compress import gate, page, pareto, units
from wellread.compress.subject import open_subject
from wellread.compress.targets import Candidate, Line, check, missing, plan
from wellread.compress.units import FP32, Shop
from wellread.errors import UserError, install
from wellread.models import build
from wellread.progress import Progress, say
from wellread.serve.engines.folder import task_of
from wellread.settings import FinetuneSettings
from wellread.workers import cores

RESULT = "compress.json"
ROUNDS = 15


@dataclass(frozen=True)
class Job:
    """What will be done.

    Attributes:
        model: folder of the fine-tuned model.
        run: run folder that it stands in, or None.
        task: name of the task in the run.
        data: labelled data instead of the run's.
        variant: of the run.
        target: a name of :data:`wellread.compress.targets.TARGETS`.
        max_drop: points of the metric that may be lost on dev.
        seeds: of what learns.
        out: folder to make, or to go on in.
        speed: what is timed.
    """

    model: Path
    run: Path | None
    task: str | None
    data: Path | None
    variant: str | None
    target: str
    max_drop: float
    seeds: int
    out: Path
    speed: InferOptions


def of_run(
    run: Path,
    task: str,
    *,
    target: str,
    max_drop: float,
    out: Path,
) -> Job:
    """A job on the main model of a run, with the usual measurement.

    Raises:
        UserError: the run has no such task, or it has not been built; or an unknown target.
    """
    check(target)
    model = api.open_run(run).model(task)
    speed = InferOptions(threads=(1,), rounds=ROUNDS, quiet=True)
    return Job(model, run, task, None, None, target, max_drop, 1, out, speed)


def run(job: Job, *, quiet: bool = False) -> dict[str, Any]:
    """Try the candidates, choose, and write the folder.

    Returns:
        What compress.json holds: {"model", "task", "kind", "metric", "examples", "target", "max_drop",
        "chosen" (a name, or None), "nearest" (what passes where no candidate of the target does), "rows":
        [results of :mod:`.units` with "why_not", "speed", "latency", "chosen"], "left_out": [{"name",
        "why"}], "test": {name: judgement on test}, "threads", "machine"}.

    Raises:
        UserError: the model or task cannot be compressed, or nothing passes the gate; the folder then tells
            what was tried.
    """
    check_place(job.out)
    shop = open_shop(job)
    tried = plan(job.target, build.load_config(job.model).num_hidden_layers, job.max_drop)
    with stages.locked(job.out):
        (job.out / "units").mkdir(exist_ok=True)
        rows = [units.reference(shop) | {"why_not": None}]
        left_out: list[dict[str, str]] = []
        passing = [_follow(job, shop, line, rows, left_out, quiet) for line in tried.lines]
        names, own = [name for name in passing if name], [row["name"] for row in rows[1:]]
        nearest = None if names else _follow(job, shop, tried.nearest, rows, left_out, quiet)
        rows = _timed(shop, rows, quiet)
        best = max((row for row in rows if row["name"] in names), key=lambda row: row["speed"], default=None)
        chosen = best["name"] if best else None
        rows = [row | {"chosen": row["name"] == chosen} for row in rows]
        found = _facts(job, shop, rows, left_out) | {"chosen": chosen, "nearest": nearest}
        found["test"] = _test(shop, chosen)
        _write(shop, found)
    if best is None:
        raise refusal(found, own)
    return found


def check_place(place: Path) -> None:
    """Refuse a folder that holds something else than an earlier attempt.

    Raises:
        UserError: always with another to choose.
    """
    if place.is_dir() and any(place.iterdir()) and not (place / "units").is_dir():
        raise UserError("the folder holds something else", where=str(place), fix="choose another --out")


def open_shop(job: Job) -> Shop:
    """Open the model and its task.

    Raises:
        UserError: there is no such model or task, or it cannot be compressed.
    """
    task = task_of(job.run, job.task, job.data)
    if task is None:
        raise UserError(
            "there is no labelled data to judge by",
            where=str(job.model),
            fix="give a run folder with --task, or --data FOLDER",
        )
    settings = FinetuneSettings(recipe="stable")
    longest = None
    if job.run is not None and job.task is not None and job.data is None:
        opened = api.open_run(job.run).recipe
        longest = opened.finetune_for(job.task, job.variant or opened.variant_names()[0]).max_length
    if longest is not None:
        settings = FinetuneSettings(recipe="stable", max_length=longest)
    shop = Shop(open_subject(job.model, task, settings), job.out, tuple(range(job.seeds)), job.speed)
    return replace(shop, speed=units.fitting(job.speed, shop.work.max_length))


def refusal(found: dict[str, Any], own: Sequence[str]) -> UserError:
    """What is said where no candidate passes.

    Args:
        found: as :func:`run` returns it.
        own: names of what was tried for the target itself.
    """
    where = f"--target {found['target']}"
    tried = [row for row in found["rows"] if row["name"] in own]
    if not tried:
        why = found["left_out"][0]["why"] if found["left_out"] else "there is nothing to try"
        return UserError(f"none of its forms can be made here: {why}", where=where, fix="choose another")
    best = min(tried, key=lambda row: row["drop"])
    fix = ""
    if near_enough := [row for row in tried if "agrees in" not in row["why_not"]]:
        least = min(near_enough, key=lambda row: row["drop"])
        fix = f"--max-drop {least['drop'] + 0.005:.2f} lets {least['name']} pass"
    if found["nearest"]:
        row = next(row for row in found["rows"] if row["name"] == found["nearest"])
        near = f"the nearest that passes is {row['name']} ({row['says']}; {row['bytes'] / 1e6:.2f} MB)"
        fix = f"{near}, in units/{row['name']}/model; {fix}" if fix else near
    return UserError(
        f"no form passes the gate; the nearest of {len(tried)} tried, {best['name']}, {best['why_not']}",
        where=where,
        fix=fix or "keep the model as it is",
    )


def _follow(
    job: Job,
    shop: Shop,
    line: Line,
    rows: list[dict[str, Any]],
    left_out: list[dict[str, str]],
    quiet: bool,
) -> str | None:
    """Try a line until one passes, and return its name."""
    for candidate in line:
        if candidate.name in {row["name"] for row in rows}:
            continue
        if not quiet:
            say(f"{job.target}: {candidate.name} ({candidate.says})")
        why, row = _impossible(candidate), None
        try:
            row = None if why else units.make(shop, candidate)
        except UserError as error:
            why = error.what
        if row is None:
            left_out.append({"name": candidate.name, "why": str(why)})
            _tell(quiet, f"  left out: {why}")
            continue
        reason = gate.why_not(row, job.max_drop, candidate.agreement)
        rows.append(row | {"why_not": reason})
        told = (
            f"{row['score']:.2f} on dev, {pareto.points(row['drop'])} lost, agrees in {row['agreement']:.2%}"
        )
        _tell(quiet, f"  {told}: {f'fails, {reason}' if reason else 'passes'}")
        if reason is None:
            return candidate.name
    return None


def _impossible(candidate: Candidate) -> str | None:
    packages = missing(candidate)
    return f"not installed: {', '.join(packages)} ({install('deploy')})" if packages else None


def _tell(quiet: bool, text: str) -> None:
    if not quiet:
        say(text)


def _timed(shop: Shop, rows: list[dict[str, Any]], quiet: bool) -> list[dict[str, Any]]:
    """The rows with their speed; first the model itself, against plain transformers."""
    found = []
    total = len(rows) * latency_tokens(shop.speed, 1)
    with Progress("latency", total, "tokens", quiet=quiet) as progress:
        for row in rows:
            records = units.latency(shop, row["name"], progress.advance)
            own = [one for one in records if one["name"] == row["name"]]
            found.append(row | {"speed": pareto.speed(own), "latency": pareto.timings(own)})
    return found


def _test(shop: Shop, chosen: str | None) -> dict[str, Any]:
    """The model and what was chosen on test, which has not been looked at before."""
    if chosen is None:
        return {}
    task = shop.subject.task
    before, after = (gate.answers(shop.open(shop.model(name)), task, "test") for name in (FP32, chosen))
    return {FP32: gate.judge(task, "test", before, before), chosen: gate.judge(task, "test", before, after)}


def _facts(
    job: Job, shop: Shop, rows: list[dict[str, Any]], left_out: list[dict[str, str]]
) -> dict[str, Any]:
    task = shop.subject.task
    return {
        "model": str(job.model),
        "task": task.name,
        "kind": task.kind,
        "metric": task.metric,
        "examples": len(task.splits["dev"]),
        "target": job.target,
        "max_drop": job.max_drop,
        "rows": rows,
        "left_out": left_out,
        "threads": shop.speed.threads[0],
        "machine": f"{api.processor()}, {cores()} core(s)",
    }


def _write(shop: Shop, found: dict[str, Any]) -> None:
    """The model that was chosen, and what tells of it."""
    place = shop.folder
    if found["chosen"] is None:
        shutil.rmtree(place / "model", ignore_errors=True)
    else:
        with files.new_folder(place / "model") as partial:
            shutil.copytree(shop.model(found["chosen"]), partial, dirs_exist_ok=True)
            (partial / files.MANIFEST).unlink(missing_ok=True)  # a graph's own, of the folder that it was
    files.write_json(place / RESULT, found)
    files.write_bytes(place / "compress.html", page.render(found).encode())
    files.write_bytes(place / "README.md", page.readme(found).encode())
