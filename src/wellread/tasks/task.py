"""The one type in which all task readers hand out labelled examples.

A task folder holds ``task.toml`` (name, kind, labels, metric, source, licence) and ``train.jsonl``,
``dev.jsonl``, ``test.jsonl`` with one example a line:

    classify    {"id": ..., "doc": ..., "text": ..., "text_pair": ..., "label": "RESULTS"}
          or    {"id": ..., "doc": ..., "text": ..., "options": ["penicillin", ...], "label": "A"}
    multilabel  {"id": ..., "doc": ..., "text": ..., "labels": ["a", "b"]}
    regress     {"id": ..., "doc": ..., "text": ..., "text_pair": ..., "score": 2.5}
    tag         {"id": ..., "doc": ..., "tokens": ["BRCA1", ...], "tags": ["B-Gene", ...]}
          or    {"id": ..., "doc": ..., "text": ..., "spans": [{"start": 0, "end": 5, "label": "Gene"}]}

``id``, ``doc`` and ``text_pair`` may be left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["classify", "multilabel", "regress", "tag"]
SPLITS = ("train", "dev", "test")
LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


@dataclass(frozen=True, slots=True)
class Example:
    """A labelled example.

    Attributes:
        id: unique within its task.
        text: the (first) text; for ``tag`` the tokens joined by single spaces.
        text_pair: the second text of a pair, or None.
        label: the label's name (classify), a tuple of names (multilabel), a float (regress), or a tuple of
            one IOB2 tag per token (tag).
        tokens: the words of a ``tag`` example, else ().
        doc: id of the document behind it ("pmid:123" style), "" if not known; used for the leakage check
            and for scores by document.
        options: the choices of a multiple-choice question, which the labels "A", "B", ... number; else ().
    """

    id: str
    text: str
    label: str | tuple[str, ...] | float
    text_pair: str | None = None
    tokens: tuple[str, ...] = ()
    doc: str = ""
    options: tuple[str, ...] = ()

    @property
    def second(self) -> str | None:
        """What is read after ``text``: the second text, the options of a question; None without either."""
        if not self.options:
            return self.text_pair
        return "\n".join([*([self.text_pair] if self.text_pair else []), list_options(self.options)])


def list_options(options: Sequence[str], letters: Sequence[str] = LETTERS) -> str:
    """The options of a question a line, each after its letter."""
    return "\n".join(f"- {letter}: {option}" for letter, option in zip(letters, options, strict=False))


@dataclass(frozen=True)
class Task:
    """A labelled task with its three splits.

    Attributes:
        name: as in the recipe.
        kind: classify, multilabel, regress or tag.
        labels: label names in the order of the model's outputs; for ``tag`` the IOB2 tags, "O" first; for
            regress ("score",).
        metric: the score that is reported first, a name of wellread.evaluate.metrics.METRICS.
        splits: examples by "train", "dev", "test".
        source, licence: for the report.
        facts: counts and hashes recorded when the task was built.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    metric: str
    splits: dict[str, list[Example]]
    source: str = ""
    licence: str = ""
    facts: dict = field(default_factory=dict)


def entity_types(labels: Iterable[str]) -> set[str]:
    """The types of entities in labels, which are all IOB2 tags or all types themselves."""
    names = {label for label in labels if label != "O"}
    return {name[2:] for name in names} if all(name.startswith(("B-", "I-")) for name in names) else names


def names_of(example: Example, kind: Kind) -> set[str]:
    """The label names (for tag: the entity types) of an example; empty for regress."""
    if kind == "classify":
        return {example.label}  # type: ignore[arg-type]
    if kind == "multilabel":
        return set(example.label)  # type: ignore[arg-type]
    if kind == "tag":
        return {tag[2:] for tag in example.label if tag != "O"}  # type: ignore[union-attr]
    return set()
