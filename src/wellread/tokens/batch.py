"""One type for a batch: sequences laid end to end, no padding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PackedBatch:
    """Sequences end to end.  T is the number of tokens in all, S the number of sequences.

    Attributes:
        input_ids: (T,) int64.
        cu_seqlens: (S + 1,) int32, where each sequence begins, and T at the end.
        position_ids: (T,) int64, counting from 0 within each sequence.
        word_ids: (T,) int64, the number of the token's word within its sequence, -1 for special tokens.
        sample_ids: (S,) int64, the store's number of each sequence (its identity for masking).
        token_type_ids: (T,) int64, 1 in the second text of a pair, for the models that are told; or None.
        document_ids: (S,) int64, number of the document in the store that each sequence is of; or None.
        slots: (S,) int64, how many tokens at the end of each sequence are query slots: no other token sees
            them (objectives/ernie_gram.py); or None.
    """

    input_ids: Tensor
    cu_seqlens: Tensor
    position_ids: Tensor
    word_ids: Tensor
    sample_ids: Tensor
    token_type_ids: Tensor | None = None
    document_ids: Tensor | None = None
    slots: Tensor | None = None

    @property
    def tokens(self) -> int:
        """Number of tokens in all."""
        return int(self.input_ids.shape[0])

    @property
    def sequences(self) -> int:
        """Number of sequences."""
        return int(self.cu_seqlens.shape[0]) - 1

    @property
    def lengths(self) -> list[int]:
        """Length of each sequence in tokens."""
        return (self.cu_seqlens[1:] - self.cu_seqlens[:-1]).tolist()

    def to(self, device: torch.device | str) -> PackedBatch:
        """The batch on another device."""
        moved = {
            name: tensor.to(device, non_blocking=True)
            for name, tensor in vars(self).items()
            if tensor is not None
        }
        return PackedBatch(**moved)


def pack(
    sequences: list[list[int]],
    word_ids: list[list[int]] | None = None,
    sample_ids: list[int] | None = None,
) -> PackedBatch:
    """Lay sequences of token ids end to end.

    Args:
        sequences: token ids, special tokens included; none may be empty.
        word_ids: word numbers of the same lengths; default -1 throughout.
        sample_ids: identities; default 0, 1, 2, ...

    Raises:
        ValueError: no sequence, an empty one, or word_ids of another length.
    """
    if not sequences or not all(sequences):
        raise ValueError("a packed batch needs at least one sequence, and none may be empty")
    lengths = [len(sequence) for sequence in sequences]
    words = word_ids if word_ids is not None else [[-1] * length for length in lengths]
    if [len(word) for word in words] != lengths:
        raise ValueError("word_ids must have the lengths of the sequences")
    ends = torch.tensor([0, *lengths]).cumsum(0)
    return PackedBatch(
        input_ids=torch.tensor([token for sequence in sequences for token in sequence]),
        cu_seqlens=ends.to(torch.int32),
        position_ids=torch.cat([torch.arange(length) for length in lengths]),
        word_ids=torch.tensor([word for row in words for word in row]),
        sample_ids=torch.tensor(sample_ids if sample_ids is not None else range(len(sequences))),
    )
