"""Short measurements for ``wellread plan``: a sample of the documents goes through the real functions.

Nothing is written outside a temporary folder.  Sizes are extrapolated from the bytes of the files that were
sampled; times are for this machine as it is now.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from wellread.corpus.documents import Document
from wellread.errors import DataError
from wellread.pipeline.pretraining import lexicon_path, with_lexicon
from wellread.pipeline.text import tokenizer_settings
from wellread.recipe import Recipe
from wellread.settings import CorpusSettings
from wellread.workers import cores, share, torch_threads

PIECE_BYTES = 1 << 20  # read of each sampled file
SAMPLED_FILES = 6
MOST_FLOPS = 5e11  # of a probing step: a few seconds on a core
TUNING_STEPS = 3  # a step on long texts takes several seconds
TUNING_EXAMPLES = 300  # to train on
TUNING_LOOKED_AT = 40  # of dev and of test each, three times; a long text takes a tenth of a second
SIDE_BY_SIDE = 1.15  # how much slower a run is beside others; an estimate
VALIDATION_COST = 0.4  # of a token that is scored, against one that is trained on; an estimate


@dataclass
class Sample:
    """Documents as they come out of the readers, and what the whole corpus would be by them.

    Attributes:
        documents: cleaned and filtered by language and length, duplicates still among them.
        read: how many were read to get them.
        total: estimate of the documents in all files.
        seconds: time it took to read and clean them.
    """

    documents: list[Document] = field(default_factory=list)
    read: int = 0
    total: float = 0.0
    seconds: float = 0.0

    @property
    def kept(self) -> float:
        """Estimate of the documents that pass the filters."""
        return self.total * len(self.documents) / max(1, self.read)


def sample(settings: CorpusSettings, paths: list[Path], scratch: Path) -> Sample:
    """Read the beginning of some of the files.

    Raises:
        DataError: a file cannot be read.
    """
    found = Sample()
    seen_bytes = 0
    for path in paths[:: math.ceil(len(paths) / SAMPLED_FILES)]:
        whole = path.stat().st_size <= PIECE_BYTES  # then errors name the file itself
        piece = path if whole else scratch / path.name
        if not whole:
            with open(path, "rb") as stream:
                piece.write_bytes(stream.read(PIECE_BYTES))
        began = time.perf_counter()
        # A piece ends in the middle of a document; that it is cut off is no fault of the file.
        before = found.read
        with contextlib.nullcontext() if whole else contextlib.suppress(DataError):
            _look(found, settings, piece, path.name)
        if not whole and found.read == before:  # Parquet has its index at its end; a document may be longer
            _look(found, settings, path, path.name, PIECE_BYTES)
        found.seconds += time.perf_counter() - began
        seen_bytes += piece.stat().st_size
        if not whole:
            piece.unlink()
    found.total = found.read * sum(path.stat().st_size for path in paths) / max(seen_bytes, 1)
    return found


def _look(found: Sample, settings: CorpusSettings, path: Path, name: str, most: float = math.inf) -> None:
    """Read the documents of a file, until they have about ``most`` characters."""
    from wellread.corpus.clean import clean
    from wellread.corpus.prepare import reason_to_drop
    from wellread.corpus.readers import detect

    characters = 0
    for raw in detect.read(path, name, settings.text_field, settings.id_field):
        found.read += 1
        document = clean(raw, settings.keep_layout)
        if not reason_to_drop(document, settings):
            found.documents.append(document)
        characters += len(document.text)
        if characters >= most:
            return


@dataclass(frozen=True)
class Text:
    """What the text stages would take.

    Attributes:
        documents, words, tokens: of the whole corpus, after deduplication of the sample.
        lengths: tokens of the sample's documents, special tokens left out.
        seconds: by kind of stage.
        tokenizer: folder of the tokenizer trained on the sample.
    """

    documents: int
    words: int
    tokens: int
    lengths: list[int]
    seconds: dict[str, float]
    tokenizer: Path


def text_stages(recipe: Recipe, found: Sample, scratch: Path, base: Path) -> Text:
    """Put the sample through cleaning, tokenizer training and tokenising, and extrapolate.

    Raises:
        UserError: the tokenizer at tokenizer.path cannot be used.
    """
    import numpy as np

    from wellread.corpus.prepare import prepare
    from wellread.tokens import store, tokenizer

    scale = found.kept / max(1, len(found.documents))
    texts = [(document.id, document.text) for document in found.documents]
    source = scratch / "sample.jsonl"
    with open(source, "w", encoding="utf-8") as stream:
        stream.writelines(json.dumps({"id": name, "text": text}) + "\n" for name, text in texts)
    (scratch / "corpus").mkdir()
    settings = CorpusSettings(
        sources=(str(source),), min_words=0, near_duplicates=recipe.corpus.near_duplicates
    )
    _, preparing = _timed(lambda: prepare(settings, scratch, scratch / "corpus", quiet=True))
    folder = scratch / "tokenizer"
    folder.mkdir()
    models = [recipe.model_for(name) for name in recipe.variant_names()]
    longest = max(model.max_length for model in models)
    words, counting = _timed(lambda: tokenizer.count_words((text for _, text in texts), quiet=True))
    _, training = _timed(
        lambda: tokenizer.train(
            (text for _, text in texts),
            tokenizer_settings(recipe, base),
            folder,
            causal=models[0].causal,
            max_length=longest,
            quiet=True,
        )
    )
    threads = recipe.threads or cores()
    _, storing = _timed(lambda: store.build(texts, folder, scratch / "store", processes=threads, quiet=True))
    lengths = np.diff(store.Store.open(scratch / "store").offsets).tolist()
    # Counting grows with the text, learning the pieces with the distinct words (Heaps' law).
    learning = max(0.0, training - counting) * scale**0.5
    return Text(
        documents=round(found.kept),
        words=round(sum(words.values()) * scale),
        tokens=round(sum(lengths) * scale),
        lengths=lengths,
        seconds={
            "corpus": (found.seconds / max(1, found.read)) * found.total + preparing * scale,
            "tokenizer": counting * scale + learning,
            "tokens": storing * scale,
        },
        tokenizer=folder,
    )


def finetuning(
    recipe: Recipe, task: str, found: Sample, tokenizer_folder: Path, base: Path
) -> dict[str, float]:
    """Seconds that all fine-tuning runs and the rivals of a task would take.

    Raises:
        UserError: the task cannot be made from the sample, or its files are wrong.
    """
    from wellread.finetune import data, grid, loop, stable
    from wellread.tasks import build, derive
    from wellread.tasks.subset import subset
    from wellread.tokens import tokenizer

    settings = recipe.tasks[task]
    main = recipe.variant_names()[0]
    tuning, model = recipe.finetune_for(task, main), recipe.model_for(main)
    if settings.derive is not None:
        made, deriving = _timed(lambda: derive.derive_from(settings.derive, found.documents, name=task))
        scale = found.kept / max(1, len(found.documents))
        sizes = {split: len(examples) * scale for split, examples in made.splits.items()}
        sizes["train"] = min(sizes["train"], settings.max_train or math.inf)
        sizes |= {split: min(sizes[split], settings.max_eval or math.inf) for split in ("dev", "test")}
        deriving *= scale
    else:
        made, deriving = _timed(lambda: build.read_source(task, settings, base))
        sizes = {split: float(len(examples)) for split, examples in made.splits.items()}
    loaded = tokenizer.load(tokenizer_folder)
    most = {"train": TUNING_EXAMPLES}
    few = replace(
        made, splits={name: part[: most.get(name, TUNING_LOOKED_AT)] for name, part in made.splits.items()}
    )
    train = subset(few, "all", 0)
    prepared = data.prepare(few, train, loaded, grid.longest(model, tuning), tuning)
    size = stable.size_of(model)
    usual = stable.resolve(tuning, made.kind, round(sizes["train"]), size)[0]
    short = usual.model_copy(update={"max_steps": TUNING_STEPS, "evaluations": 1})
    many = short.model_copy(update={"max_steps": 3 * TUNING_STEPS})
    workers, each = workers_of(recipe, task)
    with torch_threads(each):
        first = short.model_copy(update={"max_steps": 1})
        loop.finetune(prepared, train, model, loaded, first, 0)  # warms up
        _, seconds_one = _timed(lambda: loop.finetune(prepared, train, model, loaded, short, 0))
        _, seconds_many = _timed(lambda: loop.finetune(prepared, train, model, loaded, many, 0))
    step = max(1e-4, (seconds_many - seconds_one) / (2 * TUNING_STEPS))
    looked_at = len(few.splits["dev"]) * 2 + len(few.splits["test"])
    look = max(0.0, seconds_one - TUNING_STEPS * step) / max(1, looked_at)
    total = 0.0
    for budget in settings.budgets:
        labels = sizes["train"] if budget == "all" else min(budget, sizes["train"])
        chosen = stable.resolve(tuning, made.kind, round(labels), size)[0]
        steps = loop.steps_of(chosen, round(labels)) * chosen.batch / usual.batch if labels else 0
        watched = min(sizes["dev"], data.WATCHED) * chosen.evaluations
        total += steps * step + look * (watched + sizes["dev"] + sizes["test"])
    starts = len(recipe.variant_names()) * ("pretrained" in tuning.starts) + ("random" in tuning.starts)
    slower = 1.0 if workers == 1 else SIDE_BY_SIDE
    return {"tasks": deriving, "finetune": total * len(tuning.seeds) * starts * slower / workers}


def workers_of(recipe: Recipe, task: str) -> tuple[int, int]:
    """(processes, threads of each) in which a task is fine-tuned."""
    tuning = recipe.finetune_for(task, recipe.variant_names()[0])
    return share(recipe.threads or cores(), len(recipe.tasks[task].budgets) * len(tuning.seeds))


def _timed(function: Any) -> tuple[Any, float]:
    began = time.perf_counter()
    return function(), time.perf_counter() - began


@dataclass(frozen=True)
class Training:
    """What pre-training one variant would take.

    Attributes:
        steps, tokens: of the whole pre-training.
        seconds: extrapolated from a few steps.
        flops: {"dense", "accounted"} of the whole pre-training, at the lengths of the sample.
        reduced: whether the measured model had fewer layers or shorter batches than the recipe's.
    """

    steps: int
    tokens: int
    seconds: float
    flops: dict[str, float]
    reduced: bool


def pretraining(
    recipe: Recipe, variant: str, text: Text, scratch: Path, base: Path, seconds: float
) -> Training:
    """Take a few real steps on the sample, at each stage of length and batch size.

    Raises:
        UserError: the text or the list of terms does not do for masking as the recipe wants it.
    """
    from wellread.objectives.units import lists, pmi
    from wellread.pretrain import auxiliary, continual, loop, validation
    from wellread.schedules.phases import phases
    from wellread.tokens import store, tokenizer

    # A checkpoint to start from changes nothing in the time of a step.
    # A teacher's tokenizer is not the sample's; what its forward pass takes is not counted.
    changes = {"teacher": None, "continual": None}
    model, settings = (
        recipe.model_for(variant).model_copy(update={"start": None}),
        recipe.pretrain_for(variant).model_copy(update=changes),
    )
    loaded, opened = tokenizer.load(text.tokenizer), store.Store.open(scratch / "store")
    # A phrase that is common in the whole text is rarer in the sample.
    least = min(pmi.LEAST, max(2, round(pmi.LEAST * opened.n_tokens / max(1, text.tokens))))
    masked = lists.prepare(
        with_lexicon(settings, lexicon_path(settings, base)).masking,
        *(opened, text.tokenizer, scratch / f"lists-{variant}"),
        quiet=True,
        least=least,
    )
    stages = phases(settings, model.max_length)
    probes = [
        _Probe(
            *(model, settings, stage, loaded, opened, text, recipe.seed, masked),
            folder=scratch / f"bins-{variant}-{number}",
        )
        for number, stage in enumerate(stages)
    ]
    passes = sum(stage.share / probe.per_epoch for stage, probe in zip(stages, probes, strict=True))
    tokens = settings.tokens
    if tokens is None:
        share = continual.share(recipe.pretrain_for(variant))
        tokens = round((settings.epochs or 1.0) / passes * share)
    steps = max(1, round(sum(tokens * stage.share / stage.batch_tokens for stage in stages)))
    total, reduced, flops = 0.0, False, {"dense": 0.0, "accounted": 0.0}
    for stage, probe in zip(stages, probes, strict=True):
        per_token, smaller = probe.measure(seconds / len(stages))
        reduced = reduced or smaller
        total += per_token * probe.saving * tokens * stage.share
        for name, value in probe.flops_of(model, tokens * stage.share).items():
            flops[name] += value * probe.saving
    besides = auxiliary.make(model, settings, loaded, None, recipe.seed, masked, settings.sparsity.level)
    flops["dense"] *= 1 + sum(one.passes for one in besides)
    flops["accounted"] *= 1 + sum(one.accounted for one in besides)
    looks = 1 + steps // (settings.validate_every or max(1, steps // loop.VALIDATIONS))
    scored = looks * min(recipe.corpus.validation * text.tokens, validation.MOST_TOKENS) * VALIDATION_COST
    return Training(steps, tokens, total + per_token * scored, flops, reduced)


@dataclass(frozen=True)
class _Probe:
    """One stage of a pre-training, to be measured on the sample."""

    model: Any
    settings: Any
    stage: Any
    tokenizer: Any
    store: Any
    text: Text
    seed: int
    masked: Any
    folder: Path

    @property
    def lengths(self) -> list[int]:
        """Of the sample's sequences in this stage, special tokens included."""
        most, special = self.stage.max_length, self.tokenizer.num_special_tokens_to_add()
        return [min(rest, most) for n in self.text.lengths for rest in _chunks(n, most - special)]

    @property
    def per_epoch(self) -> float:
        """Tokens of the whole text at this length, special tokens included."""
        special = self.tokenizer.num_special_tokens_to_add()
        scale = self.text.tokens / max(1, sum(self.text.lengths))
        return self.text.tokens + special * len(self.lengths) * scale

    @property
    def saving(self) -> float:
        """Share of the cost that is left where sub-models are trained first."""
        from wellread.schedules import submodels

        return submodels.cost(self.settings, self.model, lambda shape: self.flops_of(shape, 1)["dense"])

    def flops_of(self, shape: Any, tokens: float) -> dict[str, float]:
        """FLOPs of so many tokens in a model of some shape."""
        from wellread.sparsity.flops import training_flops

        lengths, settings = self.lengths, self.settings
        vocab = len(self.tokenizer)
        whole = training_flops(shape, vocab, lengths, settings.sparsity.level, settings.mask_rate)
        return {name: value * tokens / max(1, sum(lengths)) for name, value in whole.items()}

    def measure(self, seconds: float) -> tuple[float, bool]:
        """Seconds for each token, and whether a smaller model or batch was measured."""
        from wellread.pretrain.state import Done
        from wellread.pretrain.step import take_step
        from wellread.pretrain.trainer import make_trainer
        from wellread.tokens import packing

        model, most = self.model, self.stage.max_length
        shape, batch = model, self.stage.batch_tokens
        while self.flops_of(shape, batch)["dense"] > MOST_FLOPS and (shape.layers > 1 or batch > 2 * most):
            if batch > 4 * most:
                batch //= 2
            elif shape.layers > 1:
                shape = shape.model_copy(update={"layers": max(1, shape.layers // 2)})
            else:
                batch = 2 * most
        changes = {"batch_tokens": batch, "accumulate": 1, "lengths": (), "batches": (), "submodels": 0}
        short = self.settings.model_copy(update=changes)
        special = self.tokenizer.num_special_tokens_to_add()
        packed = packing.plan(self.store, most, batch, special, self.seed, self.folder)
        trainer = make_trainer(shape, short, self.tokenizer, 1000, self.seed, masked=self.masked)
        done = Done()
        take_step(trainer, packed.batch(0), 0, done)
        seen, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds or done.step < 3:
            following = packed.batch(done.step)
            take_step(trainer, following, packed.epoch(done.step), done)
            seen += following.tokens
        per_token = (time.perf_counter() - began) / seen
        scale = self.flops_of(model, batch)["dense"] / self.flops_of(shape, batch)["dense"]
        return per_token * scale, shape != model or batch != self.stage.batch_tokens


def _chunks(length: int, room: int) -> list[int]:
    """Lengths of the samples into which a document of so many tokens is cut."""
    return [room] * (length // room) + ([length % room] if length % room else [])
