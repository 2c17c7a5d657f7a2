"""Tiny checkpoints to extend, and the helpers of the models' tests."""

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "finetune")]
import stock  # noqa: E402


@pytest.fixture(scope="session")
def short(tmp_path_factory):
    """Folders of tiny masked language models of 48 positions, by layout."""
    from wellread.models import build

    folders = {}
    for layout in ("bert", "modernbert", "llama"):
        folders[layout] = tmp_path_factory.mktemp(layout)
        model = build.build(
            stock.settings(layout), stock.tokenizer(), "clm" if layout == "llama" else "mlm", 1
        )
        stock.randomise(model)
        build.save(model, stock.tokenizer(), folders[layout])
    return folders
