"""What a finished pre-training leaves: model/, sparsity.json, pretrain.json."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from wellread import files
from wellread.models import build, packed
from wellread.precision import product_type
from wellread.pretrain import auxiliary, guard
from wellread.pretrain.parts import count_parameters, kind
from wellread.pretrain.state import Done
from wellread.pretrain.trainer import Trainer
from wellread.settings import ModelSettings, PretrainSettings
from wellread.sparsity import dynamic, linear


def write(
    trainer: Trainer,
    done: Done,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    frequencies: float | None = None,
) -> None:
    """Write the results, pretrain.json last; ``frequencies`` is the loss of word frequencies alone."""
    settings, model_settings = trainer.settings, trainer.model_settings
    moved = dynamic.report(trainer.moving, settings.sparsity) if trainer.moving else {}
    files.write_json(folder / "sparsity.json", linear.report(trainer.model) | moved)
    shutil.rmtree(folder / "model", ignore_errors=True)
    auxiliary.detach(trainer.model)
    model = packed.disable(linear.densify(trainer.model)).eval()
    build.save(model, tokenizer, folder / "model")
    for path in (folder / "model").iterdir():
        with open(path, "rb") as stream:
            os.fsync(stream.fileno())
    total, without_embeddings = count_parameters(model)
    files.write_json(
        folder / "pretrain.json",
        {
            "objective": kind(model_settings),
            "layout": model_settings.layout,
            "steps": done.step,
            "tokens": done.tokens,
            "parameters": total,
            "parameters_without_embeddings": without_embeddings,
            "sparsity": settings.sparsity.level,
            "pattern": settings.sparsity.pattern,
            **moved,
            "products": str(product_type(settings.precision, trainer.device)).removeprefix("torch."),
            "flops": {"dense": done.dense_flops, "accounted": done.accounted_flops},
            **({"teacher_flops": done.teacher_flops} if settings.teacher else {}),
            "loss": done.validation_loss,
            "frequency_loss": frequencies,
            "max_length": model_settings.max_length,
            "mask_rate": None if model_settings.causal else settings.mask_rate,
            **_origin(model_settings),
            **_continued(settings, folder),
        },
    )


def _continued(settings: PretrainSettings, folder: Path) -> dict[str, Any]:
    """What continual pre-training gained and forgot."""
    if settings.continual is None:
        return {}
    lines = (folder / "validation.jsonl").read_text("utf-8").splitlines()
    return {"continual": guard.curves([json.loads(line) for line in lines])}


def _origin(settings: ModelSettings) -> dict[str, Any]:
    """How the start checkpoint came in, and what training it cost where it is one of ours."""
    if settings.start is None:
        return {}
    before = Path(settings.start).parent / "pretrain.json"
    if not before.is_file():
        return {"start": {"grow": settings.grow, "tokens": None, "flops": None}}
    facts = files.read_json(before)
    tokens, flops, earlier = facts["tokens"], facts["flops"], facts.get("start", {})
    if earlier.get("flops"):
        tokens += earlier["tokens"]
        flops = {key: value + earlier["flops"][key] for key, value in flops.items()}
    return {"start": {"grow": settings.grow, "tokens": tokens, "flops": flops}}
