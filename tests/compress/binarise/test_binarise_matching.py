"""Direction matching: zero for the same direction, blind to sizes, and what it records of a model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wellread.compress.binarise import matching
from wellread.compress.subject import load_model, open_subject
from wellread.finetune import batches
from wellread.finetune.objective import Objective
from wellread.models import heads


def test_directions_only():
    torch.manual_seed(0)
    x, y = torch.randn(9, 2, 4), torch.randn(9, 2, 4)
    assert matching.matched(x, 3.7 * x, [4, 5]) < 1e-6
    assert matching.matched(x, y, [4, 5]) > 0.1
    turn = torch.linalg.qr(torch.randn(4, 4))[0]
    assert matching.matched(x, x @ turn, [4, 5]) < 1e-5


def test_relations_are_those_of_each_sequence():
    torch.manual_seed(0)
    x = torch.randn(7, 1, 4)
    first = x[:3, 0] @ x[:3, 0].T / 2
    second = x[3:, 0] @ x[3:, 0].T / 2
    expected = torch.cat([first.flatten(), second.flatten()])
    torch.testing.assert_close(matching.relations(x, [3, 4]), expected)


@pytest.mark.parametrize("layout", ["bert", "modernbert"])
def test_what_is_recorded(fine_tuned, layout):
    folder, task, settings, _ = fine_tuned("classify", layout)
    subject = open_subject(folder, task, settings)
    model = load_model(subject)
    batch = batches.select(subject.data.splits["dev"].encoded, np.arange(4))[0]
    with torch.no_grad(), matching.recorded(model) as seen:
        heads.sequence_logits(model, batch)
    tokens = batch.tokens
    assert [tuple(part.shape) for part in seen] == 2 * [*3 * [(tokens, 2, 16)], (tokens, 1, 32)]


def test_a_student_equal_to_its_teacher_is_charged_for_the_answers_only(fine_tuned):
    folder, task, settings, _ = fine_tuned("classify", "bert")
    subject = open_subject(folder, task, settings)
    teacher, student = load_model(subject), load_model(subject)
    split, index = subject.data.splits["train"], np.arange(6)
    found = matching.loss(teacher)(student, split, index, Objective("classify"), 0)
    logits = torch.from_numpy(subject.data.head.logits(teacher, split.encoded)[index])
    target = logits.softmax(-1)
    own = -(target * target.log()).sum(-1).mean()
    labelled = torch.nn.functional.cross_entropy(logits, torch.from_numpy(split.targets[index]))
    torch.testing.assert_close(found.detach(), own + 0.5 * labelled, atol=1e-4, rtol=1e-4)
