"""Small fine-tuned models for everything that compresses them, each made once."""

import sys
from functools import cache
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "finetune"))
import toy


@pytest.fixture(scope="session")
def fine_tuned(tmp_path_factory):
    """A function (kind of task, layout) -> (model folder, task, settings, result of fine-tuning)."""
    import torch

    from wellread.finetune.data import prepare
    from wellread.finetune.loop import finetune
    from wellread.models import build

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("compress")
    tokenizer = toy.make_tokenizer(folder / "tokenizer")

    @cache
    def make(kind: str, layout: str = "modernbert"):
        task, settings = toy.task(kind), toy.settings(min_steps=60, epochs=1)
        data = prepare(task, task.splits["train"], tokenizer, 64, settings)
        result = finetune(data, task.splits["train"], toy.model(layout), tokenizer, settings, 0)
        model = folder / f"{kind}-{layout}"
        build.save(result.model, tokenizer, model)
        return model, task, settings, result

    return make
