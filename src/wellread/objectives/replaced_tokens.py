"""Replaced-token detection beside the language model: which tokens are not the author's (ELECTRA).

Clark et al., 2020, arXiv 2003.10555.  A small generator fills in the masked places; the model reads the text
that it made, in a pass of its own, and says of every token whether it was replaced.  The generator has the
model's width and a third of its layers (a shallow generator, as in COCO-LM, Meng et al., 2021, arXiv
2102.08473), and shares its embeddings.  It is dropped after pre-training.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from wellread import rng
from wellread.errors import RecipeError
from wellread.models import build, packed
from wellread.models.heads import lm_logits
from wellread.models.packed import hidden_states
from wellread.objectives.prediction import Prediction, head_loss, row_chunks
from wellread.settings import ModelSettings
from wellread.sparsity.flops import step_flops
from wellread.tokens.batch import PackedBatch

if TYPE_CHECKING:
    from wellread.pretrain.auxiliary import Auxiliary, Seen

NAME = "replaced-tokens"
DEPTH = 3  # layers of the model for each of the generator


def auxiliary(
    weight: float, settings: ModelSettings, tokenizer: Any, mask_rate: float, seed: int, level: float = 0.0
) -> Auxiliary:
    """The loss: that of detection, plus the generator's over ``weight``, so that the generator's counts once.

    Args:
        weight: of detection; ELECTRA has 50.
        settings: the architecture.
        tokenizer: of the model.
        mask_rate: share of the tokens that the language model predicts.
        seed: the run's.
        level: share of zeros in the model's matrices; the generator is dense.

    Raises:
        RecipeError: the model is a decoder.
    """
    from wellread.pretrain.auxiliary import Auxiliary

    if settings.causal:
        raise RecipeError(
            f"a {settings.layout} hides no tokens that could be replaced",
            where=f"pretrain.besides.{NAME}",
            fix='leave it out, or choose the layout "modernbert" or "bert"',
        )
    shape = small(settings)
    generator = packed.enable(build.build(shape, tokenizer, "mlm", rng.derive(seed, "generator"))).train()
    with build.seeded(rng.derive(seed, "detector")):
        width = settings.hidden
        detector = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))
    module = nn.ModuleDict({"generator": generator, "detector": detector})

    def join(model: Any) -> None:
        share_embeddings(generator, model)

    def loss(model: Any, seen: Seen) -> Tensor:
        own = model.auxiliary[NAME]
        states = hidden_states(own["generator"], seen.prediction.inputs)
        guessing = head_loss(own["generator"], states, seen.prediction) / max(1.0, seen.step.predicted)
        text = replaced(own["generator"], states.detach(), seen.batch, seen.prediction, seed, seen.epoch)
        detecting = detection(own["detector"](hidden_states(model, text))[:, 0], text, seen.batch)
        return detecting / max(1.0, seen.step.tokens) + guessing / weight

    dense, accounted = passes(settings, len(tokenizer), mask_rate, level)
    return Auxiliary(NAME, weight, loss, module, passes=dense, accounted=accounted, join=join)


def passes(settings: ModelSettings, vocab: int, mask_rate: float, level: float) -> tuple[float, float]:
    """(dense, accounted) FLOPs of generator and detection as shares of the language model's."""
    lengths, masked = [settings.max_length], round(mask_rate * settings.max_length)
    whole, inner = (step_flops(settings, vocab, lengths, count, level) for count in (masked, 0))
    guess = step_flops(small(settings), vocab, lengths, masked, 0.0)[0]
    return (inner[0] + guess) / whole[0], (inner[1] + guess) / whole[1]


def small(settings: ModelSettings) -> ModelSettings:
    """The generator's shape."""
    changes = {"layers": max(1, settings.layers // DEPTH), "start": None, "grow": "none"}
    return settings.model_copy(update=changes)


def share_embeddings(generator: Any, model: Any) -> None:
    """Have the generator read and answer with the model's embeddings, in place."""
    if generator.config.vocab_size != model.config.vocab_size:  # a checkpoint's may be padded
        generator.resize_token_embeddings(model.config.vocab_size, mean_resizing=False)
    generator.base_model.embeddings = model.base_model.embeddings
    generator.get_output_embeddings().weight = model.get_input_embeddings().weight


@torch.no_grad()
def replaced(
    generator: Any, states: Tensor, batch: PackedBatch, asked: Prediction, seed: int, epoch: int
) -> PackedBatch:
    """The batch with each masked token drawn anew from what the generator expects there.

    Args:
        generator: its head is used.
        states: (T, d) its last states.
        batch: the text.
        asked: the masked places.
        seed: the run's seed.
        epoch: the pass over the data.
    """
    at = asked.positions.cpu().numpy()
    sequence = np.searchsorted(batch.cu_seqlens.cpu().numpy(), at, side="right") - 1
    sample, place = batch.sample_ids.cpu().numpy()[sequence], batch.position_ids.cpu().numpy()[at]
    uniform = torch.from_numpy(rng.uniform(seed, "generator", epoch, sample, place)).to(states.device)
    chosen = torch.empty_like(asked.positions)
    for start, stop in row_chunks(generator.config.vocab_size, len(at)):
        logits = lm_logits(generator, states[asked.positions[start:stop]])
        chosen[start:stop] = draw(logits, uniform[start:stop])
    return replace(batch, input_ids=batch.input_ids.index_copy(0, asked.positions, chosen))


def draw(logits: Tensor, uniform: Tensor) -> Tensor:
    """(M,) a draw from each row of (M, V) logits: the first entry at which the summed probabilities pass u.

    Args:
        logits: of any type.
        uniform: (M,) float64 u in [0, 1).
    """
    sums = logits.double().softmax(-1).cumsum(-1)
    return torch.searchsorted(sums, (uniform * sums[:, -1])[:, None], right=True)[:, 0].clamp_(
        max=logits.shape[1] - 1
    )


def detection(logits: Tensor, text: PackedBatch, original: PackedBatch) -> Tensor:
    """The binary cross-entropy of "was replaced", summed over all tokens that are not special.

    Args:
        logits: (T,).
        text: T tokens as the generator left them.
        original: as they were; a token that was drawn again is not replaced.
    """
    counted = (original.word_ids >= 0).float()
    answers = (text.input_ids != original.input_ids).float()
    losses = F.binary_cross_entropy_with_logits(logits.float(), answers, reduction="none")
    return (losses * counted).sum()
