"""SetFit: a sentence encoder tuned on pairs of the training examples, then logistic regression.

Tunstall et al., "Efficient few-shot learning without prompts" (arXiv 2209.11055): texts of one label are
drawn together, texts of two apart (squared error of the cosine against 1 or 0), for one pass over the pairs.
Pairs of texts with a score are their own pairs.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch

from wellread import rng
from wellread.evaluate.rivals import dense
from wellread.evaluate.rivals.encoder import Encoder, embed, pooled
from wellread.evaluate.rivals.fitted import Examples, Fitted, best
from wellread.finetune import batches, encode
from wellread.models import build
from wellread.schedules import learning_rate
from wellread.tasks.task import Example, Task

DRAWS = 20  # pairs of each sort for an example, as published
MOST_PAIRS = 1_000  # in all, so that larger training sets do not take hours
BATCH = 16
RATE = 2e-5
WARMUP = 0.1
MAX_LENGTH = 128  # tokens while tuning


def fit(task: Task, train: list[Example], encoder: Encoder, seed: int) -> Fitted:
    """Tune a copy of the encoder, then take the logistic regression of the grid that is best on dev."""
    model = copy.deepcopy(encoder.model)
    texts, left, right, targets = pairs(task, train, seed)
    with build.seeded(rng.derive(seed, "setfit-dropout")):
        tune(model, encoder.tokenizer, texts, (left, right, targets), seed)

    def features(examples: Examples) -> np.ndarray:
        if task.kind != "regress":
            return embed(model, encoder.tokenizer, [_text(example) for example in examples])
        sides = [[example.text for example in examples], [example.text_pair or "" for example in examples]]
        first, second = (embed(model, encoder.tokenizer, side) for side in sides)
        return dense.pair_features(first, second, task.kind)

    return best(task, dense.candidates(task, train, features, encoder.bytes))


def pairs(
    task: Task, train: list[Example], seed: int
) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of training texts: the texts, the (P,) places of the two sides, the (P,) cosines wanted.

    For each example one partner that shares a label, and one that does not, where there are any; multilabel
    examples share a label when any is common, or when both have none.
    """
    if task.kind == "regress":
        texts = [text for example in train for text in (example.text, example.text_pair or "")]
        scores = np.array([example.label for example in train], dtype=np.float32)
        scores = (scores - scores.min()) / max(float(np.ptp(scores)), 1e-9)
        many = min(MOST_PAIRS, 2 * DRAWS * len(train))
        chosen = batches.order(len(train), 0, many, seed)
        return texts, 2 * chosen, 2 * chosen + 1, scores[chosen]
    labels = [set(_labels(example)) for example in train]
    many = min(DRAWS * len(train), MOST_PAIRS // 2)
    left: list[int] = []
    right: list[int] = []
    wanted: list[float] = []
    for draw, place in enumerate(batches.order(len(train), 0, many, seed).tolist()):
        same = np.array([bool(labels[place] & other) for other in labels])
        same_others = np.flatnonzero(same & (np.arange(len(train)) != place))
        for others, cosine in ((same_others, 1.0), (np.flatnonzero(~same), 0.0)):
            if len(others):
                pick = rng.derive(seed, "setfit-pairs", draw, int(cosine)) % len(others)
                left.append(place)
                right.append(int(others[pick]))
                wanted.append(cosine)
    return (
        [_text(example) for example in train],
        np.array(left, dtype=np.int64),
        np.array(right, dtype=np.int64),
        np.array(wanted, dtype=np.float32),
    )


def tune(
    model: Any,
    tokenizer: Any,
    texts: list[str],
    chosen: tuple[np.ndarray, np.ndarray, np.ndarray],
    seed: int,
) -> None:
    """One pass of AdamW over the pairs, in place; leaves the model in evaluation mode."""
    left, right, wanted = chosen
    encoded = encode.texts(tokenizer, texts, None, MAX_LENGTH)
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)
    steps = -(-len(left) // BATCH) if len(left) else 0
    order = rng.permute(np.arange(len(left)), max(1, len(left)), seed, "setfit-order")
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * learning_rate.linear(step, steps, WARMUP)
        index = order[step * BATCH : (step + 1) * BATCH]
        sides = np.concatenate([left[index], right[index]])
        ranked = np.argsort(encoded.lengths[sides], kind="stable")
        found = pooled(model, encoded, sides[ranked])[torch.from_numpy(np.argsort(ranked))]
        cosine = (found[: len(index)] * found[len(index) :]).sum(-1)
        loss = torch.nn.functional.mse_loss(cosine, torch.from_numpy(wanted[index]).to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()


def _text(example: Example) -> str:
    return example.text if example.second is None else f"{example.text} {example.second}"


def _labels(example: Example) -> tuple[str, ...]:
    """The labels; no label counts as one of its own."""
    found = (example.label,) if isinstance(example.label, str) else example.label
    return found or ("",)  # type: ignore[return-value]
