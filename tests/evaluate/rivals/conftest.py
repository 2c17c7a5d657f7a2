"""What rivals stand on, made small: word vectors, and an encoder as it comes without a head."""

from __future__ import annotations

from pathlib import Path

import pytest
from rival_tasks import task_of

from wellread.evaluate.rivals import vectors
from wellread.evaluate.rivals.run import Means
from wellread.models import build
from wellread.settings import ModelSettings, TokenizerSettings
from wellread.tokens import tokenizer as tokenizers


@pytest.fixture(scope="session")
def means(tmp_path_factory: pytest.TempPathFactory) -> Means:
    """Vectors and an encoder of random weights for the words of the made-up tasks."""
    folder = tmp_path_factory.mktemp("means")
    kinds = ("classify", "multilabel", "tag")
    texts = [example.text for kind in kinds for example in task_of(kind).splits["train"]]
    (folder / "vectors").mkdir()
    vectors.train(lambda: texts, folder / "vectors", quiet=True)
    settings = TokenizerSettings(vocab_size=300, min_frequency=1)
    tokenizer = tokenizers.train(
        texts, settings, folder / "tokenizer", causal=False, max_length=64, quiet=True
    )
    shape = ModelSettings(layout="bert", layers=2, hidden=32, heads=4, max_length=64, init_std=0.2)
    (folder / "encoder").mkdir()
    build.save(build.build(shape, tokenizer, "mlm", 0).base_model, tokenizer, Path(folder / "encoder"))
    return Means(folder / "vectors", folder / "encoder")
