"""The stock long layouts on packed batches: Longformer and BigBird.

Their transformers models pad to whole windows or blocks and have attention of their own, so their layers are
run here, on T tokens without padding; weights, names and all that is saved stay the stock model's.
"""

from __future__ import annotations

from functools import lru_cache, partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.big_bird.modeling_big_bird import BigBirdBlockSparseAttention

from wellread.models.long import flex
from wellread.models.long.blocks import blocked, shortest
from wellread.models.long.window import windowed
from wellread.models.runs import by_runs
from wellread.tokens.batch import PackedBatch

LAYOUTS = ("longformer", "big_bird")
# transformers has another way of drawing random blocks at these padded lengths.
PAPER_LENGTHS = (1024, 3072, 4096)


def hidden_states(model: Any, batch: PackedBatch) -> Tensor:
    """The last hidden states of a packed batch, (T, d), equal to the stock model's for each sequence alone.

    Args:
        model: a Longformer or BigBird with or without a head.
        batch: T tokens in S sequences.
    """
    body, config = model.base_model, model.config
    types = torch.zeros_like(batch.input_ids) if batch.token_type_ids is None else batch.token_type_ids
    hidden = body.embeddings(
        input_ids=batch.input_ids[None],
        token_type_ids=types[None],
        position_ids=batch.position_ids[None] + first_position(config),
    )
    begins, lengths = batch.cu_seqlens[:-1].long(), batch.lengths
    for number, layer in enumerate(body.encoder.layer):
        attention = layer.attention
        if config.model_type == "longformer":
            seen_by_all = begins if first_is_global(model) else None
            mixed = _longformer(attention.self, hidden[0], lengths, seen_by_all)
        else:
            mixed = _big_bird(attention.self, hidden[0], lengths, config, number)
        hidden = attention.output(mixed[None], hidden)
        hidden = layer.output(layer.intermediate(hidden), hidden)
    return hidden[0]


def first_position(config: Any) -> int:
    """The row of the position table at which a sequence begins: Longformer's follow the padding token's."""
    return config.pad_token_id + 1 if config.model_type == "longformer" else 0


def first_is_global(model: Any) -> bool:
    """Whether the first token of a sequence is global: as in transformers, where sequences are classified."""
    is_classifier = type(model).__name__.endswith("ForSequenceClassification")
    return is_classifier and model.config.model_type == "longformer"


def _longformer(module: Any, hidden: Tensor, lengths: list[int], begins: Tensor | None) -> Tensor:
    """(T, d) -> (T, d).  The global tokens at ``begins`` have projections of their own for what they see."""
    dropout = module.dropout if module.training else 0.0
    distance, leading = module.one_sided_attn_window_size, int(begins is not None)
    query, key, value = (
        project(hidden).unflatten(-1, (module.num_heads, -1))
        for project in (module.query, module.key, module.value)
    )
    if flex.usable(value, dropout):
        output = flex.windowed(query, key, value, lengths, distance, leading)
    else:
        attend = partial(windowed, distance=distance, leading=leading, dropout_p=dropout)
        output = by_runs(attend, (query, key, value), lengths)
    if begins is not None:
        output = output.index_copy(0, begins, _global_rows(module, hidden, lengths, begins, dropout))
    return output.flatten(1)


def _global_rows(module: Any, hidden: Tensor, lengths: list[int], begins: Tensor, dropout: float) -> Tensor:
    """(S, H, D): what the first token of each sequence sees."""
    query, key, value = (
        project(rows).unflatten(-1, (module.num_heads, -1))
        for project, rows in (
            (module.query_global, hidden[begins]),
            (module.key_global, hidden),
            (module.value_global, hidden),
        )
    )
    outputs = []
    for row in zip(query.split(1), key.split(lengths), value.split(lengths), strict=True):
        q, k, v = (part.transpose(0, 1) for part in row)
        outputs.append(scaled_dot_product_attention(q, k, v, dropout_p=dropout)[:, 0])
    return torch.stack(outputs)


def _big_bird(module: Any, hidden: Tensor, lengths: list[int], config: Any, number: int) -> Tensor:
    """(T, d) -> (T, d)."""
    block, random, heads = config.block_size, config.num_random_blocks, config.num_attention_heads
    dropout = config.attention_probs_dropout_prob if module.training else 0.0

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        length = query.shape[2]
        if config.attention_type == "original_full" or length <= shortest(block, random):
            return scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        total = -(-length // block)
        if module.training:
            chosen = _drawn(number, total, block, random, heads, config.max_position_embeddings)
        else:  # as in transformers, which looks at the first block again instead
            chosen = torch.zeros(1, total - 2, random, dtype=torch.int64)
        return blocked(query, key, value, block, chosen.to(query.device))

    parts = [
        project(hidden).unflatten(-1, (heads, -1)) for project in (module.query, module.key, module.value)
    ]
    return by_runs(attend, parts, lengths).flatten(1)


@lru_cache(maxsize=512)
def _drawn(number: int, total: int, block: int, random: int, heads: int, longest: int) -> Tensor:
    """(H, B - 2, r) the random blocks that transformers draws in training, the same for a layer and length.

    They are drawn by transformers' own functions; numpy's global generator is left as it was.
    """
    stock: Any = BigBirdBlockSparseAttention
    kind = SimpleNamespace(
        training=True, _get_single_block_row_attention=stock._get_single_block_row_attention
    )
    length, state = total * block, np.random.get_state()
    np.random.seed(number)
    try:
        if length in PAPER_LENGTHS:
            rows = [
                stock._bigbird_block_rand_mask(kind, longest, longest, block, block, random, last_idx=1024)
                for _ in range(heads)
            ]
        else:
            plan = stock._get_rand_attn_plan(length, block, random)
            rows = stock._bigbird_block_rand_mask_with_head(kind, length, length, block, block, heads, *plan)
    finally:
        np.random.set_state(state)
    return torch.from_numpy(np.stack([row[: total - 2] for row in rows])).long()
