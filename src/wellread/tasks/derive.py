"""Tasks with honest labels, derived from the structure and the indexing of the documents themselves.

All derived tasks split the documents alike, 80/10/10 by a hash of the document id, so that one list of
held-out documents serves all of them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from wellread import rng
from wellread.corpus import documents as corpus
from wellread.corpus.documents import ROLES, Document
from wellread.corpus.readers.roles import role_of
from wellread.errors import DataError
from wellread.tasks.cut import text_key
from wellread.tasks.mesh import DISEASES, load_categories
from wellread.tasks.read import write_task
from wellread.tasks.sentences import split_sentences
from wellread.tasks.task import SPLITS, Example, Task

MIN_SECTIONS = 3
MIN_WORDS = 4
MIN_CLASS = 60

_Drawn = tuple[float, int, Example]  # a random number, the place in the corpus, the example

_HEADINGS = (
    r"background|context|introduction|rationale|importance|objectives?|aims?|purposes?|goals?|hypothes[ie]s|"
    r"questions?|methods?|methodology|materials?|patients?|subjects?|participants?|design|setting|"
    r"interventions?|measurements?|procedures?|approach|results?|findings?|outcomes?|observations?|"
    r"conclusions?|conclusion|interpretation|discussion|implications?|significance|summary|limitations?"
)
# "METHODS: ...", "Results - ...", "SETTING AND PARTICIPANTS: ..." left at the head of a sentence.
_HEADING = re.compile(
    rf"^(?:(?:[A-Z][A-Z/,&()'’ -]{{2,70}}?|(?i:(?:study |main )?(?:{_HEADINGS})"
    rf"(?:(?: and |, | & |/|/ )(?:{_HEADINGS}|analysis|sample)){{0,3}}))\s*(?::|\s[-–—]\s|—)\s*)+"
)

# Registrations of trials and web addresses stand at the end of whichever section is last: they have no role.
_REGISTRATION = (
    "http", "www.", "clinicaltrials.gov", "nct0", "isrctn", "chictr", "prospero", "crd42", "eudract", "actrn",
    "trial registration", "study registration", "registration number", "registration no", "level of evidence",
)  # fmt: skip


@dataclass(frozen=True)
class _Derivation:
    """How a kind of derived task takes its examples from a document."""

    examples: Callable[[Document], Iterator[Example]]
    labels: tuple[str, ...] | None
    needs: str
    metric: str = "macro_f1"


def derive(
    kind: str,
    documents: Path,
    folder: Path,
    *,
    max_train: int | None = None,
    max_eval: int | None = None,
    seed: int = 0,
    name: str | None = None,
) -> Task:
    """Build a task from a corpus and write its folder.

    Args:
        kind: sentence-role, human-animal, disease-category or review.
        documents: a documents.jsonl.zst.
        folder: where the task is written.
        max_train: keep at most so many training examples, chosen by hash (nested for growing numbers).
        max_eval: likewise for dev and for test.
        seed: of the document split and of the choice.
        name: of the task; default ``kind``.

    Raises:
        DataError: the corpus lacks what the task is derived from.
    """
    task = derive_from(
        kind, corpus.read(documents), max_train=max_train, max_eval=max_eval, seed=seed, name=name
    )
    write_task(task, folder)
    return task


def derive_from(
    kind: str,
    documents: Iterable[Document],
    *,
    max_train: int | None = None,
    max_eval: int | None = None,
    seed: int = 0,
    name: str | None = None,
) -> Task:
    """As :func:`derive`, from documents at hand, and without writing."""
    derivation = _derivation(kind)
    facts: dict[str, Any] = {"derived": True, "derivation": kind, "split_seed": seed}
    limits = {"train": max_train, "dev": max_eval, "test": max_eval}
    chosen, present = _collect(documents, derivation.examples, limits, seed, facts)
    labels = tuple(one for one in derivation.labels or () if one in present) or _large_classes(chosen, facts)
    chosen = {split: [one for one in chosen[split] if one.label in labels] for split in SPLITS}
    _refuse_poor(kind, chosen, labels, derivation.needs)
    counted = {split: Counter(str(one.label) for one in chosen[split]) for split in SPLITS}
    facts["classes"] = {split: {label: counted[split][label] for label in labels} for split in SPLITS}
    source = "derived from the corpus"
    return Task(name or kind, "classify", labels, derivation.metric, chosen, source=source, facts=facts)


def _collect(
    documents: Iterable[Document],
    examples: Callable[[Document], Iterator[Example]],
    limits: dict[str, int | None],
    seed: int,
    facts: dict[str, Any],
) -> tuple[dict[str, list[Example]], set]:
    """The examples of each split, at most ``limits`` of them, and the labels that train documents have.

    Memory holds little more than what is kept.  What was read and used is put down in ``facts``.
    """
    kept: dict[str, list[_Drawn]] = {split: [] for split in SPLITS}
    available, used, read = Counter[str](), Counter[str](), 0
    present: set = set()
    for document in documents:
        read += 1
        split = document_split(document.identity, seed)
        found = list(examples(document))
        draws = rng.uniform(seed, "derived sample", [text_key(example.id) for example in found]).tolist()
        for draw, example in zip(draws, found, strict=True):
            available[split] += 1
            kept[split].append((draw, available[split], example))
        used[split] += bool(found)
        present |= {one.label for one in found} if split == "train" else set()
        limit = limits[split]
        if limit is not None and len(kept[split]) > 2 * limit + 10_000:
            kept[split] = sorted(kept[split])[:limit]
    facts["documents_read"] = read
    facts["documents_used"] = {split: used[split] for split in SPLITS}
    facts["examples_available"] = {split: available[split] for split in SPLITS}
    return {split: _sample(kept[split], limits[split]) for split in SPLITS}, present


def document_split(identity: str, seed: int) -> str:
    """train, dev or test: 80/10/10 by a hash of the document's identity, alike for all derived tasks."""
    draw = float(rng.uniform(seed, "document split", text_key(identity)))
    return "train" if draw < 0.8 else "dev" if draw < 0.9 else "test"


def _derivation(kind: str) -> _Derivation:
    if kind == "sentence-role":
        return _Derivation(_roles, ROLES, "structured abstracts")
    if kind == "human-animal":
        return _Derivation(_human_animal, ("Animals", "Humans"), "MeSH check tags")
    if kind == "review":
        # One article in fourteen is a review: few labels say more about the order than about the threshold.
        return _Derivation(_review, ("other", "review"), "publication types", "auroc")
    if kind == "disease-category":
        return _Derivation(partial(_disease, categories=load_categories()), None, "MeSH headings of diseases")
    raise DataError(
        f"unknown derived task {kind!r}",
        fix="one of: sentence-role, human-animal, disease-category, review",
    )


def _roles(document: Document) -> Iterator[Example]:
    """Sentences of structured abstracts with the role of their section; repeated ones are left out."""
    sections = [section for section in document.sections if section.label in ROLES]
    if len({section.label for section in sections}) < MIN_SECTIONS:
        return
    found: list[tuple[str, str]] = []
    for section in sections:
        label = section.label
        for sentence in split_sentences(section.text):
            text = strip_heading(sentence)
            # A heading that was left inside a section begins another one.
            label = role_of(sentence[: len(sentence) - len(text)]) or label
            found.append((text, label))
    times = Counter(text for text, _ in found)
    for number, (text, label) in enumerate(found, start=1):
        if times[text] == 1 and len(text.split()) >= MIN_WORDS and not _is_registration(text):
            yield Example(f"{document.id}#{number}", text, label, doc=document.identity)


def _is_registration(sentence: str) -> bool:
    lowered = sentence.lower()
    return any(sign in lowered for sign in _REGISTRATION)


def strip_heading(sentence: str) -> str:
    """A sentence without a section heading at its head ("METHODS: We ..." gives "We ...")."""
    return _HEADING.sub("", sentence)


def _whole(document: Document, label: str) -> Iterator[Example]:
    if document.title and document.body.strip():
        yield Example(document.id, document.text, label, doc=document.identity)


def _human_animal(document: Document) -> Iterator[Example]:
    """Title and abstract of records indexed with exactly one of the check tags Humans and Animals."""
    tags = {heading.name for heading in document.mesh} & {"Humans", "Animals"}
    if len(tags) == 1:
        yield from _whole(document, tags.pop())


_REVIEWS = frozenset({"Review", "Systematic Review"})
_UNCLEAR = frozenset(
    {"Meta-Analysis", "Comment", "Editorial", "Letter", "Published Erratum", "News", "Guideline"}
)


# The newest records are not indexed yet: many that call themselves a review lack the publication type.
_SAYS_REVIEW = re.compile(
    r"\b(?:systematic|scoping|literature|narrative|umbrella|integrative|critical|mini)[- ]review|"
    r"\breview of (?:the )?literature|\ba review\b|\breview article|\bmeta-?analys[ei]s\b",
    re.IGNORECASE,
)


def _review(document: Document) -> Iterator[Example]:
    """Reviews against other journal articles.

    Comments, letters, meta-analyses and the like are left out, and so are other articles whose title says
    that they are a review.
    """
    types = set(document.publication_types)
    if types & _REVIEWS:
        yield from _whole(document, "review")
    elif "Journal Article" in types and not types & _UNCLEAR and not _SAYS_REVIEW.search(document.title):
        yield from _whole(document, "other")


def _disease(document: Document, categories: dict[str, list[str]]) -> Iterator[Example]:
    """Records with exactly one top-level category of the MeSH tree in which all major disease headings stand.

    "Lung Neoplasms" alone stands in two (neoplasms, respiratory tract) and is left out; beside
    "Adenocarcinoma" the one category in common is Neoplasms.
    """
    found = [set(categories.get(heading.name.lower(), ())) for heading in document.mesh if heading.major]
    diseases = [one for one in found if one]
    common = set.intersection(*diseases) if diseases else set()
    if len(common) == 1:
        yield from _whole(document, DISEASES[common.pop()])


def _sample(found: list[_Drawn], limit: int | None) -> list[Example]:
    """At most ``limit`` examples, those with the smallest draws, in the order of the corpus."""
    chosen = sorted(found)[:limit]
    return [example for _, _, example in sorted(chosen, key=lambda one: one[1])]


def _large_classes(chosen: dict[str, list[Example]], facts: dict) -> tuple[str, ...]:
    """Classes with enough training examples, and at least one in dev and in test; the others are recorded."""
    counted = {split: Counter(str(one.label) for one in chosen[split]) for split in SPLITS}
    every = sorted(set().union(*counted.values()))
    kept = [
        label
        for label in every
        if counted["train"][label] >= MIN_CLASS and counted["dev"][label] and counted["test"][label]
    ]
    facts["classes_dropped"] = {
        label: sum(counted[split][label] for split in SPLITS) for label in every if label not in kept
    }
    return tuple(kept)


def _refuse_poor(kind: str, chosen: dict[str, list[Example]], labels: tuple[str, ...], needs: str) -> None:
    present = {one.label for one in chosen["train"]}
    if len(present) < 2 or not chosen["dev"] or not chosen["test"]:
        raise DataError(
            f"the corpus holds too few documents with {needs} for the task {kind!r} "
            f"({len(chosen['train'])} training examples of {len(present)} of {max(len(labels), 2)} classes)",
            where="tasks",
            fix="use a corpus that has them (PubMed XML), or give labelled files with `path`",
        )
