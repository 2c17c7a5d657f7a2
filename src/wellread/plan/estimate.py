"""What the models, the memory and the run folder come to: counted, and measured where that was possible."""

from __future__ import annotations

import sys
from typing import Any

from wellread.plan import probe
from wellread.recipe import Recipe
from wellread.settings import ModelSettings
from wellread.sparsity import flops

LIBRARY_BYTES = 600_000_000  # torch and transformers in memory
SHARED_BYTES = 330_000_000  # of them, the files that processes share; by the quickstart's peak of 1.32 GB
ALLOCATOR_GROWTH = 1.12  # what a long run's allocator keeps beyond a short one's, measured on the quickstart


def vocabulary(settings: Recipe, text: probe.Text | None) -> int:
    """Entries of the vocabulary, where the recipe leaves them to another tokenizer those of that one."""
    from wellread.tokens import tokenizer

    wanted = settings.tokenizer
    if wanted.path is None or text is None:
        return wanted.vocab_size
    # The sample may have fewer words to add than the whole text has.
    loaded = tokenizer.load(text.tokenizer)
    return loaded.vocab_size + wanted.add_words if wanted.add_words else len(loaded)


def of_model(settings: Recipe, variant: str, training: probe.Training | None, vocab: int) -> dict[str, Any]:
    """Parameters and FLOPs of one variant."""
    model, pretrain = settings.model_for(variant), settings.pretrain_for(variant)
    sparsity = pretrain.sparsity
    counts = flops.parameters(model, vocab)
    full_length = {
        level: flops.gpt_training_flops_per_token(
            model.layers, model.hidden, model.max_length, vocab, level, _ffn_equivalent(model)
        )
        for level in (0.0, sparsity.level)
    }
    tokens = training.tokens if training else pretrain.tokens
    return {
        "name": variant,
        "layout": model.layout,
        "shape": f"{model.layers} x {model.hidden}",
        "parameters": counts["total"],
        "parameters_without_embeddings": counts["without_embeddings"],
        "sparsity": sparsity.level,
        "pattern": sparsity.pattern if sparsity.level else "dense",
        "tokens": tokens,
        "steps": training.steps if training else tokens and max(1, tokens // pretrain.batch_tokens),
        "flops": training and training.flops,
        "full_length_flops_per_token": {"dense": full_length[0.0], "accounted": full_length[sparsity.level]},
        "full_length_ratio": full_length[0.0] / full_length[sparsity.level],
    }


def _ffn_equivalent(model: ModelSettings) -> int:
    """Inner width of an ungated feed-forward block with as many weights."""
    return model.inner * 3 // 2 if model.layout in flops.GATED else model.inner


def memory(settings: Recipe, vocab: int, reduced: bool) -> dict[str, int]:
    """Peak memory: as measured where the probe ran the recipe's own model, else counted."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    measured = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    if not reduced:
        # Runs of fine-tuning side by side are processes of about the size of this one.
        beside = max((probe.workers_of(settings, task)[0] for task in settings.tasks), default=1)
        own = max(0, measured - SHARED_BYTES) if beside > 1 else 0
        return {"bytes": round(measured * ALLOCATOR_GROWTH + beside * own)}
    counted = 0
    for variant in settings.variant_names():
        model, pretrain = settings.model_for(variant), settings.pretrain_for(variant)
        parts = flops.memory_bytes(
            model, vocab, pretrain.optimizer, pretrain.sparsity, averaged=pretrain.ema_decay > 0
        )
        # A gated block and attention keep about 16 numbers a token, width and layer for the backward pass;
        # recomputed, 16 for one layer and the input of each.
        kept = 16 + model.layers if pretrain.recompute else 16 * model.layers
        activations = 4 * kept * model.hidden * pretrain.batch_tokens // pretrain.accumulate
        counted = max(counted, sum(parts.values()) + activations)
    return {"bytes": counted + LIBRARY_BYTES}


def disk(settings: Recipe, text: probe.Text | None, models: list[dict[str, Any]]) -> dict[str, int] | None:
    """Bytes that the run folder would hold at its fullest."""
    if text is None:
        return None
    kept = 4 * sum(model["parameters"] for model in models)
    tuned = kept * len(settings.tasks) * (1 + len(settings.finetune.seeds))
    checkpoints = 2 * 3 * 4 * max(model["parameters"] for model in models)
    # Documents compress to about 2.5 bytes a word; a scratch copy of them stands beside while they are made.
    return {"bytes": round(text.words * 2.5 * 2 + text.tokens * 2.2 + kept + tuned + checkpoints)}
