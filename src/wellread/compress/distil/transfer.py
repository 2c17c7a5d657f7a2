"""The transfer set: unlabelled texts that resemble the task's, for the teacher to label.

Documents give whole texts or sentences, whichever is nearer in length to the task's own; files with labelled
examples or pairs are read as they are.  What stands in dev or test is left out, and so are their documents.
"""

from __future__ import annotations

import hashlib
import heapq
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from wellread import stages
from wellread.compress.distil.settings import DistilSettings
from wellread.corpus.documents import Document
from wellread.errors import DataError
from wellread.progress import Progress
from wellread.tasks.examples import TOKEN
from wellread.tasks.rows import read_rows
from wellread.tasks.sentences import split_sentences
from wellread.tasks.task import Example, Task

Unit = Literal["document", "sentence"]
PROBED = 200  # documents by which the unit is chosen
OUTER = (1, 99)  # percentiles of the task's lengths: texts outside of them do not resemble it
_WORD = re.compile(r"\w+")
NEW = "transfer:"  # begins the ids of texts that are not the task's


@dataclass
class Transfer:
    """A transfer set.

    Attributes:
        examples: the task's own training examples (with their ids and labels) where they are wanted, then
            unlabelled ones (ids "transfer:0", ...; whatever stands as their label says nothing).
        unit: what documents were cut into, None where none was read.
        counts: texts read, and left out by reason.
    """

    examples: list[Example] = field(default_factory=list)
    unit: Unit | None = None
    counts: Counter[str] = field(default_factory=Counter)


def gather(
    task: Task, sources: Iterable[str], settings: DistilSettings, seed: int = 0, *, quiet: bool = False
) -> Transfer:
    """Choose a transfer set.

    The choice is the texts with the smallest hashes of seed and text, so it does not depend on the order of
    the files, and a smaller set is part of a larger one.

    Args:
        task: whose dev and test texts are left out, and whose lengths are wanted.
        sources: run folders (their pre-training documents), known corpora, files, folders or patterns.
        settings: how many, and whether the task's own texts come along.
        seed: of the choice.
        quiet: show no progress.

    Raises:
        DataError: nothing to learn from, or plain documents for a task of pairs.
        UserError: a source cannot be read.
    """
    found = Transfer()
    known = _Known(task)
    kept: dict[int, Example] = {}
    heap: list[int] = []  # negative hashes: the largest of those kept is first
    with Progress("transfer", None, "texts", quiet=quiet) as progress:
        for example in _texts(task, sources, found, known.documents):
            progress.advance()
            found.counts["read"] += 1
            normal = _normal(_text(example))
            key = _hash(normal, seed)
            if reason := known.reason(example, normal):
                found.counts[reason] += 1
                continue
            if key in kept:
                continue
            if len(heap) == settings.transfer:
                if key >= -heap[0]:
                    continue
                del kept[-heapq.heappushpop(heap, -key)]
            else:
                heapq.heappush(heap, -key)
            kept[key] = example
    own = list(task.splits["train"]) if settings.own else []
    new = [replace(kept[key], id=f"{NEW}{number}") for number, key in enumerate(sorted(kept))]
    found.examples = [*own, *new]
    if not found.examples:
        told = ", ".join(f"{reason} {count}" for reason, count in found.counts.items()) or "none was given"
        raise DataError(
            f"no text to learn from ({told})", where="--text", fix="give more text, or own = true"
        )
    return found


def unit_of(task: Task, documents: Iterable[str]) -> Unit:
    """Whether the task's texts are nearer in length to whole documents or to their sentences."""
    wanted = np.median([_words(example) for example in task.splits["train"]])
    texts = list(documents)
    parts = [len(sentence.split()) for text in texts for sentence in split_sentences(text)]
    whole = np.median([len(text.split()) for text in texts] or [1])
    away = [abs(np.log(max(size, 1) / max(wanted, 1))) for size in (whole, np.median(parts or [1]))]
    return "document" if away[0] <= away[1] else "sentence"


class _Known:
    """What is left out: texts of dev and test and the documents behind them, and texts of other lengths."""

    def __init__(self, task: Task) -> None:
        tested = [example for split in ("dev", "test") for example in task.splits[split]]
        self.documents = {example.doc for example in tested if example.doc}
        self.texts = {_normal(_text(example)) for example in tested}
        self.own = {_normal(_text(example)) for example in task.splits["train"]}
        sizes = [_words(example) for example in task.splits["train"]]
        self.least, self.most = np.percentile(sizes, OUTER)

    def reason(self, example: Example, normal: str) -> str:
        """Why an example is left out; "" for one that is not."""
        if example.doc in self.documents or normal in self.texts:
            return "in dev or test"
        if normal in self.own:
            return "in train"
        return "" if self.least <= _words(example) <= self.most else "length"


def _texts(task: Task, sources: Iterable[str], found: Transfer, tested: set[str]) -> Iterator[Example]:
    """Unlabelled examples of the task's kind; a document in ``tested`` goes by the name that it has there."""
    pairs = any(one.text_pair is not None or one.options for one in task.splits["train"])
    for source in sources:
        if pairs:
            yield from _pairs(source)
            continue
        if found.unit is None:
            probe = (one.text for one, _ in zip(_documents(source), range(PROBED), strict=False))
            found.unit = unit_of(task, probe)
        for document in _documents(source):
            name = min(document.names & tested, default=document.identity)
            parts = split_sentences(document.text) if found.unit == "sentence" else [document.text]
            yield from (_example(task, part, name) for part in parts)


def _documents(source: str) -> Iterator[Document]:
    """The documents of a source, cleaned."""
    from wellread.corpus import documents
    from wellread.corpus.clean import clean
    from wellread.corpus.prepare import source_files
    from wellread.corpus.readers import detect
    from wellread.settings import CorpusSettings

    run = Path(source)
    if (run / stages.STAGES).is_dir():
        chosen = stages.stage_folder(run, "selection") / "train_ids.txt"
        corpus = stages.stage_folder(run, "corpus") / "documents.jsonl.zst"
        if not chosen.exists() or not corpus.exists():
            raise DataError(
                "the run has no pre-training documents", where=source, fix="`wellread tokenize` its recipe"
            )
        wanted = set(chosen.read_text("utf-8").splitlines())
        yield from (one for one in documents.read(corpus) if one.id in wanted)
        return
    for path in source_files(CorpusSettings(sources=(source,)), Path.cwd()):
        yield from map(clean, detect.read(path))


def _pairs(source: str) -> Iterator[Example]:
    """Pairs or questions of a labelled or unlabelled file; labels are not looked at."""
    path = Path(source)
    if not path.is_file():
        raise DataError(
            "the task is one of pairs, and this is no file of them",
            where=source,
            fix='give a JSONL or CSV file with "text" and "text_pair" (or "options"), or no --text',
        )
    for row in read_rows(path):
        if isinstance(row, DataError):
            raise row
        text, pair, options = (row.values.get(key) for key in ("text", "text_pair", "options"))
        whole = isinstance(text, str) and isinstance(pair or "", str) and isinstance(options or [], list)
        if not whole or not (pair or options):
            raise DataError(
                "no pair of texts", where=row.where, fix='give "text" and "text_pair" (or "options")'
            )
        values: dict[str, Any] = {"doc": str(row.values.get("doc") or "")}
        yield Example("", str(text), "", pair or None, options=tuple(map(str, options or ())), **values)


def _example(task: Task, text: str, doc: str) -> Example:
    if task.kind != "tag":
        return Example("", text, "", doc=doc)
    tokens = tuple(match.group() for match in TOKEN.finditer(text))
    return Example("", " ".join(tokens), (), tokens=tokens, doc=doc)


def _text(example: Example) -> str:
    """All that is read of an example, as one text."""
    return "\n".join([example.text, example.text_pair or "", *example.options])


def _words(example: Example) -> int:
    return len(example.tokens) or len(_text(example).split())


def _normal(text: str) -> str:
    """Case, white space and punctuation apart, what a text is."""
    return " ".join(_WORD.findall(text.casefold()))


def _hash(normal: str, seed: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}\n{normal}".encode(), digest_size=8).digest(), "big")
