"""A short encoder made long: its positions copied or let run on, its attention made a window or blocks.

After Beltagy et al. (arXiv 2004.05150) and Li et al. (2201.11838): the learnt position rows of a BERT are
repeated, so that all that it knows about neighbours holds everywhere; the projections of the global tokens
begin as copies of the local ones.  A ModernBERT has rotary positions, which go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import BigBirdConfig, LongformerConfig, PreTrainedConfig, PreTrainedModel

from wellread import files
from wellread.errors import ArtefactError, UserError
from wellread.models import build
from wellread.models.long.blocks import shortest
from wellread.tokens import tokenizer as tokenizers

Attention = Literal["window", "full", "bigbird"]
EXTENDABLE = {"bert": ("window", "full", "bigbird"), "modernbert": ("full",)}
# What a new configuration takes over from a BERT's.
COPIED = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    *("hidden_act", "hidden_dropout_prob", "attention_probs_dropout_prob", "type_vocab_size"),
    *("initializer_range", "layer_norm_eps", "pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id"),
)
POSITIONS = "embeddings.position_embeddings.weight"


@dataclass(frozen=True)
class Extension:
    """How long a checkpoint becomes, and what its tokens then see.

    Attributes:
        length: longest sequence in tokens, special tokens included.
        attention: "window" (Longformer), "bigbird" or "full"; None for what suits the layout: a window for
            BERT, and for ModernBERT "full", which leaves its local and global layers as they are.
        window: width of the window in tokens, half of it to each side.
        block: tokens in a block of BigBird's.
        random: blocks that BigBird's tokens see at random.
    """

    length: int = 4096
    attention: Attention | None = None
    window: int = 512
    block: int = 64
    random: int = 3


def extend(folder: str | Path, to: str | Path, wanted: Extension) -> dict[str, Any]:
    """Write a longer copy of a checkpoint, as a folder that transformers loads.

    Args:
        folder: a BERT or ModernBERT checkpoint with its tokenizer.  With a window or blocks it must not have
            a fine-tuned head.
        to: the folder to make; must not exist, or be empty.
        wanted: what it becomes.

    Returns:
        {"layout", "class", "length", "attention", "parameters"} of the copy.

    Raises:
        ArtefactError: the checkpoint is damaged, unsafe, or of a layout that cannot be extended.
        UserError: an option does not fit the others or the checkpoint, or the folder is taken.
    """
    folder, to = Path(folder), Path(to)
    config = build.load_config(folder)
    attention = check(config, wanted, str(folder))
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError("there is something in the folder", where="--to", fix="choose another")
    tokenizer = tokenizers.load(folder)
    tokenizer.model_max_length = wanted.length
    model = _longer(folder, config, wanted.length)
    if attention != "full":
        model = _with_new_attention(model, attention, wanted)
    with files.new_folder(to) as partial:
        build.save(model, tokenizer, partial)
    return {
        "layout": model.config.model_type,
        "class": type(model).__name__,
        "length": build.longest(model.config),
        "attention": attention,
        "parameters": sum(weight.numel() for weight in model.parameters()),
    }


def check(config: PreTrainedConfig, wanted: Extension, where: str) -> Attention:
    """Refuse what cannot be done, before any work.

    Args:
        config: of the checkpoint.
        wanted: what it shall become.
        where: the checkpoint, for errors.

    Returns:
        The attention, the layout's own filled in.

    Raises:
        ArtefactError, UserError: as :func:`extend`.
    """
    layout, present = config.model_type, build.longest(config)
    if layout not in EXTENDABLE:
        decoder = layout in ("llama", "gpt2")
        cause = "looks back only, and is not extended here" if decoder else "is long already"
        raise ArtefactError(f"a {layout} checkpoint {cause}", where=where, fix="give a BERT or a ModernBERT")
    attention = wanted.attention or EXTENDABLE[layout][0]
    if attention not in EXTENDABLE[layout]:
        raise UserError(
            f"a {layout} cannot take {attention!r}: its local layers have their window, and the others have "
            "learnt to see everything",
            where="--attention",
            fix="leave it out, or give full",
        )
    if wanted.length <= present:
        raise UserError(
            f"the checkpoint reads {present} tokens already (asked for {wanted.length})",
            where="--length",
            fix=f"give more than {present}",
        )
    if attention == "window":
        _check_window(wanted)
    elif attention == "bigbird":
        _check_blocks(wanted)
    name = (config.architectures or [""])[0]
    if attention != "full" and not name.endswith(("Model", "ForMaskedLM", "ForPreTraining")):
        raise ArtefactError(
            f"{name or 'the checkpoint'} has a fine-tuned head, which knows nothing of the new attention",
            where=where,
            fix="extend the pre-trained checkpoint, then fine-tune; or give --attention full",
        )
    return attention  # type: ignore[return-value]


def tiled(table: Tensor, length: int) -> Tensor:
    """The rows of a position table again and again, the last copy cut: (n, d) -> (length, d)."""
    return table.repeat(-(-length // len(table)), 1)[:length].clone()


def _check_window(wanted: Extension) -> None:
    if wanted.window > wanted.length:
        what = f"a window of {wanted.window} tokens is larger than the {wanted.length} positions"
        raise UserError(what, where="--window", fix="lower it, or give --attention full")
    if wanted.window < 2 or wanted.window % 2:
        what = f"a window has as many tokens on each side (got {wanted.window})"
        raise UserError(what, where="--window", fix="give an even number of 2 or more")


def _check_blocks(wanted: Extension) -> None:
    if wanted.random < 1:
        what = "BigBird in transformers needs at least one random block"
        raise UserError(what, where="--random", fix="give 1 or more")
    if wanted.block < 1 or wanted.length % wanted.block:
        what = f"{wanted.length} positions are no whole number of blocks of {wanted.block}"
        raise UserError(what, where="--block", fix="give a block that divides --length")
    least = shortest(wanted.block, wanted.random)
    if wanted.length <= least:
        raise UserError(
            f"with blocks of {wanted.block}, up to {least} tokens see everything (asked for {wanted.length})",
            where="--block",
            fix="lower it, or give --attention full",
        )


def _longer(folder: Path, config: PreTrainedConfig, length: int) -> Any:
    """The checkpoint as it is, with its class, and positions for ``length`` tokens."""
    present = build.longest(config)
    model: Any = _load(folder, config)
    config = model.config
    config.max_position_embeddings = length
    if config.model_type == "bert":
        embeddings = model.base_model.embeddings
        table = embeddings.position_embeddings
        table.weight = torch.nn.Parameter(tiled(table.weight.detach()[:present], length))
        table.num_embeddings = length
        embeddings.position_ids = torch.arange(length)[None]
        embeddings.token_type_ids = torch.zeros(1, length, dtype=torch.long)
    return model


def _load(folder: Path, config: PreTrainedConfig) -> PreTrainedModel:
    """The checkpoint with the class that it was saved with (BERT without its next-sentence head).

    Raises:
        ArtefactError: weights of the body are missing or damaged.
    """
    name = (config.architectures or [""])[0]
    kinds: dict[str, build.Head] = {
        "ForMaskedLM": "mlm",
        "ForPreTraining": "mlm",
        "ForSequenceClassification": "classify",
        "ForTokenClassification": "tag",
    }
    head = next((kind for ending, kind in kinds.items() if name.endswith(ending)), None)
    model, missing = build.read_weights(folder, head, config)
    if missing:
        raise ArtefactError(
            f"{len(missing)} weight(s) are missing, the first is {missing[0]}",
            where=str(folder),
            fix="restore the folder from its source",
        )
    return model


def _with_new_attention(model: Any, attention: str, wanted: Extension) -> PreTrainedModel:
    """A BERT's weights in a Longformer or a BigBird of its shape."""
    old = model.config
    copied = {name: getattr(old, name) for name in COPIED if getattr(old, name, None) is not None}
    config: PreTrainedConfig
    if attention == "window":
        first = old.pad_token_id + 1
        config = LongformerConfig(
            **copied, max_position_embeddings=wanted.length + first, attention_window=wanted.window
        )
    else:
        config = BigBirdConfig(
            **copied,
            max_position_embeddings=wanted.length,
            block_size=wanted.block,
            num_random_blocks=wanted.random,
        )
    # Longformer's language-model head has one activation only.
    keeps_head = hasattr(model, "cls") and (attention == "bigbird" or old.hidden_act == "gelu")
    kind = build.MODELS["mlm" if keeps_head else None]
    with build.seeded(0):
        long = kind.from_config(config, attn_implementation="eager", dtype=torch.float32)
    weights = dict(_renamed(model, attention, keeps_head=keeps_head))
    problems = long.load_state_dict(weights, strict=False)
    lost = [name for name in problems.missing_keys if ".pooler." not in f".{name}"]
    assert not lost and not problems.unexpected_keys, (lost, problems.unexpected_keys)
    long.tie_weights()
    return long


def _renamed(model: Any, attention: str, *, keeps_head: bool) -> Any:
    """The weights of a BERT by the names of the new layout: (name, tensor) pairs."""
    prefix = {"window": "longformer.", "bigbird": "bert."}[attention] if keeps_head else ""
    body = model.base_model.state_dict()
    for name, weight in body.items():
        if attention == "window" and name == POSITIONS:
            weight = torch.cat([weight.new_zeros(model.config.pad_token_id + 1, weight.shape[1]), weight])
        yield prefix + name, weight
        for part in ("query", "key", "value") if attention == "window" else ():
            if f"attention.self.{part}." in name:
                yield prefix + name.replace(part, f"{part}_global"), weight
    if not keeps_head:
        return
    for name, weight in model.cls.state_dict().items():
        if attention == "window":
            name = name.replace("predictions.", "").replace("transform.LayerNorm", "layer_norm")
            yield "lm_head." + name.replace("transform.", ""), weight
        else:
            yield "cls." + name, weight
