"""Deviation-aware distillation: gamma = 0 is the plain soft cross-entropy; a decoder of two bits learns."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F  # noqa: N812
import toy

from wellread.compress.binarise import dual, planes
from wellread.compress.binarise.deviation import teach_language, weighted
from wellread.models import build, packed
from wellread.objectives import clm, prediction
from wellread.tokens.batch import pack


def test_no_power_is_the_plain_soft_cross_entropy():
    torch.manual_seed(0)
    ours, theirs = torch.randn(12, 5), torch.randn(12, 5)
    torch.testing.assert_close(weighted(ours, theirs, 0.0), F.cross_entropy(ours, theirs.softmax(-1)))


def test_unsure_positions_weigh_more():
    theirs = torch.tensor([[9.0, 0.0], [0.1, 0.0]])
    ours = torch.tensor([[0.0, 0.0], [0.0, 0.0]])  # the same cross-entropy, log 2, at both
    torch.testing.assert_close(weighted(ours, theirs, 1.0), torch.tensor(math.log(2)))
    off = torch.zeros(2, 2, requires_grad=True)
    weighted(off, theirs * 0 + torch.tensor([[4.0, 0.0], [1.0, 0.0]]), 1.0).backward()
    plain = torch.zeros(2, 2, requires_grad=True)
    weighted(plain, theirs * 0 + torch.tensor([[4.0, 0.0], [1.0, 0.0]]), 0.0).backward()
    share = off.grad.abs().sum(1) / plain.grad.abs().sum(1)
    assert share[1] > 1 > share[0]


def batches(count: int, seed: int):
    """Sequences in which each token says which comes next, with some noise."""
    draw = random.Random(seed)
    for _ in range(count):
        rows = []
        for _ in range(8):
            row = [draw.randrange(40)]
            while len(row) < 24:
                row.append((3 * row[-1] + 1) % 40 if draw.random() < 0.8 else draw.randrange(40))
            rows.append(row)
        yield pack(rows)


def perplexity(model) -> float:
    total, count = 0.0, 0
    for batch in batches(4, 999):
        asked = clm.predict(batch)
        total, count = total + prediction.score(model, asked)[0], count + asked.count
    return math.exp(total / count)


def test_a_decoder_of_two_bits_learns_from_its_teacher(tmp_path):
    """Nothing but the scales learns, and the perplexity falls below that of plain rounding to two bits."""
    torch.set_num_threads(1)
    tokenizer = toy.make_tokenizer(tmp_path / "tokenizer", causal=True)
    settings = toy.model("llama")
    teacher = packed.enable(build.build(settings, tokenizer, "clm", 0))
    optimiser = torch.optim.AdamW(teacher.parameters(), lr=3e-3)
    for batch in batches(150, 0):
        asked = clm.predict(batch)
        (prediction.loss(teacher, asked) / asked.count).backward()
        optimiser.step()
        optimiser.zero_grad()
    student = packed.enable(build.build(settings, tokenizer, "clm", 0))
    student.load_state_dict(teacher.state_dict())
    dual.equip(student.eval(), 16, only_scales=True)
    for layer in student.modules():
        if isinstance(layer, dual.DualLinear):
            first, second = planes.searched(dual.grouped(layer.weight.detach(), 16))
            layer.first.data, layer.second.data = first, second
    rounded = perplexity(student)
    losses = teach_language(student, teacher, batches(60, 1), 60, 3e-3)
    assert len(losses) == 60 and losses[-1] < losses[0]
    assert perplexity(teacher) < rounded
    assert perplexity(student) < rounded
