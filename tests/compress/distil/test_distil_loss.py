"""The loss against plain references."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from wellread.compress.distil.loss import mixed, soft
from wellread.finetune import objective
from wellread.finetune.objective import Objective


def logits(seed, rows=7, labels=4):
    return torch.randn(rows, labels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradient(loss, student):
    student = student.clone().requires_grad_()
    loss(student).backward()
    return student.grad


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("kind", ["classify", "tag"])
def test_the_gradient_is_that_of_the_divergence(kind, temperature):
    student, teacher = logits(0), logits(1)

    def divergence(values):
        p, q = (F.log_softmax(one / temperature, dim=-1) for one in (teacher, values))
        return temperature**2 * F.kl_div(q, p, reduction="batchmean", log_target=True)

    found = gradient(lambda values: soft(kind, values, teacher, temperature), student)
    torch.testing.assert_close(found, gradient(divergence, student))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_of_several_labels_each_is_a_distribution_of_its_own(temperature):
    student, teacher = logits(0), logits(1)

    def divergence(values):
        p, q = (torch.sigmoid(one / temperature) for one in (teacher, values))
        each = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
        return temperature**2 * each.mean()

    found = gradient(lambda values: soft("multilabel", values, teacher, temperature), student)
    torch.testing.assert_close(found, gradient(divergence, student))


@pytest.mark.parametrize("kind", ["classify", "multilabel", "regress", "tag"])
def test_nothing_is_left_to_learn_from_oneself(kind):
    student = logits(0, labels=1 if kind == "regress" else 4)
    found = gradient(lambda values: soft(kind, values, student, 2.0), student)
    torch.testing.assert_close(found, torch.zeros_like(found), atol=1e-12, rtol=0)


def test_a_one_hot_teacher_is_plain_cross_entropy():
    student, target = logits(0), torch.tensor([0, 3, 1, 1, 2, 0, 3])
    sure = 1000.0 * F.one_hot(target, 4).double()
    torch.testing.assert_close(soft("classify", student, sure), F.cross_entropy(student, target))
    yes = (sure > 0).double()
    plain = F.binary_cross_entropy_with_logits(student, yes)
    torch.testing.assert_close(soft("multilabel", student, 2000 * yes - 1000), plain)


def test_labels_count_where_there_are_any():
    student, teacher = logits(0), logits(1)
    target, goal = torch.tensor([0, 3, 1, 1, 2, 0, 3]), Objective("classify")
    labelled = torch.tensor([True, False, True, False, False, True, True])
    found = mixed(goal, student, teacher, target, labelled, temperature=2.0, alpha=0.25)
    hard = F.cross_entropy(student[labelled], target[labelled], reduction="sum") / 7
    torch.testing.assert_close(found, 0.25 * soft("classify", student, teacher, 2.0) + 0.75 * hard)
    none = mixed(goal, student, teacher, target, labelled & False, temperature=2.0, alpha=0.25)
    torch.testing.assert_close(none, 0.25 * soft("classify", student, teacher, 2.0))
    all_labels = mixed(goal, student, teacher, target, labelled | True, temperature=2.0, alpha=0.0)
    torch.testing.assert_close(all_labels, objective.loss(goal, student, target))


def test_scores_of_a_teacher_are_standardised_as_labels_are():
    goal, student = Objective("regress", centre=40.0, scale=5.0), logits(0, labels=1)
    scores = 40 + 5 * logits(1, labels=1)
    none = torch.zeros(7, dtype=torch.bool)
    found = mixed(goal, student, scores, scores[:, 0], none, temperature=1.0, alpha=1.0)
    torch.testing.assert_close(found, objective.loss(goal, student, scores[:, 0]))
