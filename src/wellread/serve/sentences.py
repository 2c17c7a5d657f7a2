"""Export for sentence embeddings: a stock sentence-transformers folder, its vectors means over tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wellread import files
from wellread.models import build
from wellread.serve.export import export

POOLING = "1_Pooling"
MODULES = ("Transformer", ""), ("Pooling", POOLING)
MODES = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")


def export_sentences(folder: str | Path, to: str | Path, **options: Any) -> Path:
    """Copy a model folder with what sentence-transformers needs beside it: modules and pooling.

    Args:
        folder: a model folder.
        to: the folder to make.
        options: as of :func:`wellread.serve.export.export`.

    Returns:
        ``to``.

    Raises:
        ArtefactError: there is no model in ``folder``, or a damaged or unsafe one.
        UserError: ``to`` has something in it, or cannot be written.
    """
    config = build.load_config(folder)
    beside = {
        "modules.json": [
            {"idx": at, "name": str(at), "path": path, "type": f"sentence_transformers.models.{name}"}
            for at, (name, path) in enumerate(MODULES)
        ],
        "sentence_bert_config.json": {
            "max_seq_length": config.max_position_embeddings,
            "do_lower_case": False,
        },
        f"{POOLING}/config.json": {
            "word_embedding_dimension": config.hidden_size,
            **{f"pooling_mode_{mode}": mode == "mean_tokens" for mode in MODES},
            "include_prompt": True,
        },
    }
    return export(
        folder, to, beside={name: files.canonical_json(value) for name, value in beside.items()}, **options
    )
