"""Tiny models and padded batches that the tests compare with."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from wellread.settings import ModelSettings
from wellread.tokens.batch import PackedBatch, pack

LAYOUTS = ("modernbert", "bert", "llama", "gpt2")
VOCAB = 97
MAX_LENGTH = 48


def tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer with all special tokens; [PAD] is 0."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(VOCAB - 5))]
    core = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def settings(layout: str, **changes) -> ModelSettings:
    """A tiny architecture; ModernBERT sees |i - j| <= 4 in its local layers."""
    values = {
        "layout": layout,
        "layers": 3,
        "hidden": 32,
        "heads": 2,
        "ffn": 48,
        "max_length": MAX_LENGTH,
        "local_attention": 8,
        "global_every": 3,
    }
    return ModelSettings(**(values | changes))


def batch(lengths: list[int], seed: int = 0) -> PackedBatch:
    """Random tokens, none of them special."""
    generator = torch.Generator().manual_seed(seed)
    return pack([torch.randint(5, VOCAB, (length,), generator=generator).tolist() for length in lengths])


def padded(packed: PackedBatch) -> dict[str, torch.Tensor]:
    """The same sequences as stock models want them: right-padded, with an attention mask."""
    parts = packed.input_ids.split(packed.lengths)
    ids = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=0)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(part) for part in parts], batch_first=True)
    return {"input_ids": ids, "attention_mask": mask}


def randomise(model: torch.nn.Module, seed: int = 3) -> None:
    """Noise on norms and biases too, so that none of them is trivially one or zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
