"""Stock models: built from settings, loaded from folders safely, saved."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    GPT2Config,
    LlamaConfig,
    ModernBertConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from wellread.errors import ArtefactError
from wellread.models.long import encoder as long
from wellread.settings import ModelSettings

Head = Literal["mlm", "clm", "classify", "tag"]
LAYOUTS = ("modernbert", "bert", "llama", "gpt2")
# Checkpoints of the long layouts are made by `wellread extend`, or elsewhere.
READABLE = (*LAYOUTS, *long.LAYOUTS)
MODELS = {
    "mlm": AutoModelForMaskedLM,
    "clm": AutoModelForCausalLM,
    "classify": AutoModelForSequenceClassification,
    "tag": AutoModelForTokenClassification,
    None: AutoModel,
}
# Files that can hold code: pickles of all names, Python, and adapters, which point to yet another folder.
UNSAFE = ("*.py", "*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt", "*.h5", "adapter_config.json")

OPENVINO_WEIGHTS = "openvino/model.bin"  # beside its graph in an exported folder: numbers, no pickle


def build_config(settings: ModelSettings, tokenizer: PreTrainedTokenizerBase) -> PreTrainedConfig:
    """The stock configuration of a layout, with the tokenizer's vocabulary size and special ids."""
    shared = {
        "vocab_size": len(tokenizer),
        "initializer_range": settings.std,
        "tie_word_embeddings": True,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": _first(tokenizer.bos_token_id, tokenizer.cls_token_id),
        "eos_token_id": _first(tokenizer.eos_token_id, tokenizer.sep_token_id),
        **dropouts(settings.layout, settings.dropout),
    }
    if settings.layout == "gpt2":
        return GPT2Config(
            n_positions=settings.max_length,
            n_embd=settings.hidden,
            n_layer=settings.layers,
            n_head=settings.heads,
            n_inner=settings.inner,
            **shared,
        )
    shared |= {
        "hidden_size": settings.hidden,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.heads,
        "intermediate_size": settings.inner,
        "max_position_embeddings": settings.max_length,
    }
    if settings.layout == "bert":
        return BertConfig(**shared)
    if settings.layout == "llama":
        return LlamaConfig(**shared)
    return ModernBertConfig(
        layer_types=layer_types(settings),
        local_attention=settings.local_attention,
        cls_token_id=shared["bos_token_id"],
        sep_token_id=shared["eos_token_id"],
        # The mean over the tokens separates classes earlier than the first token in small models.
        classifier_pooling="mean",
        **shared,
    )


def layer_types(settings: ModelSettings) -> list[str]:
    """ModernBERT: how far each layer attends."""
    return [
        "sliding_attention" if layer % settings.global_every else "full_attention"
        for layer in range(settings.layers)
    ]


def build(
    settings: ModelSettings,
    tokenizer: PreTrainedTokenizerBase,
    objective: Literal["mlm", "clm"],
    seed: int,
) -> PreTrainedModel:
    """A model with random weights, the same for the same seed; the global generator is left alone."""
    config = build_config(settings, tokenizer)
    with seeded(seed):
        return MODELS[objective].from_config(config, attn_implementation="sdpa", dtype=torch.float32)


def dropouts(layout: str, dropout: float) -> dict[str, float]:
    """The dropout fields of a layout's configuration, all set to one probability."""
    fields = {
        "modernbert": ("embedding_dropout", "mlp_dropout", "attention_dropout", "classifier_dropout"),
        "bert": ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"),
        "llama": ("attention_dropout", "classifier_dropout"),
        "gpt2": ("resid_pdrop", "embd_pdrop", "attn_pdrop", "classifier_dropout"),
        "longformer": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
        "big_bird": ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"),
    }
    return dict.fromkeys(fields[layout], dropout)


def load_config(folder: str | Path) -> PreTrainedConfig:
    """The configuration of a checkpoint folder that is safe to load.

    Raises:
        ArtefactError: no such folder, no or broken config.json, another layout, or a folder
            with code in it (``auto_map``, Python files, pickles, adapters) or without safetensors.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ArtefactError("no such model folder", where=str(folder), fix="give a checkpoint's folder")
    path = folder / "config.json"
    try:
        values = json.loads(path.read_bytes())
        model_type = values["model_type"]
    except FileNotFoundError:
        raise ArtefactError(
            "config.json is missing", where=str(folder), fix="give a checkpoint's folder"
        ) from None
    except (OSError, ValueError, KeyError, TypeError):
        raise ArtefactError(
            "not a model configuration", where=str(path), fix="restore the folder from its source"
        ) from None
    refuse_code(folder)
    if model_type not in READABLE:
        raise ArtefactError(
            f"model_type {model_type!r} is not supported",
            where=str(path),
            fix=f"use a checkpoint of one of {', '.join(READABLE)}",
        )
    if not any(folder.glob("*.safetensors")):
        raise ArtefactError(
            "no *.safetensors file", where=str(folder), fix="convert the checkpoint to safetensors"
        )
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        raise ArtefactError(
            f"not a valid {model_type} configuration ({_first_line(error)})",
            where=str(path),
            fix="restore the folder from its source",
        ) from None


def load(folder: str | Path, head: Head | None, **changes: Any) -> PreTrainedModel:
    """A stock checkpoint with the head that it was saved with, in float32.

    Args:
        folder: a folder written by :func:`save` or any safetensors checkpoint of a readable layout.
        head: the kind of model; None for the bare encoder or decoder.
        changes: fields of the configuration that differ.

    Raises:
        ArtefactError: as :func:`load_config`; or weights are missing, damaged or of another shape.
    """
    config = load_config(folder)
    for name, value in changes.items():
        setattr(config, name, value)
    model, missing = read_weights(folder, head, config)
    if missing:
        raise ArtefactError(
            f"{len(missing)} weight(s) are missing, the first is {missing[0]}",
            where=str(folder),
            fix="give a complete checkpoint that was saved with the head that is asked for",
        )
    return model


def labels_of(config: PreTrainedConfig) -> tuple[str, ...]:
    """Label names in the order of a classifier's outputs, whatever order its file has them in."""
    return tuple(name for _, name in sorted((config.id2label or {}).items()))


def longest(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase | None = None) -> int:
    """The longest sequence that a checkpoint has positions for, in tokens; or that its tokenizer gives it.

    A fine-tuned model's tokenizer says how long the inputs were that it was trained and tested on.
    """
    positions = int(config.max_position_embeddings) - long.first_position(config)
    return positions if tokenizer is None else min(positions, tokenizer.model_max_length)


def read_weights(
    folder: str | Path, head: Head | None, config: PreTrainedConfig
) -> tuple[PreTrainedModel, list[str]]:
    """A model with the weights of a folder, and the names of those that the folder lacks (left random).

    Raises:
        ArtefactError: the weights are damaged or of another shape.
    """
    pooled = config.model_type in ("bert", *long.LAYOUTS)
    extra = {"add_pooling_layer": False} if head is None and pooled else {}
    try:
        with _quiet():
            model, facts = MODELS[head].from_pretrained(
                Path(folder),
                config=config,
                trust_remote_code=False,
                local_files_only=True,
                use_safetensors=True,
                attn_implementation="eager" if config.model_type in long.LAYOUTS else "sdpa",
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **extra,
            )
    except Exception as error:
        raise ArtefactError(
            f"the weights cannot be loaded ({_first_line(error)})",
            where=str(folder),
            fix="restore the folder from its source",
        ) from None
    for name, found, expected in sorted(facts["mismatched_keys"]):
        raise ArtefactError(
            f"{name} has shape {tuple(found)}, but config.json asks for {tuple(expected)}",
            where=str(folder),
            fix="restore config.json and the weights from the same source",
        )
    return model, sorted(facts["missing_keys"])


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a stock checkpoint (safetensors, configuration, tokenizer); equal models give equal bytes."""
    with _quiet():
        model.save_pretrained(folder, max_shard_size="5GB")
    tokenizer.save_pretrained(folder)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from ``seed`` within the block and leave the global generators as they were."""
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' progress bars and load reports off the terminal; what matters is raised."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def refuse_code(folder: Path) -> None:
    """Refuse a folder in which a file can carry code.

    Raises:
        ArtefactError: naming the file.
    """
    fix = "load only checkpoints of plain safetensors and JSON; delete the file if the model does without it"
    for pattern in UNSAFE:
        for path in sorted(set(folder.rglob(pattern)) - {folder / OPENVINO_WEIGHTS}):
            raise ArtefactError("this file can carry code or points elsewhere", where=str(path), fix=fix)
    for path in sorted(folder.glob("*.json")):
        if b'"auto_map"' in path.read_bytes():
            raise ArtefactError("`auto_map` asks for code to be run", where=str(path), fix=fix)


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
