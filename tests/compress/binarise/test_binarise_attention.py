"""Bi-Attention on packed rows against the formula written out, and what BiBERT says about entropy."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from wellread.compress.binarise.attention import attention

LENGTHS = [5, 5, 9, 1]


def plain(query, key, value, window):
    """One head of one sequence, (L, D) each, with the formula as it stands."""
    sign = lambda x: torch.where(x >= 0, 1.0, -1.0)  # noqa: E731
    scores = sign(query) @ sign(key).T / query.shape[1] ** 0.5
    bits = (scores >= 0).float()
    place = torch.arange(len(query))
    if window is not None:
        bits[(place[:, None] - place[None]).abs() >= window] = 0
    return bits @ sign(value)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("elastic", [True, False])
def test_equals_the_formula(window, elastic):
    torch.manual_seed(0)
    parts = [torch.randn(1, 3, sum(LENGTHS), 8) for _ in range(3)]
    found, _ = attention(
        SimpleNamespace(elastic=elastic), *parts, None, lengths=LENGTHS, sliding_window=window
    )
    begin = 0
    for length in LENGTHS:
        for head in range(3):
            q, k, v = (part[0, head, begin : begin + length] for part in parts)
            assert torch.equal(found[0, begin : begin + length, head], plain(q, k, v, window))
        begin += length


def test_gradients_reach_queries_keys_and_values():
    torch.manual_seed(0)
    parts = [torch.randn(1, 2, 12, 8, requires_grad=True) for _ in range(3)]
    found, _ = attention(SimpleNamespace(elastic=False), *parts, None, lengths=[12])
    found.square().sum().backward()
    for part in parts:
        assert part.grad.abs().sum() > 0
        assert part.grad[part.detach().abs() > 1].abs().sum() == 0


def test_the_sign_of_a_softmax_says_nothing_and_the_sign_of_scores_does():
    torch.manual_seed(0)
    scores = torch.randn(40, 64).sign() @ torch.randn(64, 40).sign()
    assert (torch.where(scores.softmax(-1) >= 0, 1.0, -1.0) == 1).all()
    share = (scores >= 0).float().mean()
    entropy = -(share * share.log2() + (1 - share) * (1 - share).log2())
    assert entropy > 0.98
