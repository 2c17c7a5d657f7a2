"""A soft committee: several shallow models whose predictions are averaged.

After "Tiny language models" (arXiv 2507.14871): K independently trained shallow models together can match a
deep one at lower latency.  A committee is a folder with ``committee.json`` and a model folder for each
member; the members share their tokenizer, so that a text is cut into tokens once.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn

from wellread import files
from wellread.errors import ArtefactError
from wellread.finetune.encode import Encoded
from wellread.finetune.head import NOTES
from wellread.serve.engines.engine import Engine
from wellread.serve.predict import COMMITTEE, Predictor
from wellread.tasks.task import Kind

Average = Literal["probabilities", "logits"]


class Committee(nn.ModuleList):
    """Models that answer together; ``device`` is that of the first."""

    @property
    def device(self) -> torch.device:
        """Where the members are."""
        return next(self.parameters()).device


def average(kind: Kind, logits: np.ndarray, way: Average = "probabilities") -> np.ndarray:
    """The committee's logits: their softmax (sigmoid for multilabel) is the mean of the members'.

    Scores of a regression are averaged as they are.  The members are summed in the order of their values, so
    the result does not depend on the order of the members, to the bit.

    Args:
        kind: of the task.
        logits: (K, N, labels) float32.
        way: average probabilities, or logits.

    Returns:
        (N, labels) float32.
    """
    values = logits.astype(np.float64)
    if kind == "regress" or way == "logits":
        return _mean(values).astype(np.float32)
    if kind == "multilabel":
        # The mean of the noes is kept apart: 1 - mean(yes) would lose digits near a sure yes.
        yes, no = (_mean(np.exp(-np.logaddexp(0.0, sign * values))) for sign in (-1.0, 1.0))
        return (_log(yes) - _log(no)).astype(np.float32)
    shifted = values - values.max(axis=-1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return _log(_mean(np.exp(logs))).astype(np.float32)


def make(members: Sequence[Path], folder: Path, way: Average = "probabilities") -> None:
    """Write a committee's folder: copies of its members with all their parts, and what they have in common.

    Args:
        members: K folders of fine-tuned classifiers.
        folder: to make; must not exist.
        way: how they are averaged.

    Raises:
        ArtefactError: there is something at ``folder``; a member cannot be loaded; or members differ in task,
            labels or tokenizer.
    """
    if folder.exists():
        raise ArtefactError("there is something here", where=str(folder), fix="choose another folder")
    joined = join([_member(path) for path in members], list(members), way)
    facts = {"kind": joined.kind, "labels": list(joined.labels), "average": way}
    with files.new_folder(folder) as partial:
        names = [f"member-{number}" for number in range(len(members))]
        left_out = shutil.ignore_patterns(*files.NOT_IDENTITY, ".*")
        for path, name in zip(members, names, strict=True):
            shutil.copytree(path, partial / name, ignore=left_out, copy_function=shutil.copyfile)
        files.write_json(partial / COMMITTEE, {"members": names, **facts})


def load(folder: Path) -> Predictor:
    """A committee as one model that predicts.

    Raises:
        ArtefactError: the folder is damaged, or its members do not fit together.
    """
    if (folder / files.MANIFEST).exists():
        files.check(folder)
    facts = files.read_json(folder / COMMITTEE)
    try:
        paths = [folder / Path(name).name for name in facts["members"]]
        way: Average = {"probabilities": "probabilities", "logits": "logits"}[facts["average"]]  # type: ignore[assignment]
    except (KeyError, TypeError):
        raise ArtefactError(
            "not a committee", where=str(folder / COMMITTEE), fix="restore the folder from its source"
        ) from None
    return join([_member(path) for path in paths], paths, way)


def join(members: Sequence[Predictor], names: Sequence[Path], way: Average = "probabilities") -> Predictor:
    """Predictors as one, whose logits are averaged.

    Args:
        members: of one task and one tokenizer.
        names: of the members, for errors.
        way: how they are averaged.

    Raises:
        ArtefactError: there is none, or they do not fit together.
    """
    if not members:
        raise ArtefactError("a committee without a member", where=COMMITTEE, fix="name at least one model")
    first = members[0]
    for one, name in zip(members, names, strict=True):
        for what, same in (
            ("kind of task", one.kind == first.kind),
            ("labels", one.labels == first.labels),
            ("tokenizer", _tokens(one) == _tokens(first)),
        ):
            if not same:
                raise ArtefactError(
                    f"its {what} is not that of {names[0]}",
                    where=str(name),
                    fix="take models that were fine-tuned on one task with one tokenizer",
                )
    length = min(one.max_length for one in members)

    def logits(models: Committee, encoded: Encoded) -> np.ndarray:
        found = [one.head.logits(model, encoded) for one, model in zip(members, models, strict=True)]
        return average(first.kind, np.stack(found), way)

    models = Committee([one.model for one in members])
    return replace(first, model=models, max_length=length, head=replace(first.head, logits=logits))


def _member(path: Path) -> Predictor:
    found = Predictor.load(path)
    if isinstance(found.model, Committee | Engine) or (path / NOTES).exists():
        raise ArtefactError(
            "a member must be a fine-tuned classifier",
            where=str(path),
            fix='fine-tune it with head = "classifier"',
        )
    return found


def _tokens(predictor: Predictor) -> str:
    """What the tokenizer does, its longest length apart."""
    engine = Tokenizer.from_str(predictor.tokenizer.backend_tokenizer.to_str())
    engine.no_truncation()
    engine.no_padding()
    return engine.to_str()


def _mean(values: np.ndarray) -> np.ndarray:
    return np.sort(values, axis=0).mean(axis=0)


def _log(values: np.ndarray) -> Any:
    return np.log(np.maximum(values, np.finfo(np.float64).tiny))
