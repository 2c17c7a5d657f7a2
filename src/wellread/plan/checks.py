"""What is wrong with a recipe and its data, as far as it can be seen without building anything."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from wellread import recipe
from wellread.errors import ArtefactError, DataError, UserError
from wellread.evaluate.rivals import ON_ENCODER
from wellread.models.grow.shapes import settings_of
from wellread.pipeline.origin import origin, settled
from wellread.pipeline.pretraining import with_teacher
from wellread.pipeline.text import text_files, tokenizer_settings
from wellread.plan import probe
from wellread.plan.words import size
from wellread.recipe import Recipe
from wellread.settings import VariantSettings

MOST_FINDINGS = 20


@dataclass
class Findings:
    """What has been found out so far: problems, remarks, and seconds by kind of stage."""

    problems: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, error: UserError) -> None:
        """Take down an error as a problem."""
        self.problems.append({"what": error.what, "where": error.where, "fix": error.fix})

    @contextlib.contextmanager
    def taking(self) -> Iterator[None]:
        """Take down the error that ends the block, if one does, and go on after the block."""
        try:
            yield
        except UserError as error:
            self.add(error)


def check_tasks(settings: Recipe, base: Path, findings: Findings) -> None:
    """Everything that can be seen in the tasks' own files."""
    from wellread.finetune.data import check_head
    from wellread.tasks import build, check

    for name, task in settings.tasks.items():
        if task.path is None:
            continue
        with findings.taking():
            build.source_files(task, base, f"tasks.{name}")
            read = build.read_source(name, task, base)
            for variant in settings.variant_names():
                layout = settings.model_for(variant).layout
                check_head(settings.finetune_for(name, variant), read, layout, task.budgets)
            found = [] if task.known else check.check(recipe.resolve(task.path, base, f"tasks.{name}.path"))
            errors = [finding for finding in found if finding.severity == "error"]
            for finding in errors[:MOST_FINDINGS]:
                findings.add(DataError(finding.what, where=finding.where, fix=finding.fix))
            if len(found) > len(errors):
                remarks = len(found) - len(errors)
                findings.notes.append(f"{name}: {remarks} remark(s); see `wellread data check`")


def check_models(settings: Recipe, base: Path, findings: Findings) -> None:
    """Whether the checkpoints that the recipe names are here, and fit."""
    from wellread import known_models as known
    from wellread.models import build

    named = {f"checkpoints.{one.name}.start": one.start for one in settings.checkpoints}
    if set(settings.evaluate.rivals) & set(ON_ENCODER):
        named["evaluate.rivals"] = known.MINILM
    for key, given in named.items():
        with findings.taking():
            build.load_config(known.folder_of(given, base, key))
    for variant in settings.variant_names():
        with findings.taking():
            _check_teacher(settings, variant, base)
            _check_origin(settings, variant, base, findings)


def _check_origin(settings: Recipe, variant: str, base: Path, findings: Findings) -> None:
    """Whether a variant can begin as it should: from another variant, or from a checkpoint.

    Raises:
        UserError: it cannot; names the key.
    """
    from wellread.models.grow.shapes import keeps_function
    from wellread.pretrain.parts import check_shape

    model, small = settings.model_for(variant), origin(settings, variant, base)
    if small is None:
        return
    check_shape(small, model)
    if model.grow != "none":
        kept = "computes the same" if keeps_function(small, model) else "starts near it, not equal"
        was = f"{small.layers} x {small.hidden}"
        findings.notes.append(f"{variant}: grown from {was} ({model.grow}); {kept}")


def settle(settings: Recipe, base: Path) -> Recipe:
    """The recipe with what its variants leave to the checkpoints that they start from filled in.

    A variant whose checkpoint cannot be read stays as it is; :func:`check_models` tells of it.
    """
    found = []
    for one in settings.variants or (VariantSettings(name="main"),):
        changes = {}
        with contextlib.suppress(UserError):
            given, model = settings.model_for(one.name), settled(settings, one.name, base)
            changes = {key: value for key, value in model if value != getattr(given, key)}
        found.append(one.model_copy(update={"model": one.model | changes}))
    return settings.model_copy(update={"variants": tuple(found)})


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
    folder = Path(with_teacher(settings.pretrain_for(variant), base, base).teacher.path)  # type: ignore[union-attr]
    distillation.check_shape(settings_of(build.load_config(folder)), model.causal, model.max_length)
    own = tokenizer_settings(settings, base)
    if own.path is None or own.add_words:
        raise ArtefactError(
            "the run makes a tokenizer of its own, the teacher has another",
            where=distillation.KEY,
            fix="set tokenizer.path to the teacher's folder without add_words, or let a variant of the "
            'recipe teach (path = "variants.NAME")',
        )
    distillation.check_tokenizer(folder, tokenizer.load(own.path))


def check_lengths(settings: Recipe, base: Path, findings: Findings) -> None:
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


def check_texts(settings: Recipe, base: Path, findings: Findings) -> None:
    """Whether the files of [texts] are here, and the corpus has a part to be validated on beside them."""
    from wellread.pretrain.continual import nothing_held_out

    for name in settings.texts:
        with findings.taking():
            text_files(settings, base, name)
    every = (settings.pretrain_for(name).continual for name in settings.variant_names())
    if not settings.corpus.validation and any(one and one.general for one in every):
        findings.add(nothing_held_out("corpus"))


def check_categories(settings: Recipe, sampled: probe.Sample, findings: Findings) -> None:
    """Whether the documents' categories would be large enough, by the sample."""
    from wellread.objectives import categories

    scale = sampled.kept / max(1, len(sampled.documents))
    for of in dict.fromkeys(settings.pretrain_for(name).categories for name in settings.variant_names()):
        with findings.taking():
            if of is not None:
                read = categories.reader(of)
                categories.label([read(document) for document in sampled.documents], of, scale)


def check_updates(settings: Recipe, variant: str, steps: int, findings: Findings) -> None:
    """Whether what happens every so many updates of a pre-training would ever happen."""
    from wellread.pretrain import average
    from wellread.sparsity import dynamic

    pretrain = settings.pretrain_for(variant)
    with findings.taking():
        dynamic.check(pretrain.sparsity, steps)
    with findings.taking():
        average.check(pretrain.ema_decay, steps)


def check_room(run: Path, disk: dict[str, int] | None, memory: dict[str, int], findings: Findings) -> None:
    """Whether the disk below the run folder and the machine's memory are large enough."""
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
