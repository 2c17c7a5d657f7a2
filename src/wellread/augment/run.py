"""From a task to the same task with generated training examples, resumable.

out/generated.jsonl      what the generator wrote, request by request
out/tasks/original/      a task folder for every arm of the comparison; dev and test are the same in all
out/tasks/rewrite/  new/  both/  shuffled/
out/report.json          how many were asked for, unreadable, refused, let in
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from wellread import files, rng
from wellread.augment import ask, generator, screen
from wellread.augment.ask import Request, Way
from wellread.augment.generator import Sampling
from wellread.errors import DataError, UserError
from wellread.progress import Progress, say
from wellread.tasks.read import write_task
from wellread.tasks.subset import subset
from wellread.tasks.task import Example, Task


@dataclass(frozen=True)
class AugmentSettings:
    """What is generated.

    Attributes:
        ways: "rewrite", "new" or both.
        copies: of each way for each source.
        sources: training examples to start from, drawn at random; None for all.
        context_words: words of the context that are shown for "new".
        batch: prompts that are read side by side.
        sampling: of the generator.
        seed: of everything.
    """

    ways: tuple[Way, ...] = ("rewrite", "new")
    copies: int = 1
    sources: int | None = None
    context_words: int = 200
    batch: int = 8
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0


def augment(
    task: Task, model: Path, out: Path, settings: AugmentSettings, *, quiet: bool = False
) -> dict[str, Any]:
    """Generate, check, and write one task folder for each arm.

    Args:
        task: a classification task; only its train split is ever shown to the generator.
        model: a transformers folder or a GGUF file.
        out: folder; a generation that was interrupted there goes on.
        settings: what to generate.
        quiet: say nothing.

    Returns:
        What stands in ``report.json``.

    Raises:
        DataError: not a classification task, or "new" without contexts.
        ArtefactError: the generator cannot be loaded.
        UserError: ``out`` holds what was generated from something else.
    """
    if task.kind != "classify" or any(one.options for one in task.splits["train"]):
        raise DataError(
            "only classification tasks without options are augmented", where=task.name, fix="choose another"
        )
    sources, left_out = screen.clean_sources(task)
    if settings.sources is not None:
        clean = replace(task, splits={**task.splits, "train": sources})
        sources = subset(clean, settings.sources, settings.seed)
    requests = list(ask.requests(sources, settings.ways, settings.copies, settings.context_words))
    answers = _generate(requests, model, out, settings, quiet=quiet)
    arms, report = _arms(task, requests, answers, settings)
    for name, train in arms.items():
        facts = {**task.facts, "augmented": name}
        arm = replace(task, splits={**task.splits, "train": train}, facts=facts)
        write_task(task if name == "original" else arm, out / "tasks" / name)
    report |= {"task": task.name, "sources": len(sources), "sources_near_dev_or_test": left_out}
    report["settings"] = asdict(settings)
    files.write_json(out / "report.json", report)
    if not quiet:
        say(to_text(report))
    return report


def check_ways(given: Sequence[str]) -> tuple[Way, ...]:
    """The ways by name, all of them if none is given.

    Raises:
        UserError: there is no such way.
    """
    wrong = [name for name in given if name not in ask.PROMPTS]
    if wrong:
        raise UserError(f"unknown way {wrong[0]!r}", where="--way", fix=f"one of: {', '.join(ask.PROMPTS)}")
    return tuple(way for way in ask.PROMPTS if way in given or not given)


def to_text(report: dict[str, Any]) -> str:
    """The report for people."""
    lines = []
    for way, counts in report["ways"].items():
        lines.append(f"{way}: " + ", ".join(f"{number} {what}" for what, number in counts.items()))
    lines += [f"tasks/{name}: {number} training examples" for name, number in report["train"].items()]
    return "\n".join(lines)


def _arms(
    task: Task, requests: Sequence[Request], answers: Sequence[str], settings: AugmentSettings
) -> tuple[dict[str, list[Example]], dict[str, Any]]:
    """Training examples of every arm, the originals first, and the counts."""
    train, closed = task.splits["train"], {"yes", "no"} <= set(task.labels)
    made: list[Example] = []
    ways: dict[str, Counter[str]] = {way: Counter() for way in settings.ways}
    for request, answer in zip(requests, answers, strict=True):
        text = ask.question(answer, request.source.text, closed=closed)
        ways[request.way]["asked for"] += 1
        if text is None:
            ways[request.way]["without a question"] += 1
        elif ask.copies_example(text, request):
            ways[request.way]["copies of the worked example"] += 1
        else:
            made.append(replace(request.source, id=request.id, text=text))
    way_of = {request.id: request.way for request in requests}
    good: dict[str, list[Example]] = {}
    for way in settings.ways:
        own, refused = screen.admit(task, [one for one in made if way_of[one.id] == way])
        good[way] = screen.in_shares(own, train)
        ways[way] |= refused
        ways[way]["over their label's share"] = len(own) - len(good[way])
        ways[way]["let in"] = len(good[way])
    both = [one for way in settings.ways for one in good[way]]
    arms = {"original": list(train)}
    arms |= {way: [*train, *good[way]] for way in settings.ways}
    if len(settings.ways) > 1:
        arms["both"] = [*train, *both]
    arms["shuffled"] = [*train, *screen.shuffled(both, settings.seed)]
    report = {
        "ways": {way: dict(counts) for way, counts in ways.items()},
        "train": {name: len(examples) for name, examples in arms.items()},
        "labels": {
            name: dict(sorted(Counter(str(one.label) for one in examples).items()))
            for name, examples in arms.items()
        },
    }
    return arms, report


def _generate(
    requests: Sequence[Request], model: Path, out: Path, settings: AugmentSettings, *, quiet: bool
) -> list[str]:
    """The generator's answers in the order of the requests; what is in the file is not asked again."""
    folder = generator.prepare(model, out / "generator", quiet=quiet)
    path = out / "generated.jsonl"
    out.mkdir(parents=True, exist_ok=True)
    answers = _resume(path, _inputs(requests, folder, settings), settings.batch, len(requests))
    if len(answers) == len(requests):
        return answers
    writer = generator.load(folder)
    label = f"generate for {len(requests) // max(1, settings.copies * len(settings.ways))} examples"
    with (
        Progress(label, len(requests), "texts", done=len(answers), quiet=quiet) as progress,
        open(path, "ab") as stream,
    ):
        for first in range(len(answers), len(requests), settings.batch):
            batch = requests[first : first + settings.batch]
            seed = rng.derive(settings.seed, "augment", first)
            prompts = [(request.prompt, request.lead) for request in batch]
            texts = generator.complete(writer, prompts, settings.sampling, seed)
            lines = [
                json.dumps({"id": request.id, "text": text}, ensure_ascii=False) + "\n"
                for request, text in zip(batch, texts, strict=True)
            ]
            stream.write("".join(lines).encode())
            stream.flush()
            os.fsync(stream.fileno())
            answers += texts
            progress.advance(len(batch))
    return answers


def _resume(path: Path, inputs: str, batch: int, total: int) -> list[str]:
    """The answers of the whole batches in the file, which is cut behind them (and begun where there is none).

    Raises:
        UserError: the file was made from something else.
    """
    header = files.canonical_json({"inputs": inputs}) + b"\n"
    data = path.read_bytes() if path.exists() else b""
    if b"\n" not in data:
        files.write_bytes(path, header)
        return []
    lines = data[: data.rfind(b"\n") + 1].splitlines(keepends=True)
    if not lines or lines[0] != header:
        raise UserError(
            "generated from another task, generator or settings",
            where=str(path),
            fix="choose another folder, or delete this file",
        )
    whole = len(lines) - 1
    if whole < total:
        whole -= whole % batch
    kept = lines[: 1 + whole]
    os.truncate(path, sum(map(len, kept)))
    return [json.loads(line)["text"] for line in kept[1:]]


def _inputs(requests: Sequence[Request], folder: Path, settings: AugmentSettings) -> str:
    """A hash of all that the generated text depends on."""
    weights = {
        path.name: files.sha256_file(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != files.MANIFEST
    }
    asked = [[request.id, request.prompt, request.lead] for request in requests]
    facts = [asked, weights, settings.batch, settings.seed, asdict(settings.sampling)]
    return files.sha256_bytes(files.canonical_json(facts))
