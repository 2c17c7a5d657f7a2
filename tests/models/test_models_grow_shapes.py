"""Sizes: a checkpoint's architecture comes back as the settings that it was built from."""

from __future__ import annotations

import pytest
import stock

from wellread.models import build
from wellread.models.grow.shapes import settings_of
from wellread.settings import ModelSettings

TOLD = ("layout", "layers", "hidden", "heads", "inner", "max_length")
WINDOWS = ("local_attention", "global_every")


@pytest.mark.parametrize(
    "changes",
    [
        {"layout": "modernbert", "layers": 4, "global_every": 2, "local_attention": 16},
        {"layout": "modernbert", "layers": 3, "global_every": 3},
        {"layout": "bert", "ffn": 48},
        {"layout": "llama", "ffn": 48},
        {"layout": "gpt2"},
    ],
)
def test_settings_come_back_from_a_checkpoint(tmp_path, changes):
    settings = ModelSettings(**({"layers": 2, "hidden": 32, "heads": 2, "max_length": 64} | changes))
    model = build.build(settings, stock.tokenizer(), "clm" if settings.causal else "mlm", seed=0)
    build.save(model, stock.tokenizer(), tmp_path / "model")
    found = settings_of(build.load_config(tmp_path / "model"))
    for name in (*TOLD, *WINDOWS) if settings.layout == "modernbert" else TOLD:
        assert getattr(found, name) == getattr(settings, name), name
