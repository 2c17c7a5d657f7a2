"""Groups: the cuts that Q-BERT's paper names, parts of fused matrices, heads."""

from types import SimpleNamespace

import torch

from wellread.compress.quantise import groups


def test_published_cuts_of_768_neurons():
    assert torch.equal(groups.owners(768, 1, 128), torch.arange(768) // 6)
    assert torch.equal(groups.owners(768, 1, 12), torch.arange(768) // 64)
    assert torch.equal(groups.owners(768, 1, 1), torch.zeros(768, dtype=torch.int64))
    assert torch.equal(groups.owners(3072, 1, 128), torch.arange(3072) // 24)


def test_uneven_groups_differ_by_one_row_at_most_and_none_is_empty():
    sizes = groups.owners(100, 1, 7).bincount()
    assert len(sizes) == 7 and sizes.sum() == 100 and sizes.max() - sizes.min() <= 1


def test_parts_of_a_fused_matrix_are_cut_as_the_matrices_would_be():
    fused = groups.owners(3 * 64, 3, 4)
    assert torch.equal(fused, torch.cat([groups.owners(64, 1, 4) + 4 * part for part in range(3)]))


def test_counts():
    config = SimpleNamespace(num_attention_heads=8, num_key_value_heads=2)
    assert groups.count("matrix", "Wo", 64, config) == 1
    assert groups.count("head", "q_proj", 64, config) == 8
    assert groups.count("head", "k_proj", 16, config) == 2
    assert groups.count(128, "Wo", 64, config) == 64
    assert groups.count(16, "Wo", 64, config) == 16
