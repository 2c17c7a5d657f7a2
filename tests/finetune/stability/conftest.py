"""Small checkpoints of every layout, and runs that begin with them."""

from functools import cache

import pytest
import toy
from shape import LAYERS


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory, tokenizer, bpe):
    """layout -> (checkpoint folder, tokenizer), made when first asked for."""
    from wellread.models import build

    @cache
    def make(layout):
        causal = layout in ("llama", "gpt2")
        used = bpe if causal else tokenizer
        folder = tmp_path_factory.mktemp("checkpoints") / layout
        model = build.build(toy.model(layout, layers=LAYERS), used, "clm" if causal else "mlm", 5)
        build.save(model, used, folder)
        return folder, used

    return make


@pytest.fixture
def model(checkpoints):
    """(layout, kind) -> a classifier with a fresh head on a checkpoint's body."""
    from wellread.models import heads

    def make(layout="modernbert", kind="classify", dropout=0.0):
        folder, tokenizer = checkpoints(layout)
        return heads.task_model(folder, tokenizer, kind, ("O", "B-X", "I-X"), dropout, 0)

    return make


@pytest.fixture
def finetune(checkpoints):
    """(kind, layout, settings) -> the result of a short run from a checkpoint."""
    from wellread.finetune import data, loop

    @cache
    def encoded(kind, layout):
        task = toy.task(kind, 24, 8)
        return data.prepare(task, task.splits["train"], checkpoints(layout)[1], 64)

    def run(kind="classify", layout="modernbert", **changes):
        prepared = encoded(kind, layout)
        quick = {"epochs": 1, "min_steps": 6, "max_steps": 6, "evaluations": 2, "patience": 9, **changes}
        folder, tokenizer = checkpoints(layout)
        train = prepared.task.splits["train"]
        return loop.finetune(prepared, train, folder, tokenizer, toy.settings(**quick), 1)

    return run


@pytest.fixture
def same():
    """Whether two runs gave the same bits: weights, history and scores."""
    import torch

    def compare(one, other):
        pairs = zip(one.model.state_dict().items(), other.model.state_dict().items(), strict=True)
        equal = all(a == b and torch.equal(v, w) for (a, v), (b, w) in pairs)
        return equal and (one.history, one.dev, one.test) == (other.history, other.dev, other.test)

    return compare
