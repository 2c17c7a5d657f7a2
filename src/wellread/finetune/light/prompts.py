"""Soft prompts: P learnt vectors among the embeddings of each sequence (Lester et al., arXiv 2104.08691).

They stand before the text or, as in MediSwift (2403.00952), between the text and the answer.  The batch that
comes in and the hidden states that go out are those of the text alone, so heads and losses need not know.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from wellread.errors import RecipeError
from wellread.finetune.light.sites import CAUSAL, attach
from wellread.models import packed
from wellread.settings import LightSettings
from wellread.tokens.batch import PackedBatch


class Prompt(nn.Module):
    """P vectors of width d.

    Attributes:
        vectors: (P, d).
        after: whether they stand after the text unless ``at`` says otherwise.
        causal: whether the model is a decoder.
        at: (S,) int64, before which token of each sequence they stand, or None.
        rows: (T,) int64, where the rows of the batch's tokens are among the T + S * P that the body sees.
    """

    def __init__(self, vectors: Tensor, *, after: bool, causal: bool) -> None:
        super().__init__()
        self.vectors = nn.Parameter(vectors)
        self.after, self.causal = after, causal
        self.at: Any = None
        self.rows: Any = None


def equip(model: Any, settings: LightSettings, _dropout: float) -> nn.Module:
    """A soft prompt that begins as the embeddings of random entries of the vocabulary.

    Returns:
        The prompt: P * d parameters.

    Raises:
        RecipeError: a decoder that tags words would not see a prompt that comes after them.
    """
    causal = model.config.model_type in CAUSAL
    if settings.place == "after" and causal and type(model).__name__.endswith("ForTokenClassification"):
        raise RecipeError(
            "a decoder cannot look ahead to a prompt after the words that it tags",
            where="finetune.light.place",
            fix='use place = "before"',
        )
    table = model.get_input_embeddings().weight.detach()
    vectors = table[random_words(model, settings.vectors)].clone()
    prompt = Prompt(vectors, after=settings.place == "after", causal=causal)
    model.base_model.register_forward_pre_hook(partial(_insert, prompt), with_kwargs=True)
    attach(model.base_model, prompt, _take_out)
    return prompt


def read(model: Any, batch: PackedBatch, ends: Tensor) -> Tensor:
    """As :func:`wellread.models.packed.hidden_states`, with the prompt between the inputs and their answers.

    In a decoder the row of an input's last token is that of the prompt's last vector: from it the first token
    of the answer is predicted.

    Args:
        model: equipped with a prompt.
        batch: T tokens in S sequences, each an input and its answer.
        ends: (S,) int64, the row of the last token of each input.

    Returns:
        (T, d) hidden states of the batch's own tokens.
    """
    model.light.at = ends - batch.cu_seqlens[:-1].to(ends.device) + 1
    try:
        return packed.hidden_states(model, batch)
    finally:
        model.light.at = None


def random_words(model: Any, count: int) -> Tensor:
    """(P,) entries of the vocabulary, without the first tenth, where special tokens and symbols stand."""
    size = model.config.vocab_size
    return torch.randint(size // 10, size, (count,))


def _insert(prompt: Prompt, body: Any, args: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Put the prompt into each sequence of the batch: T tokens become T + S * P embeddings."""
    positions, starts = named["position_ids"][0], named["cu_seqlens"]
    size, sequences, device = len(prompt.vectors), len(named["lengths"]), positions.device
    lengths = torch.tensor(named["lengths"], device=device)
    at = prompt.at if prompt.at is not None else lengths if prompt.after else torch.zeros_like(lengths)
    at = at.to(device).repeat_interleave(lengths)
    sequence = torch.arange(sequences, device=device).repeat_interleave(lengths)
    rows = torch.arange(len(positions), device=device) + size * (sequence + (positions >= at))
    free = torch.ones(len(rows) + size * sequences, dtype=torch.bool, device=device)
    free[rows] = False
    text = body.get_input_embeddings()(named.pop("input_ids"))[0]
    wide = text.new_zeros(len(free), text.shape[1]).index_copy(0, rows, text)
    wide = wide.index_copy(0, free.nonzero()[:, 0], prompt.vectors.to(text.dtype).repeat(sequences, 1))
    named["inputs_embeds"] = wide[None]
    named["lengths"] = [length + size for length in named["lengths"]]
    named["cu_seqlens"] = starts + size * torch.arange(sequences + 1, dtype=starts.dtype, device=device)
    begins = named["cu_seqlens"][:-1].repeat_interleave(lengths + size)
    named["position_ids"] = (torch.arange(len(free), device=device) - begins)[None]
    types = named.get("token_type_ids")
    if types is not None:
        named["token_type_ids"] = types.new_zeros(1, len(free)).index_copy(1, rows, types)
    prompt.rows = rows + size * (positions == at - 1) if prompt.causal else rows
    return args, named


def _take_out(prompt: Prompt, _body: Any, _inputs: Any, output: Any) -> Any:
    output.last_hidden_state = output.last_hidden_state[:, prompt.rows]
    return output
