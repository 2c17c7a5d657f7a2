"""A first recipe for somebody's own text: ``wellread new``."""

from __future__ import annotations

import json
import re
from pathlib import Path

from wellread import files
from wellread.errors import UserError

TEMPLATE = """\
# What to build.  Every key and its default: docs/recipe.md.  Check it with `wellread plan {name}.toml`.
name = "{name}"
description = "A specialist model for my own text."

[corpus]
sources = {sources}      # files, folders, globs; .txt .jsonl .csv .tsv .parquet .xml, also .gz .xz .bz2 .zst
languages = []           # keep documents of every language
min_words = 20

[tokenizer]
vocab_size = 8192        # 16k to 32k for more than about 20 million words

[model]
layout = "modernbert"    # "llama" for a decoder
layers = 4
hidden = 256
heads = 4
max_length = 512

[pretrain]
epochs = 1               # more on small corpora: as long as the validation loss falls
batch_tokens = 2048      # more on corpora of tens of millions of words
optimizer = "muon"       # a lower loss than "adamw" at these rates: docs/methods/optimisers.md
muon_learning_rate = 0.016
learning_rate = 1e-3     # of all that is no matrix of a layer
embedding_learning_rate = 4e-3

[pretrain.sparsity]
level = 0.0              # 0.75: three quarters of the weights stay zero until fine-tuning
pattern = "block16"      # the fastest on a CPU; "unstructured" learns a little more a token
{tasks}
[finetune]
recipe = "stable"        # picks steps, batch and rate by the size of the task and of the model
seeds = [0, 1, 2]
"""

TASK = """
[tasks.{name}]
path = {path}            # train/dev/test as .jsonl, .csv or .tsv; `wellread data check` looks for mistakes
budgets = [100, "all"]   # numbers of training examples to try
"""


def write(name: str, text: list[str], tasks: list[Path]) -> Path:
    """Write NAME.toml into the working folder.

    Args:
        name: of the run.
        text: files, folders or globs of raw text.
        tasks: folders with labelled files.

    Raises:
        UserError: the name is not usable, or the file is there already.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", name):
        raise UserError(
            f"{name!r} cannot name a run", fix="use small letters, digits, '-', '_' and '.', a letter first"
        )
    path = Path(f"{name}.toml")
    if path.exists():
        raise UserError("the file is there already", where=str(path), fix="choose another name")
    names = _task_names(tasks)
    blocks = [TASK.format(name=task, path=_toml(str(at))) for task, at in zip(names, tasks, strict=True)]
    recipe = TEMPLATE.format(name=name, sources=_toml(text or ["pubmed-sample"]), tasks="".join(blocks))
    files.write_bytes(path, recipe.encode())
    return path


def _task_names(tasks: list[Path]) -> list[str]:
    """Names that may stand as keys, each once."""
    names: list[str] = []
    for path in tasks:
        own = path.stem if path.is_file() else path.resolve().name
        name = first = re.sub(r"[^a-z0-9_-]+", "-", own.lower()).strip("-_") or "task"
        number = 1
        while name in names:
            number += 1
            name = f"{first}-{number}"
        names.append(name)
    return names


def _toml(value: str | list[str]) -> str:
    """JSON's strings and lists are TOML's, when no character is written as half of a pair."""
    return json.dumps(value, ensure_ascii=False)
