"""Early exit: an encoder that stops reading a text at the first layer whose own head is sure.

A small head stands after every layer but the last.  Sequences leave the packed batch as they are ready, so
the layers above really have less to do.  Exits by entropy are DeeBERT's (arXiv 2004.12993), by patience
PABEE's (arXiv 2006.04152).

Beside a stock checkpoint, which is the whole model for anybody else, stand

    exits.json            {"criterion", "threshold", "patience", "tolerance"}
    exits.safetensors     the heads
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from wellread import files
from wellread.compress.exits import Rule, all_heads, all_logits, entropy, equip, leaves, logits
from wellread.compress.prune.training import retrain, settings_of
from wellread.compress.subject import Subject, load_model, score_logits
from wellread.errors import ArtefactError, RecipeError
from wellread.finetune import batches, objective
from wellread.finetune.encode import Encoded
from wellread.finetune.head import Head, neighbours, precision
from wellread.finetune.objective import Objective, Split
from wellread.models import build
from wellread.settings import Positive, Rate, Settings
from wellread.tasks.task import Kind

FACTS, WEIGHTS = "exits.json", "exits.safetensors"
LAYOUTS = ("modernbert", "bert")
_NO_ENTROPY = "a score has no entropy"


class ExitSettings(Settings):
    """How the heads are trained."""

    body: Literal["frozen", "joint"] = Field(
        "frozen", description="Train the heads on the model as it is (DeeBERT), or all together (PABEE)."
    )
    epochs: Positive | None = Field(None, description="Passes over train; default as in fine-tuning.")
    learning_rate: Rate | None = Field(
        None, description="Peak rate; default 1e-3 for heads on a frozen body, jointly that of fine-tuning."
    )


@dataclass(frozen=True)
class Point:
    """One setting of the dial, on dev.

    Attributes:
        rule: when sequences leave.
        scores: by metric.
        speedup: tokens times layers of the whole model over those that are computed.
        layers: mean number of layers that a sequence goes through.
    """

    rule: Rule
    scores: dict[str, float]
    speedup: float
    layers: float


def train(subject: Subject, settings: ExitSettings, seed: int) -> Any:
    """Give a fine-tuned encoder exits and train them.

    Frozen, the loss is the sum over the exits, and the model stays as it is to the bit; jointly it is the
    mean over all heads, the model's own among them, each weighed by its number of layers.  The best moment
    is that at which the mean of the heads' logits scores best on dev.

    Args:
        subject: the fine-tuned model and its task.
        settings: see :class:`ExitSettings`.
        seed: of the heads, of dropout and of the order.

    Returns:
        The model in evaluation mode with packed attention, its heads in ``model.exits``.

    Raises:
        RecipeError: a decoder, a task of tags, or a model of one layer.
    """
    model = load_model(subject)
    check(model.config, subject.task.kind)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    equip(model, seed)
    frozen = settings.body == "frozen"
    if frozen:
        for name, weight in model.named_parameters():
            weight.requires_grad_(name.startswith("exits."))
    training = settings_of(subject, settings.epochs)
    rate = settings.learning_rate or (1e-3 if frozen else training.learning_rate)
    training = training.model_copy(update={"learning_rate": rate})
    data = replace(subject.data, head=_training_head(subject.data.head, frozen))
    retrain(model, replace(subject, data=data), training, seed)
    if frozen:
        model.load_state_dict(before, strict=False)  # a regression's scale went out of the head and back
    return model.requires_grad_(True)


def check(config: Any, kind: Kind) -> None:
    """Refuse models and tasks that cannot exit early.

    Raises:
        RecipeError: saying why.
    """
    if kind == "tag":
        raise RecipeError(
            "a task of tags has an answer for every word, and words of one text cannot leave one by one",
            where="early_exit",
            fix="take layers out instead (structured pruning)",
        )
    if config.model_type not in LAYOUTS:
        raise RecipeError(
            f"early exit is for encoders, and {config.model_type} is a decoder",
            where="early_exit",
            fix="take layers out instead (structured pruning)",
        )
    if config.num_hidden_layers < 2:
        raise RecipeError("a model of one layer has no earlier exit", where="early_exit")


def dial(model: Any, subject: Subject, criterion: str = "entropy", points: int = 20) -> list[Point]:
    """What rules of a criterion give on dev, from the whole model on to the fastest.

    Args:
        model: with exits.
        subject: its task.
        criterion: "entropy" or "patience".
        points: thresholds tried, taken from the entropies (for regress the changes) seen on dev.

    Raises:
        RecipeError: entropy for a regression.
    """
    kind, split = subject.task.kind, subject.data.splits["dev"]
    if kind == "regress" and criterion == "entropy":
        raise RecipeError(_NO_ENTROPY, where="criterion", fix='use "patience"')
    heads = all_logits(model, split.encoded)
    rules = _rules(kind, criterion, torch.from_numpy(heads), points)
    return [_point(rule, heads, subject, split) for rule in rules]


def choose(
    points: list[Point], metric: str, *, speedup: float | None = None, drop: float | None = None
) -> Point:
    """The point of a dial that a user wants.

    Args:
        points: from :func:`dial`.
        metric: what counts.
        speedup: the best score among those at least so fast.
        drop: the fastest among those that lose no more of the metric against the whole model, the first.

    Raises:
        RecipeError: no point is so fast.
    """
    if speedup is None:
        floor = points[0].scores[metric] - (drop or 0.0)
        return max((p for p in points if p.scores[metric] >= floor), key=lambda point: point.speedup)
    fast = [point for point in points if point.speedup >= speedup]
    if not fast:
        raise RecipeError(
            f"no exit is {speedup:g} times as fast as the whole model",
            where="speedup",
            fix=f"ask for {max(point.speedup for point in points):.3g} at most",
        )
    return max(fast, key=lambda point: point.scores[metric])


def is_early(folder: Path) -> bool:
    """Whether a folder holds a model with exits."""
    return (Path(folder) / FACTS).exists()


def save(model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path, rule: Rule) -> None:
    """Write the stock checkpoint, and the exits beside it.

    Raises:
        RecipeError: a rule by entropy for a regression.
    """
    if model.config.problem_type == "regression" and rule.criterion == "entropy" and rule.threshold:
        raise RecipeError(_NO_ENTROPY, where="criterion", fix='use "patience"')
    exits = model.exits
    del model.exits
    try:
        build.save(model, tokenizer, folder)
    finally:
        model.exits = exits
    save_file({name: weight.contiguous() for name, weight in exits.state_dict().items()}, folder / WEIGHTS)
    files.write_json(folder / FACTS, rule.model_dump(mode="json"))


def load(folder: Path, model: Any, head: Head, kind: Kind) -> Head:
    """Give a model its exits back, in place.

    Args:
        folder: where :func:`save` wrote.
        model: the stock model of the folder.
        head: of the task.
        kind: of the task.

    Returns:
        The head, reading from the exits.

    Raises:
        ArtefactError: the exits are missing, damaged or another model's.
    """
    folder = Path(folder)
    try:
        rule = Rule.model_validate(files.read_json(folder / FACTS))
        equip(model, 0)
        model.exits.load_state_dict(load_file(folder / WEIGHTS))
    except (ValidationError, OSError, RuntimeError, SafetensorError):
        raise ArtefactError(
            "the exits do not fit the model", where=str(folder), fix="restore the folder from its source"
        ) from None
    model.eval()
    return replace(head, logits=lambda model, encoded: logits(model, encoded, kind, rule))


def _point(rule: Rule, heads: np.ndarray, subject: Subject, split: Split) -> Point:
    """What a rule gives, worked out from the logits of all heads."""
    left = leaves(subject.task.kind, rule, torch.from_numpy(heads)).numpy()
    found = heads[np.arange(len(heads)), left]
    lengths = split.encoded.lengths
    whole = float(lengths.sum()) * heads.shape[1]
    speedup = whole / float((lengths * (left + 1)).sum())
    return Point(rule, score_logits(found, subject), speedup, float(left.mean()) + 1)


def _rules(kind: Kind, criterion: str, heads: Tensor, points: int) -> Iterator[Rule]:
    """The rules of a dial, the whole model first."""
    early, layers = heads[:, :-1], heads.shape[1]
    yield Rule()
    shares = np.linspace(0, 1, points + 1)[1:]
    if criterion == "entropy":
        seen = torch.stack([entropy(kind, early[:, layer]) for layer in range(layers - 1)]).numpy()
        for value in np.unique(np.quantile(seen, shares)):
            yield Rule(threshold=float(np.nextafter(value, np.inf)))
        return
    tolerances = [0.0]
    if kind == "regress" and layers > 2:
        change = early.diff(dim=1).abs().numpy()
        tolerances = [float(value) * (1 + 1e-6) for value in np.unique(np.quantile(change, shares))]
    for patience in range(layers - 2, 0, -1):
        for tolerance in tolerances:
            yield Rule(criterion="patience", patience=patience, tolerance=tolerance)


def _training_head(head: Head, frozen: bool) -> Head:
    """The head that the loop trains and watches: all exits at once."""

    def loss(model: Any, split: Split, index: np.ndarray, goal: Objective, _seed: int) -> Tensor:
        device = next(model.parameters()).device
        index = neighbours(split.encoded, index)
        batch = batches.select(split.encoded, index)[0].to(device)
        target = torch.from_numpy(split.targets[index]).to(device)
        if frozen:
            model.eval()
            model.exits.train()
        with precision(device):
            found = all_heads(model, batch, frozen=frozen)
        losses = [objective.loss(goal, each.float(), target) for each in found]
        if frozen:
            return torch.stack(losses[:-1]).sum()
        weights = torch.arange(1, len(losses) + 1, device=device) / (len(losses) * (len(losses) + 1) / 2)
        return (torch.stack(losses) * weights).sum()

    def finish(model: Any, goal: Objective) -> None:
        head.finish(model, goal)
        for each in model.exits:
            objective.fold(goal, each)

    def watched(model: Any, encoded: Encoded) -> np.ndarray:
        return all_logits(model, encoded).mean(1)

    return replace(head, loss=loss, logits=watched, finish=finish)
