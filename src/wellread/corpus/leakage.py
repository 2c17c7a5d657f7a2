"""Which documents may be pre-trained on: none that stands in what is tested, and a share held out."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wellread import rng
from wellread.corpus import documents
from wellread.corpus.documents import Document
from wellread.corpus.open import lines
from wellread.corpus.shingles import hashes, words
from wellread.errors import ArtefactError, DataError
from wellread.files import write_json

RUN_WORDS = 8
# Share of the runs of the shorter text that must stand in the longer one.  Whole containment is 1; below it,
# a heading in between or a corrected word does not hide an overlap.
SHARE = 0.8
SHOWN = 100
TESTED = ("dev", "test")


@dataclass(frozen=True, slots=True)
class _Example:
    task: str
    split: str
    id: str
    derived: bool


@dataclass(frozen=True)
class _Tested:
    """All dev and test examples, with an index of the runs of words in their texts.

    Attributes:
        examples: where each comes from.
        by_document: the examples that state a document id.
        runs: uint64 (runs), sorted hashes of the runs of all texts.
        owners: int64 (runs), the text in which each stands.
        sizes: int64 (texts), different runs of each.
        example_of: int64 (texts), the example to which each belongs (a pair has two texts).
        short: texts of fewer words than a run, by task and split: only an equal document would be found.
    """

    examples: list[_Example]
    by_document: dict[str, list[int]]
    runs: np.ndarray
    owners: np.ndarray
    sizes: np.ndarray
    example_of: np.ndarray
    short: Counter[tuple[str, str]]


@dataclass
class _Tally:
    """What was found so far.

    Attributes:
        excluded: documents left out, by the task and split that they stand behind.
        totals: overlapping examples of tasks that are not derived, by task and split.
        overlaps: the first of them, as they are told.
        overlapping: documents that overlap with such examples.
        left_out: documents that are not read.
    """

    excluded: Counter[tuple[str, str]] = field(default_factory=Counter)
    totals: Counter[tuple[str, str]] = field(default_factory=Counter)
    overlaps: list[dict[str, str]] = field(default_factory=list)
    overlapping: int = 0
    left_out: int = 0


def select(
    corpus: Path,
    tasks: dict[str, Path],
    folder: Path,
    *,
    validation: float,
    on_overlap: str,
    allow_overlap: bool,
    seed: int,
) -> dict[str, Any]:
    """Choose the documents to pre-train on and those held out for the validation loss.

    Documents behind the dev and test examples of derived tasks are always left out.  A document overlaps
    with an example of another task if it has the id that the example states (``doc``), or if 80% of the
    8-word runs of the shorter of the two texts stand in the other.

    Args:
        corpus: documents.jsonl.zst.
        tasks: task folders by name.
        folder: where train_ids.txt, valid_ids.txt (in corpus order) and leakage.json are written.
        validation: share of documents held out, by a hash of the id; where it is above 0 at least one is.
        on_overlap: "refuse" or "exclude".
        allow_overlap: keep overlapping documents, and state it.
        seed: of the hold-out.

    Returns:
        What leakage.json holds.

    Raises:
        DataError: overlaps where they are refused, or no document is left to train on.
        ArtefactError: a file of an earlier stage is missing or damaged.
    """
    tested, tally = _read_tasks(tasks), _Tally()
    exclude = on_overlap == "exclude" and not allow_overlap
    with _HoldOut(folder, validation, seed) as chosen:
        for document in documents.read(corpus):
            if _may_be_read(document, tested, exclude, tally):
                chosen.add(document.id)
        if tally.overlapping and on_overlap == "refuse" and not allow_overlap:
            raise _refusal(tally)
        counts = chosen.finish()
        result = {
            "excluded": _nested(tally.excluded),
            "overlapping_documents": tally.overlapping,
            "totals": _nested(tally.totals),
            "unchecked": _nested(tested.short),
            "overlaps": tally.overlaps,
            "on_overlap": on_overlap,
            "allowed": allow_overlap,
            "documents": {**counts, "excluded": tally.left_out},
            "validation": validation,
            "seed": seed,
        }
        write_json(folder / "leakage.json", result)
        chosen.keep()
    return result


def _may_be_read(document: Document, tested: _Tested, exclude: bool, tally: _Tally) -> bool:
    """Whether a document stands behind nothing that is tested; counts what is found.

    Args:
        document: of the corpus.
        tested: the dev and test examples.
        exclude: leave out those, too, that overlap with tasks which are not derived.
        tally: counted in.
    """
    hits = [(tested.examples[at], how) for at, how in _hits(document, tested)]
    behind = {(example.task, example.split) for example, _ in hits if example.derived}
    others = [(example, how) for example, how in hits if not example.derived]
    tally.totals.update((example.task, example.split) for example, _ in others)
    room = SHOWN - len(tally.overlaps)
    tally.overlaps += [_told(example, document, how) for example, how in others[:room]]
    tally.overlapping += bool(others)
    if exclude:
        behind |= {(example.task, example.split) for example, _ in others}
    tally.excluded.update(behind)
    tally.left_out += bool(behind)
    return not behind


def _hits(document: Document, tested: _Tested) -> list[tuple[int, str]]:
    """The examples with which a document overlaps, and how ("id" or "text"), in the order of the tasks."""
    found = {at: "id" for name in document.names for at in tested.by_document.get(name, ())}
    if len(tested.runs):
        runs = np.unique(hashes(document.text, RUN_WORDS))
        low, high = (np.searchsorted(tested.runs, runs, side) for side in ("left", "right"))
        shared = np.flatnonzero(high > low)
        if len(shared):
            owners = np.concatenate([tested.owners[low[at] : high[at]] for at in shared])
            texts, counts = np.unique(owners, return_counts=True)
            enough = counts >= SHARE * np.minimum(tested.sizes[texts], len(runs))
            for at in tested.example_of[texts[enough]]:
                found.setdefault(int(at), "text")
    return sorted(found.items())


def _read_tasks(tasks: dict[str, Path]) -> _Tested:
    examples: list[_Example] = []
    by_document: dict[str, list[int]] = {}
    runs: list[np.ndarray] = []
    example_of: list[int] = []
    short: Counter[tuple[str, str]] = Counter()
    for name, folder in tasks.items():
        derived = _is_derived(folder)
        for split in TESTED:
            for number, example in _lines_of(folder / f"{split}.jsonl"):
                if example.get("doc"):
                    by_document.setdefault(example["doc"], []).append(len(examples))
                for text in () if derived else _texts(example):
                    runs.append(np.unique(hashes(text, RUN_WORDS)))
                    example_of.append(len(examples))
                    short[name, split] += len(words(text)) < RUN_WORDS
                identifier = str(example.get("id") or f"{split}.jsonl:{number}")
                examples.append(_Example(name, split, identifier, derived))
    sizes = np.array([len(own) for own in runs], np.int64)
    together = np.concatenate([np.empty(0, np.uint64), *runs])
    order = np.argsort(together, kind="stable")
    owners = np.repeat(np.arange(len(runs)), sizes)[order]
    return _Tested(
        examples, by_document, together[order], owners, sizes, np.array(example_of, np.int64), +short
    )


def _is_derived(folder: Path) -> bool:
    path = folder / "task.toml"
    try:
        return tomllib.loads(path.read_text("utf-8")).get("derived") is True
    except (OSError, ValueError) as error:
        raise ArtefactError(
            f"cannot be read ({type(error).__name__})", where=str(path), fix="run the tasks stage again"
        ) from None


def _lines_of(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The examples of a split with their line numbers; none where the task has no such split."""
    if path.exists():
        for number, line in lines(path):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except ValueError:
                    raise ArtefactError(
                        "not valid JSON", where=f"{path}:{number}", fix="run the tasks stage again"
                    ) from None


def _texts(example: dict[str, Any]) -> list[str]:
    tokens = example.get("tokens")
    texts = [example.get("text") or (" ".join(tokens) if tokens else ""), example.get("text_pair") or ""]
    return [text for text in texts if text]


def _told(example: _Example, document: Document, how: str) -> dict[str, str]:
    return {
        "task": example.task,
        "split": example.split,
        "example": example.id,
        "document": document.id,
        "how": how,
    }


def _refusal(tally: _Tally) -> DataError:
    counts = ", ".join(f"{task} {split} {count}" for (task, split), count in sorted(tally.totals.items()))
    first = ", ".join(dict.fromkeys(overlap["document"] for overlap in tally.overlaps[:20]))
    return DataError(
        f"{tally.overlapping} documents stand in what is tested (examples: {counts}); first: {first[:300]}",
        where="corpus.on_overlap",
        fix='set corpus.on_overlap = "exclude" to leave them out, or go on with --allow-overlap, which the '
        "report will state",
    )


def _nested(counts: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    nested: dict[str, dict[str, int]] = {}
    for (task, split), count in sorted(counts.items()):
        nested.setdefault(task, {})[split] = count
    return nested


class _HoldOut:
    """Writes ids as they come to train_ids.txt or valid_ids.txt, by a hash of the id alone.

    The files appear with :meth:`keep`; without it nothing is left behind.
    """

    def __init__(self, folder: Path, validation: float, seed: int) -> None:
        self._validation, self._seed = validation, seed
        self._targets = {name: folder / f"{name}_ids.txt" for name in ("train", "valid")}
        self._partial = {name: folder / f"{name}_ids.txt.tmp" for name in self._targets}
        self._counts = dict.fromkeys(self._targets, 0)
        self._lowest = (2.0, "")

    def __enter__(self) -> _HoldOut:
        self._files = {name: path.open("w", encoding="utf-8") for name, path in self._partial.items()}
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()
        for path in self._partial.values():
            path.unlink(missing_ok=True)

    def add(self, identifier: str) -> None:
        key = int.from_bytes(hashlib.blake2b(identifier.encode(), digest_size=8).digest(), "big", signed=True)
        draw = float(rng.uniform(self._seed, "validation", key))
        name = "valid" if draw < self._validation else "train"
        self._lowest = min(self._lowest, (draw, identifier))
        self._counts[name] += 1
        self._files[name].write(identifier + "\n")

    def finish(self) -> dict[str, int]:
        """Close the files; where a share is to be held out and no draw fell below it, the lowest is."""
        for file in self._files.values():
            file.close()
        if self._validation and not self._counts["valid"] and self._counts["train"] > 1:
            self._move(self._lowest[1])
        if not self._counts["train"]:
            raise DataError(
                "no document is left to train on",
                where="corpus.sources",
                fix="add documents that stand in no test set, or lower corpus.validation",
            )
        return dict(self._counts)

    def keep(self) -> None:
        for name, target in self._targets.items():
            self._partial[name].replace(target)

    def _move(self, identifier: str) -> None:
        """Take one id out of the training ids."""
        shorter = self._partial["train"].with_suffix(".new")
        with (
            open(self._partial["train"], encoding="utf-8") as before,
            open(shorter, "w", encoding="utf-8") as after,
        ):
            after.writelines(line for line in before if line != identifier + "\n")
        shorter.replace(self._partial["train"])
        self._partial["valid"].write_text(identifier + "\n", "utf-8")
        self._counts = {"train": self._counts["train"] - 1, "valid": 1}
