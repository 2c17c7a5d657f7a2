"""BigBird's blocks by gathering equal one weighted softmax over all pairs, in values and gradients."""

import pytest
import torch

from wellread.models.long.blocks import _plan, blocked, shortest


def dense_weight(length, block, random):
    """(H or 1, L, L) how often each token's query meets each key."""
    total = -(-length // block)
    table, seen = _plan(random, total - 2)
    weight = torch.zeros(table.shape[0], total, total)
    weight[:, [0, -1]] = 1
    for head in range(table.shape[0]):
        for row in range(total - 2):
            for column, ok in zip(table[head, row].tolist(), seen[head, row].tolist(), strict=True):
                weight[head, row + 1, column] += ok
    return weight.repeat_interleave(block, 1).repeat_interleave(block, 2)[:, :length, :length]


def dense(query, key, value, weight):
    """Attention in which a key that is named w times counts w times."""
    scores = query @ key.mT / query.shape[-1] ** 0.5 + weight.log()
    return scores.softmax(-1) @ value


def parts(length, heads=2, count=2, size=4):
    generator = torch.Generator().manual_seed(length)
    return [
        torch.randn(count, heads, length, size, generator=generator, requires_grad=True) for _ in range(3)
    ]


def choice(kind, length, block, heads=2, count=2):
    inner = -(-length // block) - 2
    if kind == "none":
        return torch.zeros(1, inner, 0, dtype=torch.int64)
    if kind == "first again":
        return torch.zeros(1, inner, count, dtype=torch.int64)
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, inner + 2, (heads, inner, count), generator=generator)


@pytest.mark.parametrize("kind", ["none", "first again", "drawn"])
@pytest.mark.parametrize("length", [*range(70, 83), 95, 96, 97, 127, 128, 129, 200])
def test_blocks_equal_the_dense_definition(length, kind):
    block, random = 8, choice(kind, length, 8)
    weight, found = dense_weight(length, block, random), []
    for function in (lambda *given: blocked(*given, block, random), lambda *given: dense(*given, weight)):
        given = parts(length)
        output = function(*given)
        weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(9))
        found.append([output, *torch.autograd.grad((output * weights).sum(), given)])
    for got, wanted in zip(*found, strict=True):
        assert got.shape == wanted.shape
        assert (got - wanted).abs().max() <= 1e-5


def test_the_definition_is_bigbirds():
    weight = dense_weight(80, 8, torch.tensor([[[4], [5], [6], [7], [1], [2], [3], [4]]]))[0, ::8, ::8]
    wanted = torch.zeros(10, 10)
    wanted[[0, 9]] = 1
    for row, drawn in enumerate([4, 5, 6, 7, 1, 2, 3, 4], 1):
        for column in {0, row - 1, row, row + 1, 9, drawn}:
            wanted[row, column] = 1
    assert torch.equal(weight, wanted)
    assert shortest(64, 3) == 704
