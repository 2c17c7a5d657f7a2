"""PackedBatch and pack."""

import pytest
import torch

from wellread.tokens.batch import pack


def test_pack_lays_sequences_end_to_end():
    batch = pack([[5, 6, 7], [8]], word_ids=[[-1, 0, 0], [3]], sample_ids=[40, 41])
    assert batch.input_ids.tolist() == [5, 6, 7, 8]
    assert batch.cu_seqlens.tolist() == [0, 3, 4] and batch.cu_seqlens.dtype == torch.int32
    assert batch.position_ids.tolist() == [0, 1, 2, 0]
    assert batch.word_ids.tolist() == [-1, 0, 0, 3]
    assert batch.sample_ids.tolist() == [40, 41]
    assert (batch.tokens, batch.sequences, batch.lengths) == (4, 2, [3, 1])


def test_pack_fills_in_what_is_not_given():
    batch = pack([[1], [2, 3]])
    assert batch.word_ids.tolist() == [-1, -1, -1] and batch.sample_ids.tolist() == [0, 1]


def test_to_moves_every_tensor():
    moved = pack([[1, 2]]).to("meta")
    names = ("input_ids", "cu_seqlens", "position_ids", "word_ids", "sample_ids")
    assert all(getattr(moved, name).device.type == "meta" for name in names)


@pytest.mark.parametrize("sequences", [[], [[1], []]])
def test_nothing_to_pack_is_an_error(sequences):
    with pytest.raises(ValueError, match="at least one"):
        pack(sequences)


def test_word_ids_of_another_length_are_an_error():
    with pytest.raises(ValueError, match="lengths"):
        pack([[1, 2]], word_ids=[[0]])
