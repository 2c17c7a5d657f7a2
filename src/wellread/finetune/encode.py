"""Labelled texts as token ids: nothing is cut without being counted, every word gets its label once.

Texts go through the tokenizer's own template, as they do in a stock `transformers` pipeline.  The words of
a tagged sentence are joined by single spaces, tokenised as that text, and found again by character offsets,
so that any kind of tokenizer sees what it was trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from tokenizers import Encoding, Tokenizer

from wellread.errors import DataError, RecipeError


@dataclass(frozen=True)
class Encoded:
    """Sequences of token ids end to end: T tokens, S sequences, N inputs, W labelled words.

    Attributes:
        input_ids: (T,) int64.
        offsets: (S + 1,) int64, where each sequence begins, and T.
        inputs: (S,) int64, the input that a sequence comes from; a long tagged sentence gives several.
        truncated: (S,) bool, whether the sequence lost tokens to the longest length.
        word_offsets: (S + 1,) int64, where the labelled words of each sequence begin; zeros without words.
        word_positions: (W,) int64, position of a word's first piece within its sequence.
        word_numbers: (W,) int64, number of the word within its input.
        type_ids: (T,) int64, which text of a pair a token belongs to, as the tokenizer's template says; None
            where its models are not told.
    """

    input_ids: np.ndarray
    offsets: np.ndarray
    inputs: np.ndarray
    truncated: np.ndarray
    word_offsets: np.ndarray
    word_positions: np.ndarray
    word_numbers: np.ndarray
    type_ids: np.ndarray | None = None

    @property
    def lengths(self) -> np.ndarray:
        """(S,) length of each sequence in tokens."""
        return np.diff(self.offsets)


@dataclass(frozen=True)
class Question:
    """A text of which only some parts may be cut.

    Attributes:
        text: all of it.
        fields: (begin, end) characters of the parts that may be cut.
        answer: (begin, end) characters of what stands for the answer; None where the answer follows the text.
    """

    text: str
    fields: tuple[tuple[int, int], ...]
    answer: tuple[int, int] | None


def texts(
    tokenizer: Any, first: Sequence[str], second: Sequence[str | None] | None, max_length: int
) -> Encoded:
    """Encode texts or pairs of texts, one sequence each; longer ones are cut (longest part first) and marked.

    Args:
        tokenizer: a fast `transformers` tokenizer.
        first: N texts.
        second: the second texts of pairs, None for a text alone; or None when there are no pairs.
        max_length: longest sequence in tokens, special tokens included.

    Raises:
        DataError: a text holds a lone surrogate, which no tokenizer can read, or ``max_length`` leaves no
            room beside the special tokens.
    """
    plain = _backend(tokenizer)
    _check_room(max_length - plain.num_special_tokens_to_add(second is not None))
    pairs = second if second is not None else [None] * len(first)
    inputs: list[Any] = [a if b is None else (a, b) for a, b in zip(first, pairs, strict=True)]
    encodings = _encode(plain, inputs)
    long = [number for number, encoding in enumerate(encodings) if len(encoding) > max_length]
    if long:
        cut = _encode(_backend(tokenizer, max_length), [inputs[number] for number in long])
        for number, encoding in zip(long, cut, strict=True):
            encodings[number] = encoding
    filler = _filler(tokenizer)
    rows = [encoding.ids or [filler] for encoding in encodings]
    encoded = _lay_out(rows, list(range(len(rows))), [([], [])] * len(rows), cut=long)
    if second is None or "token_type_ids" not in tokenizer.model_input_names:
        return encoded
    return replace(encoded, type_ids=_flat([encoding.type_ids or [0] for encoding in encodings]))


def sentences(tokenizer: Any, words: Sequence[Sequence[str]], max_length: int) -> Encoded:
    """Encode sentences given as words; long ones become overlapping windows and lose no word.

    Each word belongs to the window in which its first piece has most context on its poorer side, and to no
    other, so that it is trained on and predicted once.  Words of which the tokenizer leaves nothing (control
    characters, say) belong to none.

    Args:
        tokenizer: a fast `transformers` tokenizer.
        words: N sentences; a word may be any string.
        max_length: longest sequence in tokens, special tokens included.

    Raises:
        DataError: a word holds a lone surrogate, or ``max_length`` leaves no room beside the special tokens.
    """
    rows, inputs, labelled = [], [], []
    filler = _filler(tokenizer)
    for number, encoding in enumerate(_encode(_backend(tokenizer), [" ".join(row) for row in words])):
        before, pieces, after = _template(encoding)
        room = max_length - len(before) - len(after)
        _check_room(room)
        starts, word_numbers = _first_pieces(encoding, words[number], len(before), len(pieces))
        for begin, end, owned in _windows(len(pieces), room, starts):
            rows.append([*before, *pieces[begin:end], *after] or [filler])
            inputs.append(number)
            labelled.append((starts[owned] - begin + len(before), word_numbers[owned]))
    return _lay_out(rows, inputs, labelled, cut=[])


def questions(tokenizer: Any, given: Sequence[Question], max_length: int) -> Encoded:
    """Encode questions, one sequence each; of the long ones only the texts within are cut (longest first).

    The labelled word of each sequence is the token that answers: the one that stands for the answer, or the
    last one where the answer follows.  In the latter case the closing special tokens are left away.

    Args:
        tokenizer: a fast `transformers` tokenizer.
        given: N questions.
        max_length: longest sequence in tokens, special tokens included.

    Raises:
        DataError: a text holds a lone surrogate, or a question is too long without its texts.
        RecipeError: what stands for the answer is not one token.
    """
    filler = _filler(tokenizer)
    rows, answers, cut = [], [], []
    encodings = _encode(_backend(tokenizer), [question.text for question in given])
    for number, (question, encoding) in enumerate(zip(given, encodings, strict=True)):
        ids, kept, answer = _question(question, encoding, max_length)
        answers.append(([int(kept[:answer].sum())], [0]))
        rows.append(ids[kept].tolist() or [filler])
        if not kept.all():
            cut.append(number)
    return _lay_out(rows, list(range(len(rows))), answers, cut=cut)


def _question(question: Question, encoding: Encoding, max_length: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Token ids, which of them fit, and which of them answers."""
    ids = np.array(encoding.ids, dtype=np.int64)
    begin, end = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2).T
    text = ~np.array(encoding.special_tokens_mask, dtype=bool)
    if question.answer is None:
        closing = int(np.flatnonzero(text)[-1]) + 1 if text.any() else max(1, len(ids) - 1)
        ids, begin, end, text = (row[:closing] for row in (ids, begin, end, text))
        answer = max(0, closing - 1)
    else:
        at = np.flatnonzero(text & (begin < question.answer[1]) & (end > question.answer[0]))
        if len(at) != 1:
            raise RecipeError(
                "the tokenizer does not read the answer's place as one token",
                where="finetune.answer.template",
                fix="put a space or a line end before and after {answer}",
            )
        answer = int(at[0])
    # A piece that reaches beyond its text belongs to the template, and stays.
    fields = [
        np.flatnonzero(text & (begin >= first) & (end <= last) & (end > begin))
        for first, last in question.fields
    ]
    counts = [len(field) for field in fields]
    room = max_length - (len(ids) - sum(counts))
    if room < 0:
        raise DataError(
            f"the question is longer than {max_length} tokens without its texts",
            where="finetune.answer.template",
            fix="shorten the template or the options, or allow longer inputs",
        )
    kept = np.ones(len(ids), dtype=bool)
    for field, count in zip(fields, _shares(counts, room), strict=True):
        kept[field[count:]] = False
    return ids, kept, answer


def _shares(counts: list[int], room: int) -> list[int]:
    """How much of each the room holds when the longest give way first."""
    shares = [0] * len(counts)
    for rank, number in enumerate(sorted(range(len(counts)), key=counts.__getitem__)):
        shares[number] = min(counts[number], room // (len(counts) - rank))
        room -= shares[number]
    return shares


def check_characters(parts: Sequence[str], where: str) -> None:
    """Refuse text that no tokenizer can read.

    Raises:
        DataError: with ``where``, for a lone surrogate.
    """
    if any("\ud800" <= character <= "\udfff" for part in parts for character in part):
        raise DataError(
            "the text holds half of a character (a lone surrogate)",
            where=where,
            fix="write the file again as valid UTF-8",
        )


def _check_room(room: int) -> None:
    if room < 1:
        raise DataError(
            "the maximum length leaves no room beside the special tokens",
            where="finetune.max_length",
            fix="choose a longer one",
        )


_BACKENDS: WeakKeyDictionary[Any, dict[tuple[int, int | None], Tokenizer]] = WeakKeyDictionary()


def _backend(tokenizer: Any, max_length: int | None = None) -> Tokenizer:
    """A copy of the tokenizer's engine that cuts to ``max_length`` and never pads, whatever its file says.

    It is kept: making it reads the whole vocabulary, which takes longer than a short text through a model.
    """
    kept, key = _BACKENDS.setdefault(tokenizer, {}), (len(tokenizer), max_length)
    if key not in kept:
        copy = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        copy.no_padding()
        copy.no_truncation()
        if max_length is not None:
            copy.enable_truncation(max_length, strategy="longest_first")
        kept[key] = copy
    return kept[key]


def _encode(engine: Tokenizer, inputs: list[Any]) -> list[Encoding]:
    try:
        return engine.encode_batch(inputs)
    except (TypeError, UnicodeError):
        for number, value in enumerate(inputs, 1):
            check_characters((value,) if isinstance(value, str) else value, f"input {number}")
        raise


def _filler(tokenizer: Any) -> int:
    """Stands for an empty text where the template adds no special token: no packed sequence is empty."""
    for name in ("bos_token_id", "cls_token_id", "eos_token_id", "pad_token_id", "unk_token_id"):
        token = getattr(tokenizer, name, None)
        if token is not None:
            return int(token)
    return 0


def _template(encoding: Encoding) -> tuple[list[int], list[int], list[int]]:
    """Special tokens before, pieces of the text, special tokens after."""
    ids, special = encoding.ids, np.asarray(encoding.special_tokens_mask, dtype=bool)
    text = np.flatnonzero(~special)
    if not len(text):
        # An empty text: the template's tokens are those of any text, and where it splits matters no more.
        return ids, [], []
    begin, end = int(text[0]), int(text[-1]) + 1
    return ids[:begin], ids[begin:end], ids[end:]


def _first_pieces(
    encoding: Encoding, words: Sequence[str], before: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Piece number at which each word begins, and the word's number, for the words that have a piece."""
    lengths = np.array([len(word) for word in words], dtype=np.int64)
    ends = np.cumsum(lengths + 1) - 1  # the joining space belongs to no word
    text = " ".join(words)
    starts, numbers, last = [], [], -1
    for piece, (begin, end) in enumerate(encoding.offsets[before : before + count]):
        while begin < end and text[begin].isspace():
            begin += 1  # byte-level tokenizers count the space before a word as part of it
        if begin >= end:
            continue
        word = int(np.searchsorted(ends, begin, side="right"))
        if word > last:
            starts.append(piece)
            numbers.append(word)
            last = word
    return np.array(starts, dtype=np.int64), np.array(numbers, dtype=np.int64)


def _windows(count: int, room: int, starts: np.ndarray) -> list[tuple[int, int, np.ndarray]]:
    """Half-overlapping windows over ``count`` pieces: begin, end, and which of ``starts`` each one owns."""
    if count <= room:
        return [(0, count, np.arange(len(starts)))]
    begins = np.array([*range(0, count - room, max(1, room // 2)), count - room])
    left = starts[None] - begins[:, None]
    right = begins[:, None] + room - 1 - starts[None]
    # The ends of the sentence are no loss of context.
    known_left = np.where(begins[:, None] == 0, count, left)
    known_right = np.where(begins[:, None] + room == count, count, right)
    context = np.minimum(known_left, known_right)
    context[(left < 0) | (right < 0)] = -1
    owner = np.argmax(context, axis=0)
    return [
        (int(begin), int(begin) + room, np.flatnonzero(owner == number))
        for number, begin in enumerate(begins)
    ]


def _lay_out(
    rows: list[list[int]],
    inputs: list[int],
    labelled: Sequence[tuple[Any, Any]],
    *,
    cut: list[int],
) -> Encoded:
    truncated = np.zeros(len(rows), dtype=bool)
    truncated[cut] = True
    return Encoded(
        input_ids=_flat(rows),
        offsets=_ends(rows),
        inputs=np.array(inputs, dtype=np.int64),
        truncated=truncated,
        word_offsets=_ends([positions for positions, _ in labelled]),
        word_positions=_flat([positions for positions, _ in labelled]),
        word_numbers=_flat([numbers for _, numbers in labelled]),
    )


def _flat(rows: Sequence[Any]) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype=np.int64), *(np.asarray(row, dtype=np.int64) for row in rows)])


def _ends(rows: Sequence[Any]) -> np.ndarray:
    return np.cumsum([0, *(len(row) for row in rows)], dtype=np.int64)
