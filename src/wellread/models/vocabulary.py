"""A checkpoint's vocabulary made to fit a field: extended by whole words, or replaced.

Every new piece starts at the mean of the rows of the old pieces that it was cut into before; a piece that was
there keeps its row.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from wellread.errors import RecipeError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

# Names of special tokens, those that play one part together: a decoder begins where an encoder classifies.
ROLES = (
    ("pad_token_id",),
    ("unk_token_id",),
    ("mask_token_id",),
    ("cls_token_id", "bos_token_id"),
    ("sep_token_id", "eos_token_id"),
)


def check_extendable(tokenizer: Any) -> None:
    """Whether words can be added to a tokenizer.

    Raises:
        RecipeError: it is no WordPiece, or does not split text into words.
    """
    from tokenizers import models

    engine = tokenizer.backend_tokenizer
    if not isinstance(engine.model, models.WordPiece) or engine.pre_tokenizer is None:
        raise RecipeError(
            "only a WordPiece tokenizer, which splits text into words, can be extended by words",
            where="tokenizer.add_words",
            fix="leave it out, or train a new tokenizer and set model.start_vocabulary to mean",
        )


def words_to_add(tokenizer: Any, words: Counter[str], count: int, least: int) -> list[str]:
    """The words that would save most pieces if each were one: by frequency times (pieces - 1).

    Args:
        tokenizer: that cuts them now.
        words: how often each (as normalised and split by the tokenizer) occurs.
        count: at most so many.
        least: smallest frequency.
    """
    common = [word for word, seen in words.items() if seen >= least and word.isalpha()]
    engine = tokenizer.backend_tokenizer
    engine.no_truncation()
    engine.no_padding()
    saved = {}
    for word, cut in zip(common, engine.encode_batch(common, add_special_tokens=False), strict=True):
        # A word that cannot be read costs as much as one that is spelt.
        pieces = len(word) if tokenizer.unk_token_id in cut.ids else len(cut.ids)
        saved[word] = words[word] * (pieces - 1)
    ranked = sorted((word for word in common if saved[word]), key=lambda word: (-saved[word], word))
    return ranked[:count]


def extend(tokenizer: PreTrainedTokenizerFast, words: list[str]) -> None:
    """Make words pieces of their own, numbered from the end of the vocabulary, in place.

    They are found as whole words only, so any text without them gives the same ids as before.

    Args:
        tokenizer: of the WordPiece kind.
        words: as the tokenizer normalises them.

    Raises:
        RecipeError: as :func:`check_extendable`.
    """
    from tokenizers import AddedToken

    check_extendable(tokenizer)
    tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=True) for word in words])


def origins(old: PreTrainedTokenizerFast, new: PreTrainedTokenizerFast) -> list[list[int]]:
    """For each id of the new tokenizer, the old ids whose rows its own starts from.

    Special tokens go by their part; pieces that both know by name; others by how the old tokenizer cuts them,
    as the continuation of a word where they are one.
    """
    known, unknown = old.get_vocab(), int(old.unk_token_id or 0)
    parts: dict[int, list[int]] = {}
    for names in ROLES:
        before = [getattr(old, name) for name in names if getattr(old, name, None) is not None]
        for name in names:
            if getattr(new, name, None) is not None:
                parts[getattr(new, name)] = before[:1] or [unknown]
    pieces = new.get_vocab()
    found = [[unknown] for _ in range(max(pieces.values()) + 1)]
    for piece, number in pieces.items():
        if number in parts:
            found[number] = parts[number]
        elif piece in known:
            found[number] = [known[piece]]
        else:
            found[number] = _cut(piece, old, new, known) or [unknown]
    return found


def carry(model: PreTrainedModel, old: PreTrainedTokenizerFast, new: PreTrainedTokenizerFast) -> None:
    """Give a model the vocabulary of another tokenizer, in place: embeddings, output rows and output bias.

    Args:
        model: stock, with or without a language-modelling head.
        old: the model's tokenizer.
        new: the one that it is to have.
    """
    import torch

    if old.get_vocab() == new.get_vocab():
        return
    tables = {"input": model.get_input_embeddings(), "output": model.get_output_embeddings()}
    before = {
        name: {key: tensor.detach().clone() for key, tensor in table.named_parameters()}
        for name, table in tables.items()
        if table is not None
    }
    sources = origins(old, new)
    model.resize_token_embeddings(len(sources), mean_resizing=False)
    tables = {"input": model.get_input_embeddings(), "output": model.get_output_embeddings()}
    with torch.no_grad():
        for name, tensors in before.items():
            for key, rows in tensors.items():
                means = [rows[ids].double().mean(0).to(rows.dtype) for ids in sources]
                tables[name].get_parameter(key).copy_(torch.stack(means))  # type: ignore[union-attr]
    for names in ROLES:
        given = [getattr(new, name) for name in names if getattr(new, name, None) is not None]
        for name in names:
            if given and getattr(model.config, name, None) is not None:
                setattr(model.config, name, given[0])


def _cut(piece: str, old: Any, new: Any, known: dict[str, int]) -> list[int]:
    """The old pieces of a new one."""
    continuing = piece.startswith("##") and len(piece) > 2
    text = piece[2:] if continuing else new.convert_tokens_to_string([piece])
    found = _continued(text, known) if continuing else []
    return found or old.backend_tokenizer.encode(text, add_special_tokens=False).ids


def _continued(text: str, known: dict[str, int]) -> list[int]:
    """The continuing pieces of WordPiece, longest first; nothing where a character is unknown."""
    found, start = [], 0
    while start < len(text):
        end = next((end for end in range(len(text), start, -1) if f"##{text[start:end]}" in known), None)
        if end is None:
            return []
        found.append(known[f"##{text[start:end]}"])
        start = end
    return found
