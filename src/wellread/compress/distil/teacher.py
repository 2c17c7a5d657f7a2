"""What a teacher says: logits of any local fine-tuned model on any texts, asked once and kept.

Teacher and student read the same texts, each with its own tokenizer; what passes between them is a row of
logits for each text, for tags one for each word.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wellread import files
from wellread.errors import ArtefactError
from wellread.finetune import objective
from wellread.progress import Progress
from wellread.serve.engines.engine import Engine
from wellread.serve.predict import Predictor
from wellread.tasks import decoding
from wellread.tasks.task import Example, Kind, Task

PARCEL = 1024  # texts that are asked, and kept, at a time
UNSEEN = 30.0  # logit of "O" for a word of which the tokenizer leaves nothing: it is surely outside


def open_teacher(folder: Path, task: Task) -> Predictor:
    """A fine-tuned model or committee that can teach a task, on the GPU where there is one.

    Raises:
        ArtefactError: no such model, or one that was fine-tuned on another kind of task or other labels.
    """
    import torch

    teacher = Predictor.load(folder)
    if isinstance(teacher.model, Engine):
        raise ArtefactError(
            "a model that was exported for an engine cannot teach",
            where=str(folder),
            fix="give the model that it was exported from",
        )
    if teacher.kind != task.kind:
        raise ArtefactError(
            f"the teacher was fine-tuned on a {teacher.kind} task, and {task.name} is a {task.kind} task",
            where=str(folder),
            fix="give a model that was fine-tuned on this task",
        )
    if task.kind != "regress" and set(teacher.labels) != set(task.labels):
        raise ArtefactError(
            f"the teacher's labels are not those of {task.name}",
            where=str(folder),
            fix="name the labels in `id2label` of its config.json as the task does",
        )
    if torch.cuda.is_available():
        teacher.model.cuda()
    return teacher


def soft_labels(teacher: Predictor, examples: Sequence[Example], labels: Sequence[str]) -> np.ndarray:
    """The teacher's logits.

    Args:
        teacher: from :func:`open_teacher`.
        examples: N texts; their labels are not looked at.
        labels: of the task, the order of the columns.

    Returns:
        float32 (N, labels), for tag (words of all examples, labels) in their order; scores for regress.
    """
    encoded = teacher.head.encode(examples, teacher.max_length)
    found = teacher.head.logits(teacher.model, encoded)
    if teacher.kind == "tag":
        rows = np.zeros((sum(len(example.tokens) for example in examples), found.shape[1]), dtype=np.float32)
        rows[:, teacher.labels.index("O")] = UNSEEN
        rows[word_rows(encoded, examples)] = found
        found = rows
    if teacher.kind == "regress":
        return found
    return found[:, [teacher.labels.index(label) for label in labels]]


def kept_labels(
    folder: Path, examples: Sequence[Example], task: Task, cache: Path, *, quiet: bool = False
) -> np.ndarray:
    """As :func:`soft_labels`, in parcels that are kept in a folder and asked once.

    A parcel's name is a hash of the teacher, the labels and the texts, so a parcel that is there is the right
    one, whatever was done before; one that cannot be read is made anew.

    Args:
        folder: of the teacher.
        examples: N texts.
        task: that the teacher teaches.
        cache: folder of the parcels.
        quiet: show no progress.

    Raises:
        ArtefactError: as :func:`open_teacher`.
    """
    cache.mkdir(parents=True, exist_ok=True)
    identity = [model_identity(folder), task.kind, list(task.labels)]
    parcels = [examples[first : first + PARCEL] for first in range(0, len(examples), PARCEL)]
    paths = [cache / f"{_hash([*identity, _inputs(parcel)])[:32]}.npy" for parcel in parcels]
    known = {path: _read(path, parcel, task) for path, parcel in zip(paths, parcels, strict=True)}
    done = sum(len(parcel) for path, parcel in zip(paths, parcels, strict=True) if known[path] is not None)
    teacher = open_teacher(folder, task)
    rows = []
    with Progress("teacher", len(examples), "texts", done=done, quiet=quiet) as progress:
        for path, parcel in zip(paths, parcels, strict=True):
            found = known[path]
            if found is None:
                found = soft_labels(teacher, parcel, task.labels)
                stream = io.BytesIO()
                np.save(stream, found, allow_pickle=False)
                files.write_bytes(path, stream.getvalue())
                progress.advance(len(parcel))
            rows.append(found)
    return np.concatenate(rows) if rows else np.zeros((0, len(task.labels)), dtype=np.float32)


def word_rows(encoded: Any, examples: Sequence[Example]) -> np.ndarray:
    """(W,) int64: where the labelled words of an encoding stand among all words of its examples."""
    starts = np.cumsum([0, *(len(example.tokens) for example in examples)])
    return starts[objective.word_inputs(encoded)] + encoded.word_numbers


def answers(kind: Kind, labels: Sequence[str], rows: np.ndarray, examples: Sequence[Example]) -> Any:
    """What rows of :func:`soft_labels` predict: float32 (N, labels), or for tag a list of tags an example."""
    if kind != "tag":
        return objective.scores(kind, rows)
    return decoding.tags(labels, rows, [len(example.tokens) for example in examples])


def model_identity(folder: Path) -> dict[str, str]:
    """SHA-256 of all that a model folder predicts with, by file."""
    used = (path for path in sorted(folder.rglob("*")) if path.suffix in (".safetensors", ".json"))
    return {
        path.relative_to(folder).as_posix(): files.sha256_file(path)
        for path in used
        if path.name not in files.NOT_IDENTITY
    }


def _inputs(parcel: Sequence[Example]) -> list[Any]:
    return [[one.text, one.text_pair, list(one.options), list(one.tokens)] for one in parcel]


def _hash(facts: Any) -> str:
    return files.sha256_bytes(files.canonical_json(facts))


def _read(path: Path, parcel: Sequence[Example], task: Task) -> np.ndarray | None:
    """A kept parcel; None where there is none that can be read."""
    count = sum(len(one.tokens) for one in parcel) if task.kind == "tag" else len(parcel)
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError):
        return None
    return found if found.shape == (count, len(task.labels)) and found.dtype == np.float32 else None
