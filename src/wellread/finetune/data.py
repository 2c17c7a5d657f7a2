"""A task encoded once, for all the runs over budgets and seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from wellread import rng
from wellread.errors import RecipeError
from wellread.evaluate.metrics import documents
from wellread.finetune import answer_mask, classifier, comparison, likelihood, objective, similarity
from wellread.finetune.head import Head
from wellread.finetune.light import prompts
from wellread.finetune.objective import Split
from wellread.finetune.stable import NOT_KEEPING
from wellread.models.long import encoder as long
from wellread.settings import Budget, FinetuneSettings
from wellread.tasks.task import Example, Kind, Task

# While a run is under way, dev is a fixed sample of this size: the moments of one run differ little from each
# other on the same examples, and ten evaluations of more would cost more than training on a small budget.
WATCHED = 500


def _likelihood(kind: Kind, labels: tuple[str, ...], tokenizer: Any, settings: FinetuneSettings) -> Head:
    """As MediSwift, a soft prompt that comes after the text stands before the answer."""
    between = settings.light.method == "prompt" and settings.light.place == "after"
    return likelihood.head(kind, labels, tokenizer, settings, read=prompts.read if between else None)


HEADS: dict[str, Callable[..., Head]] = {
    "classifier": classifier.head,
    "mlm": answer_mask.head,
    "lm": _likelihood,
    "similarity": similarity.head,
    "comparison": comparison.head,
}
# Heads that read the texts of a pair apart, by kind of task.
PAIRED: dict[str, Kind] = {similarity.NAME: "regress", comparison.NAME: "classify"}
# The layouts whose pre-training left a head that answers in words, or states that can be matched.
LAYOUTS = {
    "mlm": ("modernbert", "bert", "longformer", "big_bird"),
    "lm": ("llama", "gpt2"),
    "similarity": ("modernbert", "bert"),
    "comparison": ("modernbert", "bert"),
}


@dataclass(frozen=True)
class TaskData:
    """A task with its encoded splits.

    Attributes:
        task: the task.
        splits: "train" (all examples that a run may ask for), "dev" and "test".
        watched_task: the task with a sample of dev in place of dev.
        watched: that sample, encoded.
        rows: where an example stands in train, by id.
        head: what the model is asked, and how its answer is read.
    """

    task: Task
    splits: dict[str, Split]
    watched_task: Task
    watched: Split
    rows: dict[str, int]
    head: Head

    def sequences(self, examples: Iterable[Example]) -> np.ndarray:
        """Numbers of the sequences of some training examples, in the order of train.

        A window of a tagged sentence that owns no word teaches nothing and is left out.
        """
        encoded = self.splits["train"].encoded
        wanted = np.array([self.rows[example.id] for example in examples], dtype=np.int64)
        chosen = np.isin(encoded.inputs, wanted)
        if self.task.kind == "tag":
            chosen &= np.diff(encoded.word_offsets) > 0
        return np.flatnonzero(chosen)


def choose_head(settings: FinetuneSettings, task: Task, layout: str) -> FinetuneSettings:
    """The settings with the head that the stable recipe picks where none is stated: scored pairs are matched.

    A start without pre-training gets the same head, so that the two can be compared.
    """
    free = settings.recipe == "stable" and "head" not in settings.model_fields_set
    plain = settings.light.method == "full" and not settings.rdrop and layout in LAYOUTS[similarity.NAME]
    if not (free and plain and task.kind == "regress"):
        return settings
    if any(example.text_pair is None for split in task.splits.values() for example in split):
        return settings
    return settings.model_copy(update={"head": similarity.NAME})


def _refuse_keeping(settings: FinetuneSettings) -> None:
    """Refuse to freeze, decay or re-initialise layers that a light-weight method keeps as they are."""
    for key, neutral in NOT_KEEPING.items():
        if settings.light.keeps_weights and getattr(settings, key) != neutral:
            raise RecipeError(
                f"light.method = {settings.light.method!r} keeps the model's own weights as they are",
                where=f"finetune.{key}",
                fix='leave it out, or set light.method = "full"',
            )


def check_head(settings: FinetuneSettings, task: Task, layout: str, budgets: Sequence[Budget]) -> None:
    """Refuse what a head cannot do, before any work.

    Raises:
        RecipeError: the head does not fit the kind of task or the layout, or the classifier would have to
            answer without a label.
    """
    _refuse_keeping(settings)
    if layout in long.LAYOUTS and settings.light.method in ("prompt", "prefix", "tiny-attention"):
        raise RecipeError(
            f"{settings.light.method!r} changes an attention that a {layout} model does not have",
            where="finetune.light.method",
            fix='use "lora", "houlsby", "lightweight", "residual", "bitfit" or "full"',
        )
    if settings.reinit_layers and 0 in budgets:
        raise RecipeError(
            "layers that begin anew know nothing without labels",
            where="finetune.reinit_layers",
            fix=f"leave it out, or take 0 out of tasks.{task.name}.budgets",
        )
    if settings.head in ("classifier", comparison.NAME) and 0 in budgets:
        raise RecipeError(
            "a fresh classification head knows nothing without labels",
            where=f"tasks.{task.name}.budgets",
            fix='take 0 out, or answer in words: finetune.head = "mlm" (encoders) or "lm" (decoders)',
        )
    if settings.head == "classifier":
        return
    if settings.rdrop:
        raise RecipeError(
            "R-Drop compares two classifications, and this head gives none",
            where="finetune.rdrop",
            fix='leave it out, or set head = "classifier"',
        )
    if settings.head == similarity.NAME and task.kind != "regress":
        raise RecipeError(
            f"head {settings.head!r} scores pairs of texts; {task.name} is a {task.kind} task",
            where="finetune.head",
            fix=f'set head = "classifier" in [tasks.{task.name}.finetune]',
        )
    if settings.head == comparison.NAME and settings.light.method != "full":
        raise RecipeError(
            f"head {settings.head!r} is trained with all weights, not by {settings.light.method!r}",
            where="finetune.head",
            fix='set head = "classifier", or light.method = "full"',
        )
    if settings.head != similarity.NAME and task.kind != "classify":
        raise RecipeError(
            f"head {settings.head!r} answers with one label; {task.name} is a {task.kind} task",
            where="finetune.head",
            fix=f'set head = "classifier" in [tasks.{task.name}.finetune]',
        )
    if layout not in LAYOUTS[settings.head]:
        other = next(name for name, layouts in LAYOUTS.items() if layout in layouts)
        raise RecipeError(
            f"a {layout} model cannot answer with head {settings.head!r}",
            where="finetune.head",
            fix=f'use "{other}" or "classifier"' if task.kind == "classify" else 'use "classifier"',
        )


def prepare(
    task: Task,
    train: list[Example],
    tokenizer: Any,
    max_length: int,
    settings: FinetuneSettings | None = None,
) -> TaskData:
    """Encode a task.

    Args:
        task: with dev and test.
        train: the training examples that runs will ask for.
        tokenizer: a fast `transformers` tokenizer.
        max_length: longest sequence in tokens.
        settings: name the head; default a classifier.

    Raises:
        RecipeError: a template or a word of the head cannot be used with this tokenizer.
    """
    settings = settings or FinetuneSettings()
    head = HEADS[settings.head](task.kind, task.labels, tokenizer, settings)
    splits = {
        name: encode_split(task, examples, tokenizer, max_length, head)
        for name, examples in (("train", train), ("dev", task.splits["dev"]), ("test", task.splits["test"]))
    }
    dev = splits["dev"]
    watched_task, watched = task, dev
    if len(dev.examples) > WATCHED:
        chosen = sample(task, dev.examples, WATCHED, "finetune-dev")
        watched_task = replace(task, splits={**task.splits, "dev": chosen})
        watched = encode_split(task, chosen, tokenizer, max_length, head)
    rows = {example.id: number for number, example in enumerate(train)}
    return TaskData(task, splits, watched_task, watched, rows, head)


def sample(task: Task, examples: list[Example], count: int, purpose: str) -> list[Example]:
    """About so many examples, the same each time, in their order; whole documents if these are scored.

    Args:
        task: whose score is asked for.
        examples: to choose from; all of them where they are no more.
        count: how many; with whole documents the last one may make it more.
        purpose: of the draw.
    """
    if len(examples) <= count:
        return examples
    if task.metric != "micro_f1_doc":
        chosen = rng.permute(np.arange(count), len(examples), 0, purpose)
        return [examples[number] for number in np.sort(chosen)]
    of = documents(examples)
    number, kept = int(of.max()) + 1, np.zeros(len(examples), dtype=bool)
    for document in rng.permute(np.arange(number), number, 0, purpose):
        if kept.sum() >= count:
            break
        kept |= of == document
    return [examples[at] for at in np.flatnonzero(kept)]


def encode_split(
    task: Task, examples: list[Example], tokenizer: Any, max_length: int, head: Head | None = None
) -> Split:
    """Encode examples and their labels, for a classifier unless another head is given."""
    head = head or classifier.head(task.kind, task.labels, tokenizer)
    encoded = head.encode(examples, max_length)
    return Split(examples, encoded, objective.targets(task.kind, task.labels, examples, encoded))
