"""What a recipe would take, and what is wrong with it, before anything runs: ``wellread plan``."""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wellread import pipeline, probe, recipe, stages
from wellread.api import find_recipe, use_threads
from wellread.errors import ArtefactError, DataError, UserError
from wellread.evaluate.rivals import ON_ENCODER
from wellread.recipe import Recipe
from wellread.settings import ModelSettings
from wellread.sparsity import flops

PROBE_SECONDS = 6.0
STARTING_SECONDS = 10.0  # loading the libraries, hashing inputs, evaluation and the report
LIBRARY_BYTES = 600_000_000  # torch and transformers in memory
SHARED_BYTES = 330_000_000  # of them, the files that processes share; by the quickstart's peak of 1.32 GB
ALLOCATOR_GROWTH = 1.12  # what a long run's allocator keeps beyond a short one's, measured on the quickstart
MANY_DOCUMENTS = 1000
MOST_FINDINGS = 20


def plan(recipe_path: str, out: Path | None = None) -> dict[str, Any]:
    """Examine a recipe and its data, and measure a little.

    Args:
        recipe_path: a recipe, or the name of one that comes along.
        out: the run folder it would go into; default ``runs/NAME``.

    Returns:
        {"recipe", "problems": [{"what", "where", "fix"}], "corpus", "models", "memory", "disk", "time",
        "writes"}; what could not be found out is None.

    Raises:
        RecipeError: the recipe itself is wrong.
    """
    path = find_recipe(recipe_path)
    settings = recipe.load(path)
    run = out or Path("runs") / settings.name
    use_threads(settings.threads)
    findings = Findings()
    with tempfile.TemporaryDirectory(prefix="wellread-plan-") as name:
        scratch = Path(name)
        _check_tasks(settings, path.parent, findings)
        sampled = _sample(settings, path.parent, scratch, findings)
        _check_models(settings, path.parent, findings)
        _check_lengths(settings, path.parent, findings)
        _check_texts(settings, path.parent, findings)
        text = _text(settings, sampled, scratch, path.parent, findings) if sampled else None
        trainings = {}
        if sampled and text:
            findings.seconds |= text.seconds
            for variant in settings.variant_names():
                try:
                    found = probe.pretraining(settings, variant, text, scratch, path.parent, PROBE_SECONDS)
                except UserError as error:
                    findings.add(error)
                    continue
                trainings[variant] = found
                _check_updates(settings, variant, found.steps, findings)
            _check_categories(settings, sampled, findings)
            for task in settings.tasks:
                _add_finetuning(settings, task, sampled, text, path.parent, findings)
        vocab = _vocabulary(settings, text)
        models = [
            _model(settings, variant, trainings.get(variant), vocab) for variant in settings.variant_names()
        ]
        _add_origins(settings, trainings, findings)
        findings.seconds["pretrain"] = sum(training.seconds for training in trainings.values())
        reduced = any(training.reduced for training in trainings.values()) or not trainings
        memory = _memory(settings, vocab, reduced)
    disk = _disk(settings, text, models)
    _check_room(run, disk, memory, findings)
    fresh = set() if findings.problems else _fresh(pipeline.Context(settings, path.parent, run, quiet=True))
    left = {kind: round(value, 1) for kind, value in findings.seconds.items() if kind not in fresh}
    return {
        "recipe": {"name": settings.name, "path": str(path), "description": settings.description},
        "problems": findings.problems,
        "notes": findings.notes,
        "corpus": text and {"documents": text.documents, "words": text.words, "tokens": text.tokens},
        "models": models,
        "memory": memory,
        "disk": disk,
        "time": text and {"seconds": round(sum(left.values()) + STARTING_SECONDS, 1), "stages": left},
        "up_to_date": sorted(fresh),
        "writes": [str(run / name) for name in ("report.html", "metrics.json", "model_card.md", "stages/")],
    }


@dataclass
class Findings:
    """What has been found out so far: problems, remarks, and seconds by kind of stage."""

    problems: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, error: UserError) -> None:
        """Take down an error as a problem."""
        self.problems.append({"what": error.what, "where": error.where, "fix": error.fix})


def _sample(settings: Recipe, base: Path, scratch: Path, findings: Findings) -> probe.Sample | None:
    from wellread.corpus.prepare import source_files

    try:
        found = probe.sample(settings.corpus, source_files(settings.corpus, base), scratch)
    except UserError as error:
        findings.add(error)
        return None
    if not found.documents:
        what = f"none of the {found.read} documents looked at passes the filters"
        findings.add(
            DataError(what, where="corpus", fix="look at corpus.languages, min_words and text_field")
        )
        return None
    if found.total < MANY_DOCUMENTS:
        findings.notes.append(f"about {found.total:.0f} documents: too few to learn a language from")
    return found


def _text(
    settings: Recipe, sampled: probe.Sample, scratch: Path, base: Path, findings: Findings
) -> probe.Text | None:
    try:
        return probe.text_stages(settings, sampled, scratch, base)
    except UserError as error:
        findings.add(error)
        return None


def _check_models(settings: Recipe, base: Path, findings: Findings) -> None:
    """Whether the checkpoints that the recipe names are here, and fit."""
    from wellread import known_models as known
    from wellread.models import build
    from wellread.models.grow.shapes import Shape, keeps_function
    from wellread.pretrain.parts import check_shape

    named = {f"checkpoints.{one.name}.start": one.start for one in settings.checkpoints}
    if set(settings.evaluate.rivals) & set(ON_ENCODER):
        named["evaluate.rivals"] = known.MINILM
    for key, given in named.items():
        try:
            build.load_config(known.folder_of(given, base, key))
        except UserError as error:
            findings.add(error)
    for variant in settings.variant_names():
        model = settings.model_for(variant)
        try:
            before = settings.forebear(variant)
            _check_teacher(settings, variant, base)
            if before:
                small = Shape.wanted(settings.model_for(before))
            elif model.start:
                small = Shape.of(build.load_config(known.folder_of(model.start, base, "model.start")))
            else:
                continue
            check_shape(small, model)
            if model.grow != "none":
                kept = "computes the same" if keeps_function(small, model) else "starts near it, not equal"
                was = f"{small.layers} x {small.hidden}"
                findings.notes.append(f"{variant}: grown from {was} ({model.grow}); {kept}")
        except UserError as error:
            findings.add(error)


def _check_categories(settings: Recipe, sampled: probe.Sample, findings: Findings) -> None:
    """Whether the documents' categories would be large enough, by the sample."""
    from wellread.objectives import categories

    scale = sampled.kept / max(1, len(sampled.documents))
    for of in dict.fromkeys(settings.pretrain_for(name).categories for name in settings.variant_names()):
        try:
            if of is not None:
                read = categories.reader(of)
                categories.label([read(document) for document in sampled.documents], of, scale)
        except UserError as error:
            findings.add(error)


def _check_teacher(settings: Recipe, variant: str, base: Path) -> None:
    """Whether a variant's teacher is here, is asked what it can answer, and reads the run's tokens.

    Raises:
        UserError: it does not; names the key.
    """
    from wellread.models import build
    from wellread.objectives import distillation
    from wellread.tokens import tokenizer

    teacher, model = settings.pretrain_for(variant).teacher, settings.model_for(variant)
    if teacher is None:
        return
    other = settings.teacher_variant(variant)
    if other:
        distillation.check_shape(settings.model_for(other), model.causal, model.max_length)
        return
    folder = Path(pipeline.with_teacher(settings.pretrain_for(variant), base, base).teacher.path)  # type: ignore[union-attr]
    distillation.check_shape(distillation.shape_of(build.load_config(folder)), model.causal, model.max_length)
    own = pipeline.tokenizer_settings(settings, base)
    if own.path is None or own.add_words:
        raise ArtefactError(
            "the run makes a tokenizer of its own, the teacher has another",
            where=distillation.KEY,
            fix="set tokenizer.path to the teacher's folder without add_words, or let a variant of the "
            'recipe teach (path = "variants.NAME")',
        )
    distillation.check_tokenizer(folder, tokenizer.load(own.path))


def _check_texts(settings: Recipe, base: Path, findings: Findings) -> None:
    """Whether the files of [texts] are here."""
    for name in settings.texts:
        try:
            pipeline.text_files(settings, base, name)
        except UserError as error:
            findings.add(error)


def _check_lengths(settings: Recipe, base: Path, findings: Findings) -> None:
    """Whether what each model is fine-tuned on fits its positions."""
    from wellread import known_models as known
    from wellread.finetune.grid import longest

    for name in (*settings.variant_names(), *(one.name for one in settings.checkpoints)):
        checkpoint, wrong = settings.checkpoint(name), set()
        try:
            key = f"checkpoints.{name}.start"
            start = known.folder_of(checkpoint.start, base, key) if checkpoint else settings.model_for(name)
        except UserError:  # told already
            continue
        for task in settings.tasks:
            try:
                longest(start, settings.finetune_for(task, name))
            except UserError as error:
                wrong.add((f"{name}: {error.what}", error.where, error.fix))
        for what, where, fix in sorted(wrong):
            findings.add(UserError(what, where=where, fix=fix))


def _add_origins(settings: Recipe, trainings: dict[str, probe.Training], findings: Findings) -> None:
    """Say what the variants that others start from cost; their FLOPs are not in the others' own."""
    for variant in trainings:
        before = settings.forebears(variant)
        if before:
            cost = sum(trainings[name].flops["accounted"] for name in before)
            findings.notes.append(
                f"{variant}: {cost:.3g} FLOPs were spent before on {', '.join(before)}, and come on top"
            )


def _vocabulary(settings: Recipe, text: probe.Text | None) -> int:
    """Entries of the vocabulary, where the recipe leaves them to another tokenizer those of that one."""
    from wellread.tokens import tokenizer

    wanted = settings.tokenizer
    if wanted.path is None or text is None:
        return wanted.vocab_size
    # The sample may have fewer words to add than the whole text has.
    loaded = tokenizer.load(text.tokenizer)
    return loaded.vocab_size + wanted.add_words if wanted.add_words else len(loaded)


def _check_updates(settings: Recipe, variant: str, steps: int, findings: Findings) -> None:
    from wellread.pretrain import average
    from wellread.sparsity import dynamic

    pretrain = settings.pretrain_for(variant)
    for check in (
        lambda: dynamic.check(pretrain.sparsity, steps),
        lambda: average.check(pretrain.ema_decay, steps),
    ):
        try:
            check()
        except UserError as error:
            findings.add(error)


def _check_tasks(settings: Recipe, base: Path, findings: Findings) -> None:
    """Everything that can be seen in the tasks' own files."""
    from wellread.finetune.data import check_head
    from wellread.tasks import build, check

    for name, task in settings.tasks.items():
        if task.path is None:
            continue
        try:
            build.source_files(task, base, f"tasks.{name}")
            read = build.read_source(name, task, base)
            for variant in settings.variant_names():
                layout = settings.model_for(variant).layout
                check_head(settings.finetune_for(name, variant), read, layout, task.budgets)
            found = [] if task.known else check.check(recipe.resolve(task.path, base, f"tasks.{name}.path"))
        except UserError as error:
            findings.add(error)
            continue
        errors = [finding for finding in found if finding.severity == "error"]
        for finding in errors[:MOST_FINDINGS]:
            findings.add(DataError(finding.what, where=finding.where, fix=finding.fix))
        if len(found) > len(errors):
            findings.notes.append(f"{name}: {len(found) - len(errors)} remark(s); see `wellread data check`")


def _add_finetuning(
    settings: Recipe, task: str, sampled: probe.Sample, text: probe.Text, base: Path, findings: Findings
) -> None:
    try:
        seconds = probe.finetuning(settings, task, sampled, text.tokenizer, base)
    except UserError as error:
        findings.notes.append(f"{task}: its time is not counted ({error.what})")
        return
    for kind, value in seconds.items():
        findings.seconds[kind] = findings.seconds.get(kind, 0.0) + value


def _model(settings: Recipe, variant: str, training: probe.Training | None, vocab: int) -> dict[str, Any]:
    """Parameters and FLOPs of one variant."""
    model, pretrain = settings.model_for(variant), settings.pretrain_for(variant)
    sparsity = pretrain.sparsity
    counts = flops.parameters(model, vocab)
    full_length = {
        level: flops.gpt_training_flops_per_token(
            model.layers, model.hidden, model.max_length, vocab, level, _ffn_equivalent(model)
        )
        for level in (0.0, sparsity.level)
    }
    tokens = training.tokens if training else pretrain.tokens
    found: dict[str, Any] = {
        "name": variant,
        "layout": model.layout,
        "shape": f"{model.layers} x {model.hidden}",
        "parameters": counts["total"],
        "parameters_without_embeddings": counts["without_embeddings"],
        "sparsity": sparsity.level,
        "pattern": sparsity.pattern if sparsity.level else "dense",
        "tokens": tokens,
        "steps": training.steps if training else tokens and max(1, tokens // pretrain.batch_tokens),
        "flops": training and training.flops,
        "full_length_flops_per_token": {"dense": full_length[0.0], "accounted": full_length[sparsity.level]},
        "full_length_ratio": full_length[0.0] / full_length[sparsity.level],
    }
    return found


def _ffn_equivalent(model: ModelSettings) -> int:
    """Inner width of an ungated feed-forward block with as many weights."""
    return model.inner * 3 // 2 if model.layout in flops.GATED else model.inner


def _memory(settings: Recipe, vocab: int, reduced: bool) -> dict[str, int]:
    """Peak memory: as measured where the probe ran the recipe's own model, else counted."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    measured = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    if not reduced:
        # Runs of fine-tuning side by side are processes of about the size of this one.
        beside = max((probe.workers_of(settings, task)[0] for task in settings.tasks), default=1)
        own = max(0, measured - SHARED_BYTES) if beside > 1 else 0
        return {"bytes": round(measured * ALLOCATOR_GROWTH + beside * own)}
    counted = 0
    for variant in settings.variant_names():
        model, pretrain = settings.model_for(variant), settings.pretrain_for(variant)
        parts = flops.memory_bytes(
            model, vocab, pretrain.optimizer, pretrain.sparsity, averaged=pretrain.ema_decay > 0
        )
        # A gated block and attention keep about 16 numbers a token, width and layer for the backward pass;
        # recomputed, 16 for one layer and the input of each.
        kept = 16 + model.layers if pretrain.recompute else 16 * model.layers
        activations = 4 * kept * model.hidden * pretrain.batch_tokens // pretrain.accumulate
        counted = max(counted, sum(parts.values()) + activations)
    return {"bytes": counted + LIBRARY_BYTES}


def _disk(settings: Recipe, text: probe.Text | None, models: list[dict[str, Any]]) -> dict[str, int] | None:
    """Bytes that the run folder would hold at its fullest."""
    if text is None:
        return None
    kept = 4 * sum(model["parameters"] for model in models)
    tuned = kept * len(settings.tasks) * (1 + len(settings.finetune.seeds))
    checkpoints = 2 * 3 * 4 * max(model["parameters"] for model in models)
    # Documents compress to about 2.5 bytes a word; a scratch copy of them stands beside while they are made.
    return {"bytes": round(text.words * 2.5 * 2 + text.tokens * 2.2 + kept + tuned + checkpoints)}


def _check_room(run: Path, disk: dict[str, int] | None, memory: dict[str, int], findings: Findings) -> None:
    import psutil

    place = next(parent for parent in (run, *run.absolute().parents) if parent.exists())
    free = shutil.disk_usage(place).free
    if disk and disk["bytes"] > free:
        what = f"about {size(disk['bytes'])} are needed, {size(free)} are free"
        findings.add(UserError(what, where=str(run), fix="make room, or choose another folder with --out"))
    there = psutil.virtual_memory().total
    if memory["bytes"] > there:
        what = f"about {size(memory['bytes'])} of memory are needed, the machine has {size(there)}"
        fix = "raise pretrain.accumulate, or choose a smaller model"
        findings.add(UserError(what, where="pretrain.batch_tokens", fix=fix))


def _fresh(context: pipeline.Context) -> set[str]:
    """Kinds of stages that are up to date throughout."""
    every = pipeline.stages(context)
    stale = {name.split("/")[0] for name in stages.stale(every, context.run)}
    return {stage.name.split("/")[0] for stage in every} - stale


def size(count: float) -> str:
    """1234567890 as 1.2 GB."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"


def to_text(found: dict[str, Any]) -> str:
    """The plan for people."""
    lines = [f"{found['recipe']['name']}: {found['recipe']['description']}", ""]
    corpus, time = found["corpus"], found["time"]
    if corpus:
        lines.append(
            f"corpus    about {corpus['documents']:,} documents, {corpus['words'] / 1e6:.1f}M words, "
            f"{corpus['tokens'] / 1e6:.1f}M tokens"
        )
    for model in found["models"]:
        lines += _model_lines(model)
    lines.append(f"memory    {size(found['memory']['bytes'])} at the peak")
    if found["disk"]:
        lines.append(f"disk      {size(found['disk']['bytes'])} at the fullest")
    if time:
        parts = ", ".join(f"{kind} {seconds:.0f} s" for kind, seconds in time["stages"].items())
        lines.append(f"time      {time['seconds'] / 60:.1f} minutes: {parts}")
    if found["up_to_date"]:
        lines.append(f"          up to date: {', '.join(found['up_to_date'])}")
    lines.append(f"writes    {', '.join(found['writes'])}")
    lines += [f"note      {note}" for note in found["notes"]]
    for problem in found["problems"]:
        lines += [f"PROBLEM   {problem['where']}: {problem['what']}", f"          Fix: {problem['fix']}"]
    return "\n".join(lines)


def _model_lines(model: dict[str, Any]) -> list[str]:
    whole, inner = model["parameters"] / 1e6, model["parameters_without_embeddings"] / 1e6
    lines = [
        f"model     {model['name']}: {model['layout']} {model['shape']}, {model['sparsity']:.1%} sparse "
        f"({model['pattern']})",
        f"          {whole:.2f}M parameters, {inner:.2f}M without embeddings",
    ]
    if model["tokens"]:
        lines.append(f"          {model['tokens'] / 1e6:,.1f}M tokens in {model['steps']:,} steps")
    if model["flops"]:
        dense, accounted = model["flops"]["dense"], model["flops"]["accounted"]
        lines.append(f"          {dense:.3g} FLOPs dense, {accounted:.3g} accounted (which is not time)")
    ratio = model["full_length_ratio"]
    return [*lines, f"          {ratio:.2f}x fewer FLOPs than dense, as the papers count (full length)"]
