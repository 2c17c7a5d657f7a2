"""SALT: its schedule, its choice by hand, no gradient from a teacher that is the student."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_objectives_prediction import VOCAB, asked, gradients, tiny

from wellread.models import packed
from wellread.models.heads import lm_logits
from wellread.objectives import distillation, prediction, salt
from wellread.settings import TeacherSettings


def settings(**changes):
    return TeacherSettings(path="unused", **changes)


def test_the_weight_ends_at_its_share_of_the_steps():
    constant = settings(weight=0.6, share=0.25)
    assert [salt.weight(constant, step / 8) for step in range(8)] == [0.6, 0.6] + [0.0] * 6
    ramp = settings(weight=0.6, share=0.5, ramp=True)
    assert [salt.weight(ramp, step / 8) for step in range(8)] == pytest.approx(
        [0.6, 0.45, 0.3, 0.15] + [0] * 4
    )
    assert salt.weight(settings(share=0.0), 0.0) == 0
    assert salt.weight(settings(weight=0.0), 0.0) == 0
    assert salt.weight(settings(share=1.0), 0.999) == 0.5


@pytest.mark.parametrize("layout", ["bert", "gpt2"])
def test_a_teacher_that_is_the_student_has_no_gradient(layout):
    student, question = tiny(layout), asked(layout)
    soft = distillation.soft_targets(student, question, settings(weight=1.0, top=VOCAB + 9))
    found = gradients(student, prediction.loss(student, replace(question, soft=soft)))
    assert max(float(gradient.abs().max()) for gradient in found.values()) < 1e-6 * question.count


def test_only_the_teacher_is_softened_where_asked():
    student, question = tiny("bert"), asked("bert")
    both = distillation.soft_targets(student, question, settings(temperature=0.25))
    one = distillation.soft_targets(student, question, settings(temperature=0.25, soften="teacher"))
    assert torch.equal(both.probabilities, one.probabilities)
    assert (both.temperature, one.temperature) == (0.25, 1.0)


@pytest.mark.parametrize("layout", ["bert", "gpt2"])
@pytest.mark.parametrize("top", [1, 5, VOCAB])
def test_scores_by_hand(layout, top):
    model, question = tiny(layout), asked(layout)
    with torch.no_grad():
        logits = lm_logits(model, packed.hidden_states(model, question.inputs)[question.positions])
    logs = torch.log_softmax(logits.double(), -1)
    by_sample = {}
    ends = question.inputs.cu_seqlens.tolist()
    for row, position, target in zip(
        logs, question.positions.tolist(), question.targets.tolist(), strict=True
    ):
        known = target in row.topk(top).indices.tolist()
        sample = sum(end <= position for end in ends) - 1
        by_sample.setdefault(sample, []).append(-float(row[target]) if known else 0.0)
    found = salt.scores(model, question, top)
    assert len(found) == question.inputs.sequences
    for sample, values in by_sample.items():
        assert found[sample] == pytest.approx(np.median(values), abs=1e-5)
