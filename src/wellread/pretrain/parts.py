"""What the training loop and the probe are made of: the model, the objective, the batch in parts."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from wellread import rng
from wellread.errors import ArtefactError, UserError
from wellread.models import build, packed, vocabulary
from wellread.models.grow import grow
from wellread.models.grow.shapes import Shape, adopted, states, taken_over
from wellread.models.grow.shapes import check as check_growth
from wellread.objectives import clm, distillation, masking, mlm, policy
from wellread.objectives.prediction import Prediction
from wellread.objectives.units.lists import NONE, Lists
from wellread.settings import ModelSettings, PretrainSettings
from wellread.sparsity import linear
from wellread.tokens import tokenizer as tokenizers
from wellread.tokens.batch import PackedBatch

# A batch, its epoch (None in validation) and how much of the training lies behind (0 to 1) to what is
# predicted from it.
Objective = Callable[[PackedBatch, int | None, float], Prediction]


def make_model(
    model_settings: ModelSettings,
    settings: PretrainSettings,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
) -> PreTrainedModel:
    """The model as it stands before the first step: packed attention, sparse where asked for.

    Raises:
        ArtefactError: the start checkpoint is damaged, or does not fit the recipe or the tokenizer.
    """
    living = None
    if model_settings.start is None:
        model = build.build(model_settings, tokenizer, kind(model_settings), rng.derive(seed, "weights"))
    else:
        small = _started(model_settings, tokenizer, rng.derive(seed, "weights"))
        living = grow.living(small, model_settings, settings.sparsity, seed)
        model = small
        if model_settings.grow != "none":
            model = grow.grow(small, model_settings, rng.derive(seed, "growth"))
    sparsity = settings.sparsity
    if model_settings.start is not None:  # what was trained keeps its size
        sparsity = sparsity.model_copy(update={"rescale": False})
    linear.sparsify(model, sparsity, seed, living)
    if settings.recompute:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return packed.enable(model).train()


def kind(model_settings: ModelSettings) -> Literal["mlm", "clm"]:
    """The objective that a layout can have: "clm" for decoders, "mlm" for encoders."""
    return "clm" if model_settings.causal else "mlm"


def make_objective(
    model_settings: ModelSettings,
    settings: PretrainSettings,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    lists: Lists = NONE,
    teacher: distillation.Teacher | None = None,
) -> Objective:
    """The objective as a function of batch, epoch and progress; validation has one fixed mask and no teacher.

    Raises:
        ArtefactError: a masked model's tokenizer has no mask token, or the teacher does not fit.
    """
    if teacher is None and settings.teacher:
        teacher = distillation.open_teacher(settings, tokenizer, model_settings)

    def taught(prediction: Prediction, progress: float) -> Prediction:
        return teacher(prediction, progress) if teacher else prediction

    if model_settings.causal:

        def causal(batch: PackedBatch, epoch: int | None, progress: float = 0.0) -> Prediction:
            prediction = clm.predict(batch)
            return prediction if epoch is None else taught(prediction, progress)

        return causal
    mask_id = tokenizer.mask_token_id
    if mask_id is None:
        raise ArtefactError(
            "the tokenizer has no mask token",
            where="tokenizer.path",
            fix="leave it out to train a tokenizer, or choose a causal layout",
        )

    ordinary = np.setdiff1d(np.arange(len(tokenizer)), tokenizer.all_special_ids)
    training = policy.make(settings.masking, lists, mask_id, ordinary, seed)

    def masked(batch: PackedBatch, epoch: int | None, progress: float = 0.0) -> Prediction:
        if epoch is None:
            return mlm.predict(batch, masking.validation_positions(batch), mask_id)
        return taught(training(batch, epoch, progress), progress)

    return masked


def split(batch: PackedBatch, parts: int) -> list[PackedBatch]:
    """Cut a batch between sequences into at most ``parts`` batches of about equal numbers of tokens.

    A batch without a sequence has no part.
    """
    if not batch.sequences:
        return []
    ends = batch.cu_seqlens[1:].tolist()
    cuts = {0, batch.sequences}
    for part in range(1, parts):
        goal = batch.tokens * part / parts
        cuts.add(1 + min(range(batch.sequences), key=lambda sequence: abs(ends[sequence] - goal)))
    borders = sorted(cuts)
    return [_sequences(batch, first, last) for first, last in zip(borders, borders[1:], strict=False)]


def _sequences(batch: PackedBatch, first: int, last: int) -> PackedBatch:
    """The sequences from ``first`` up to, not with, ``last``."""
    start, stop = int(batch.cu_seqlens[first]), int(batch.cu_seqlens[last])
    return PackedBatch(
        input_ids=batch.input_ids[start:stop],
        cu_seqlens=batch.cu_seqlens[first : last + 1] - start,
        position_ids=batch.position_ids[start:stop],
        word_ids=batch.word_ids[start:stop],
        sample_ids=batch.sample_ids[first:last],
        document_ids=None if batch.document_ids is None else batch.document_ids[first:last],
    )


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """Have torch choose operations that give the same bits every time."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """All that a checkpoint keeps of a model, tied weights once; static masks follow from the seed."""
    saved = set(model.state_dict())
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in saved}
    return {name: parameter.detach() for name, parameter in model.named_parameters()} | buffers


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(all, without the embedding tables); tied weights count once."""
    total = sum(parameter.numel() for parameter in model.parameters())
    tables = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
    return total, total - sum(table.numel() for table in tables)


def _started(settings: ModelSettings, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """The checkpoint at ``settings.start``, with a fresh head where it has none, for this tokenizer.

    Raises:
        ArtefactError: it is damaged, or does not fit the recipe or the tokenizer.
    """
    folder = Path(str(settings.start))
    config = build.load_config(folder)
    check_start(config, settings)
    for name, value in build.dropouts(settings.layout, settings.dropout).items():
        setattr(config, name, value)
    with build.seeded(seed):
        model, missing = build.read_weights(folder, kind(settings), config)
    lost = [name for name in missing if name.startswith(f"{model.base_model_prefix}.")]
    if lost:
        raise ArtefactError(
            f"{len(lost)} weight(s) are missing, the first is {lost[0]}",
            where=str(folder),
            fix="restore the folder from its source",
        )
    if settings.start_vocabulary == "mean":
        vocabulary.carry(model, tokenizers.load(folder), tokenizer)  # type: ignore[arg-type]
    else:
        _check_vocabulary(folder, config.vocab_size, tokenizer)
    return model


def _check_vocabulary(folder: Path, size: int, tokenizer: PreTrainedTokenizerBase) -> None:
    own = tokenizers.load(folder).get_vocab() if (folder / "tokenizer.json").is_file() else None
    if size < len(tokenizer) or own not in (None, tokenizer.get_vocab()):
        what = "the checkpoint was trained with another tokenizer"
        if size < len(tokenizer):
            what = f"the checkpoint knows {size} tokens, the tokenizer has {len(tokenizer)}"
        raise ArtefactError(
            what,
            where="model.start",
            fix="set tokenizer.path to the tokenizer that the checkpoint was trained with, or "
            'model.start_vocabulary = "mean" to give it this one',
        )


def settle(settings: ModelSettings) -> ModelSettings:
    """[model] with what it leaves to its start checkpoint filled in.

    Raises:
        ArtefactError: the checkpoint's configuration cannot be read.
    """
    if settings.start is None:
        return settings
    return adopted(Shape.of(build.load_config(settings.start)), settings)


def check_start(config: PreTrainedConfig, settings: ModelSettings) -> None:
    """Whether a checkpoint has the shape of the recipe's [model], or can grow to it.

    Raises:
        ArtefactError: it has not; names the key.
        RecipeError: the growth is impossible.
    """
    check_shape(Shape.of(config), settings)


def check_shape(shape: Shape, settings: ModelSettings) -> None:
    """As :func:`check_start`, of a model that may not exist yet."""
    fixed = ("layout",) if settings.grow != "none" else ("layout", "layers", "hidden", "heads")
    for key in fixed:
        found, wanted = getattr(shape, key), getattr(settings, key)
        if found != wanted:
            raise ArtefactError(
                f"the checkpoint at model.start has {key} = {found}, the recipe {wanted}",
                where=f"model.{key}",
                fix=f"set model.{key} = {found!r}" + ("" if key == "layout" else ", or model.grow"),
            )
    # Where the layers agree the number may differ: of a model with one global layer it cannot be told.
    same = Shape.wanted(settings).every_layer == shape.every_layer
    for key, found in taken_over(shape, settings).items():
        wanted = getattr(settings, key)
        if states(settings, key) and found != wanted and not (key == "global_every" and same):
            raise ArtefactError(
                f"the checkpoint at model.start has {key} = {found}, the recipe {wanted}",
                where=f"model.{key}",
                fix=f"set model.{key} = {found}, or leave it out",
            )
    if settings.max_length > shape.max_length:
        raise ArtefactError(
            f"the checkpoint at model.start reads {shape.max_length} tokens at most",
            where="model.max_length",
            fix=f"set model.max_length to {shape.max_length} or less, or make the checkpoint "
            f"longer: `wellread extend CHECKPOINT --length {settings.max_length} --attention full --to DIR`",
        )
    if settings.grow != "none":
        check_growth(shape, settings)


def check_finite(total: float, norm: float, step: int, settings: PretrainSettings) -> None:
    """Stop a training that has failed.

    Args:
        total: the loss.
        norm: of the gradient.
        step: that is told.
        settings: of pre-training.

    Raises:
        UserError: one of the two is not finite.
    """
    if math.isfinite(total) and math.isfinite(norm):
        return
    what = "gradient" if math.isfinite(total) else "loss"
    key, rate = "pretrain.learning_rate", settings.learning_rate
    if settings.optimizer == "muon":
        key, rate = "pretrain.muon_learning_rate", settings.muon_learning_rate
    raise UserError(
        f"the {what} is not finite at step {step}; the last good checkpoint is kept",
        where=key,
        fix=f"lower it (now {rate:g}; try {rate / 3:.2g}), or lengthen pretrain.warmup",
    )
