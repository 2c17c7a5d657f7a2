"""Fine-tuned toy models of every kind, made once."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "finetune"))
import toy


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    import torch

    from wellread.finetune import grid
    from wellread.tasks.read import write_task

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("models")
    toy.make_tokenizer(folder / "tokenizer")
    for kind in toy.KINDS:
        write_task(toy.task(kind, 60, 20), folder / "tasks" / kind)
        job = grid.Job(
            task=folder / "tasks" / kind,
            start=toy.model(),
            tokenizer=folder / "tokenizer",
            settings=toy.settings(seeds=(0,), max_steps=40, min_steps=40),
            budgets=("all",),
            folder=folder / kind,
            task_name=kind,
            model_name="main",
            start_name="random",
        )
        grid.run(job, quiet=True)
    return folder


@pytest.fixture(scope="module")
def predictors(models):
    from wellread.serve.predict import Predictor

    return {kind: Predictor.load(models / kind / "model") for kind in toy.KINDS}
