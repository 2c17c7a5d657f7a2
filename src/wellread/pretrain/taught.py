"""Which text a teacher's part of the training reads: what it scores as hard but learnable (SALT_DS).

Rawat et al. (arXiv 2410.18779).  As many documents are scored as leave enough for the steps with the teacher;
the steps after it read all text in the ordinary order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from wellread import files, rng
from wellread.errors import ArtefactError
from wellread.objectives import salt
from wellread.objectives.distillation import Teacher
from wellread.objectives.prediction import Prediction
from wellread.pretrain.course import Course, Leg
from wellread.pretrain.subset import first_tokens
from wellread.settings import PretrainSettings
from wellread.tokens.batch import PackedBatch
from wellread.tokens.packing import Packing, plan
from wellread.tokens.store import Store

VERSION = 1


def lay(
    store: Store,
    settings: PretrainSettings,
    shape: tuple[int, int],
    seed: int,
    folder: Path,
    teacher: Teacher,
    ask: Callable[[PackedBatch], Prediction],
) -> Course:
    """Plan a run whose steps with the teacher read chosen text.

    Args:
        store: the training text.
        settings: of pre-training, with a teacher that keeps a share.
        shape: (longest sequence, special tokens around one).
        seed: of the run.
        folder: where tables and the choice are kept.
        teacher: that scores.
        ask: what a batch's samples are asked, always the same.
    """
    length, special = shape
    known = (length, settings.batch_tokens, special, seed)
    whole = plan(store, *known, folder)
    steps = max(1, round((settings.epochs or 1.0) * whole.steps_per_epoch))
    if settings.tokens is not None:
        steps = max(1, round(settings.tokens / whole.mean_tokens_per_step))
    # The last step with the teacher is the one before which less than its share lies behind.
    first = int(np.searchsorted(np.arange(steps) / steps, teacher.settings.share))
    wanted = first / whole.steps_per_epoch / teacher.settings.keep  # of the text
    order = np.argsort(rng.bits(seed, "salt", np.arange(store.n_documents)), kind="stable")
    pool = first_tokens(order, np.asarray(store.offsets), min(1.0, wanted))
    pooled = plan(store, *known, folder / "pool", pool)
    chosen, spent = _choose(pooled, teacher, ask, folder)
    field = plan(store, *known, folder / "chosen", chosen)
    legs = [Leg(field, 0, 0, first, 0, whole=True)]
    if steps > first:  # in passes of their own, so that no text is masked as it was before
        passes = max(1, math.ceil(first / field.steps_per_epoch))
        legs.append(Leg(whole, 1, first, steps - first, passes, whole=True))
    return Course(tuple(legs), spent)


def _choose(
    pooled: Packing, teacher: Teacher, ask: Callable[[PackedBatch], Prediction], folder: Path
) -> tuple[np.ndarray, float]:
    """The documents kept of a pool, and the FLOPs of scoring it; what was scored before is read again."""
    path = Path(teacher.settings.path)
    wanted = {
        "version": VERSION,
        "store_sha256": pooled.store.sha256,
        "teacher_sha256": [files.sha256_file(one) for one in sorted(path.glob("*.safetensors"))],
        "documents_sha256": files.sha256_bytes(np.asarray(pooled.bin_samples).tobytes()),
        "keep": teacher.settings.keep,
        "keep_top": teacher.settings.keep_top,
        "precision": teacher.precision,
    }
    lengths = pooled.sizes(pooled.bin_samples).tolist()
    predictions = sum(ask(batch).count for batch in pooled.validation_batches())
    spent = teacher.forward_flops(lengths, predictions)
    try:
        if files.read_json(folder / "chosen.json") == wanted:
            return np.load(folder / "chosen.npy", allow_pickle=False), spent
    except (ArtefactError, OSError, ValueError):
        pass
    with teacher.autocast():
        order = salt.rank(pooled, ask, teacher.model, teacher.settings.keep_top)
    sizes = np.diff(np.asarray(pooled.store.offsets))[order]
    before = np.cumsum(sizes) - sizes
    chosen = np.sort(order[before < teacher.settings.keep * sizes.sum()])
    np.save(folder / "chosen.npy", chosen)
    files.write_json(folder / "chosen.json", wanted)
    return chosen, spent
