"""What every process of a pre-training makes anew, and the same: model, optimiser, objective."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from wellread import allocator
from wellread.finetune.stability import averaging
from wellread.objectives import distillation
from wellread.objectives.distillation import Teacher
from wellread.objectives.units.lists import NONE, Lists
from wellread.pretrain import auxiliary, average
from wellread.pretrain.auxiliary import Auxiliary
from wellread.pretrain.optimizer import Optimizer
from wellread.pretrain.parallel import SOLO, Group, Reducer
from wellread.pretrain.parts import Objective, make_model, make_objective
from wellread.settings import ModelSettings, PretrainSettings
from wellread.sparsity import linear
from wellread.sparsity.linear import SparseLinear


@dataclass(frozen=True)
class Trainer:
    """All that a step needs."""

    model: PreTrainedModel
    optimizer: Optimizer
    objective: Objective
    teacher: Teacher | None
    auxiliaries: tuple[Auxiliary, ...]
    model_settings: ModelSettings
    settings: PretrainSettings
    seed: int
    steps: int
    device: torch.device
    sparsity: float  # the share of zeros that the masks really have; blocks may not divide evenly
    moving: dict[str, SparseLinear]  # the layers whose weights move; none where sparsity is static
    group: Group
    reducer: Reducer
    average: averaging.Average | None  # of the weights, where one is wanted


def make_trainer(
    model_settings: ModelSettings,
    settings: PretrainSettings,
    tokenizer: PreTrainedTokenizerBase,
    steps: int,
    seed: int,
    group: Group = SOLO,
    tokens: Path | None = None,
    masked: Lists = NONE,
) -> Trainer:
    """Model, optimiser and objective before the first step, on the GPU where there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if settings.recompute:
        allocator.return_large_blocks()
    else:
        allocator.keep_blocks()
    model = make_model(model_settings, settings, tokenizer, seed)
    level = linear.report(model)["level"]
    auxiliaries = auxiliary.make(model_settings, settings, tokenizer, tokens, seed, masked, level)
    auxiliary.attach(model, auxiliaries)
    model.to(device)  # type: ignore[arg-type]
    teacher = None
    if settings.teacher and settings.teacher.weight and settings.teacher.share:
        teacher = distillation.open_teacher(settings, tokenizer, model_settings)
    return Trainer(
        model=model,
        optimizer=Optimizer(model, settings),
        objective=make_objective(model_settings, settings, tokenizer, seed, masked, teacher),
        teacher=teacher,
        auxiliaries=auxiliaries,
        model_settings=model_settings,
        settings=settings,
        seed=seed,
        steps=steps,
        device=device,
        sparsity=level,
        moving=linear.sparse_layers(model) if settings.sparsity.dynamic != "none" else {},
        group=group,
        reducer=Reducer(model.parameters(), group),
        average=average.begin(model, settings.ema_decay),
    )
