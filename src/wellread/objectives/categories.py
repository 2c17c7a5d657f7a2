"""Categories of the documents beside the language model: the journal, type, year or field of a text.

The metadata objective of arXiv 2403.19802: cross-entropy on the mean of the last states, read from what
masking left.  Categories come from the corpus' documents, before training; those with few documents are left
out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from wellread import files, rng
from wellread.corpus import documents
from wellread.corpus.documents import Document
from wellread.errors import ArtefactError, DataError
from wellread.models.build import seeded
from wellread.models.heads import mean_states
from wellread.tokens.store import Store

if TYPE_CHECKING:
    from wellread.pretrain.auxiliary import Auxiliary, Seen

NAME = "categories"
KEY = "pretrain.categories"
FEWEST = 50  # documents of a category
LABELS, FACTS = "categories.npy", "categories.json"
# Types that say nothing about a text; support by a fund is no type either.
GENERAL = {"", "Journal Article", "English Abstract"}


def auxiliary(weight: float, hidden: int, labels: np.ndarray, seed: int) -> Auxiliary:
    """The loss: a linear layer on the mean state of each sample whose document has a category.

    Args:
        weight: of the loss.
        hidden: width of the model.
        labels: (documents,) category of each, -1 for none; empty where no real data are read.
        seed: the run's.
    """
    from wellread.pretrain.auxiliary import Auxiliary

    with seeded(rng.derive(seed, "categories head")):
        head = nn.Linear(hidden, max(2, int(labels.max(initial=0)) + 1))

    def loss(model: Any, seen: Seen) -> Tensor:
        read = seen.prediction.inputs
        answers = torch.full((read.sequences,), -1)
        if len(labels) and read.document_ids is not None:
            answers = torch.from_numpy(labels[read.document_ids.cpu().numpy()].astype(np.int64))
        logits = model.auxiliary[NAME](mean_states(seen.hidden, read.lengths)).float()
        total = F.cross_entropy(logits, answers.to(logits.device), ignore_index=-1, reduction="sum")
        return total / max(1.0, seen.step.samples)

    return Auxiliary(NAME, weight, loss, head)


def prepare(corpus: Path, tokens: Path, of: str, folder: Path) -> None:
    """Find the category of each document of the training store and write them down beside the run.

    Args:
        corpus: documents.jsonl.zst.
        tokens: folder of the training store.
        of: as :func:`reader` knows it.
        folder: where categories.npy, (documents,) int32, and categories.json are written.

    Raises:
        DataError: fewer than two categories have documents enough.
        ArtefactError: the corpus is damaged.
    """
    read = reader(of)
    found = {document.id: read(document) for document in documents.read(corpus)}
    labels, counts = label([found.get(name) for name in Store.open(tokens).document_ids()], of)
    np.save(folder / LABELS, labels)
    without = int((labels < 0).sum())
    files.write_json(folder / FACTS, {"of": of, "categories": counts, "without": without})


def load(folder: Path, store: Store) -> np.ndarray:
    """(documents,) categories that :func:`prepare` wrote.

    Raises:
        ArtefactError: they are missing, or of another corpus.
    """
    try:
        labels = np.load(folder / LABELS, allow_pickle=False)
    except (OSError, ValueError):
        labels = np.empty(0, np.int32)
    if labels.shape != (store.n_documents,):
        raise ArtefactError(
            "the documents' categories are missing or of another corpus",
            where=str(folder / LABELS),
            fix="run the pretrain stage again",
        )
    return labels


def label(found: list[str | None], of: str, scale: float = 1.0) -> tuple[np.ndarray, dict[str, int]]:
    """Numbers for the categories that are frequent enough, the most frequent first.

    Args:
        found: the category of each document, or None.
        of: as :func:`reader` knows it.
        scale: documents that each of these stands for.

    Returns:
        (documents,) int32, -1 for none, and the documents of each category.

    Raises:
        DataError: fewer than two are left.
    """
    counts = Counter(name for name in found if name)
    order = sorted((name for name in counts if counts[name] * scale >= FEWEST), key=lambda n: (-counts[n], n))
    if len(order) < 2:
        stated = sum(counts.values()) / max(1, len(found))
        raise DataError(
            f"{len(order)} of {len(counts)} categories by {of} have {FEWEST} documents or more, two are "
            f"needed ({stated:.0%} of the documents state one)",
            where=KEY,
            fix="choose another property, give a larger corpus, or leave besides.categories out",
        )
    number = {name: place for place, name in enumerate(order)}
    labels = np.array([number.get(name, -1) if name else -1 for name in found], np.int32)
    return labels, {name: counts[name] for name in order}


def reader(of: str) -> Callable[[Document], str | None]:
    """What says the category of a document, None where it states none.

    Args:
        of: "journal"; "type", of the publication; "year"; or "mesh", the branch of diseases in which most of
            its headings lie.

    Raises:
        UserError: MeSH's names are not here and cannot be fetched.
    """
    if of == "mesh":
        from wellread.tasks import mesh

        return _by_disease(mesh.load_categories())
    return {"journal": _journal, "type": _type, "year": _year}[of]


def _journal(document: Document) -> str | None:
    return str(document.meta.get("journal") or "") or None


def _type(document: Document) -> str | None:
    told = (one for one in document.publication_types if one not in GENERAL)
    return next((one for one in told if not one.startswith("Research Support")), None)


def _year(document: Document) -> str | None:
    return str(document.year) if document.year is not None else None


def _by_disease(branches: dict[str, list[str]]) -> Callable[[Document], str | None]:
    def read(document: Document) -> str | None:
        found = Counter(_branches(document.mesh, branches))
        return min(found, key=lambda name: (-found[name], name)) if found else None

    return read


def _branches(headings: Iterable[Any], branches: dict[str, list[str]]) -> Iterable[str]:
    for heading in headings:
        yield from branches.get(heading.name.lower(), [])
