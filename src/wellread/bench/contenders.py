"""The ways to get from texts to logits that ``wellread bench infer`` compares, all on the same weights."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wellread import files
from wellread.models import build
from wellread.serve.engines.engine import FACTS, open_engine
from wellread.serve.engines.folder import export_engine
from wellread.serve.engines.formats import FORMATS
from wellread.serve.inputs import examples
from wellread.serve.predict import CHUNK, Predictor, with_engine

BASELINE = "transformers"
PLAIN_BATCH = 32  # documents in a padded batch of the baseline, in the order of the file

# Texts to logits; a tagger's have a row for each word (ours) or each token (the baseline).
Answer = Callable[[Sequence[str]], Any]


def export(model: Path, names: Sequence[str], texts: Sequence[str], scratch: Path) -> dict[str, Path]:
    """Export the engines among the contenders, one precision to a folder; returns the folder of each."""
    folders: dict[str, Path] = {}
    for int8 in (False, True):
        some = [name for name in names if name in FORMATS and FORMATS[name].int8 == int8]
        if some:
            place = scratch / ("int8" if int8 else "fp32")
            export_engine(model, place, some, texts)
            folders |= dict.fromkeys(some, place)
    return folders


def plain(model: Any, tokenizer: Any, max_length: int) -> Answer:
    """The stock model on padded batches in the order given, as its documentation shows it."""

    def answer(texts: Sequence[str]) -> list[np.ndarray]:
        found = []
        for begin in range(0, len(texts), PLAIN_BATCH):
            some = list(texts[begin : begin + PLAIN_BATCH])
            given = tokenizer(some, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
            with torch.inference_mode():
                found.append(model(**given).logits.numpy())
        return found

    return answer


def of_predictor(predictor: Predictor) -> Answer:
    """As ``wellread predict`` does it: chunks of texts, encoded, sorted by length."""

    def answer(texts: Sequence[str]) -> list[np.ndarray]:
        found = []
        for begin in range(0, len(texts), CHUNK):
            some = examples(texts[begin : begin + CHUNK], predictor.kind)
            encoded = predictor.head.encode(some, predictor.max_length)
            found.append(predictor.head.logits(predictor.model, encoded))
        return found

    return answer


def make(
    model: Path, names: Sequence[str], folders: dict[str, Path], threads: int, *, side_by_side: bool
) -> dict[str, Answer]:
    """The baseline and the contenders by name.

    Args:
        model: folder of the fine-tuned model.
        names: of contenders.
        folders: of :func:`export`.
        threads: CPU threads of each.
        side_by_side: engines use them for as many batches at once, instead of for one batch.
    """
    reference = Predictor.load(model, "torch")
    stock: Any = build.load(model, "tag" if reference.kind == "tag" else "classify").eval()
    answers = {BASELINE: plain(stock, reference.tokenizer, reference.max_length)}
    workers = threads if side_by_side else 1
    for name in names:
        if name == "torch-packed":
            answers[name] = of_predictor(reference)
        elif name == "torch-int8":
            answers[name] = plain(_torch_int8(stock), reference.tokenizer, reference.max_length)
        else:
            facts = files.read_json(folders[name] / FACTS)
            graph = open_engine(folders[name], facts, FORMATS[name].engine, threads // workers, workers)
            answers[name] = of_predictor(with_engine(reference, graph))
    return answers


def _torch_int8(stock: Any) -> Any:
    """Torch's own dynamic quantisation of all linear layers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(
            copy.deepcopy(stock), {torch.nn.Linear}, dtype=torch.qint8
        )
