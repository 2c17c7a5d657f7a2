"""Curvature: against the Hessian written out, and on packed batches against finite differences."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from wellread.compress.quantise import sensitivity
from wellread.compress.quantise.sensitivity import SensitivitySettings
from wellread.compress.subject import open_subject

FINE = SensitivitySettings(tolerance=1e-6, max_iterations=1000)


def explicit(loss, parameters):
    """The Hessian, row by row."""
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters, create_graph=True)])
    rows = [torch.autograd.grad(entry, parameters, retain_graph=True) for entry in gradient]
    return torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])


def largest(hessian):
    values = torch.linalg.eigvalsh((hessian + hessian.T) / 2)
    return float(values[values.abs().argmax()])


def test_eigenvalues_of_a_small_network():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 3))
    inputs, targets = torch.randn(30, 6), torch.randint(0, 3, (30,))
    stacks = [list(net[number].parameters()) for number in (0, 2, 4)]
    assert sum(weight.numel() for weight in net.parameters()) <= 200
    parts = [slice(0, 20), slice(20, 30)]

    def loss(number):
        return cross_entropy(net(inputs[parts[number]]), targets[parts[number]])

    found = sensitivity.top_eigenvalues(loss, [2 / 3, 1 / 3], stacks, [1, 2, 3], FINE)
    for stack, value in zip(stacks, found, strict=True):
        assert value == pytest.approx(largest(explicit(cross_entropy(net(inputs), targets), stack)), rel=0.01)


def test_a_negative_eigenvalue_is_found():
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    found = sensitivity.top_eigenvalues(
        lambda _: weight[0] ** 2 / 2 - 3 * weight[1] ** 2 / 2, [1.0], [[weight]], [0], FINE
    )
    assert found == [pytest.approx(-3)]


def test_a_loss_without_curvature():
    weight = torch.ones(3, requires_grad=True)
    assert sensitivity.top_eigenvalues(lambda _: weight.sum() * 2, [1.0], [[weight]], [0], FINE) == [0.0]


def test_criterion():
    assert sensitivity.omega([1.0, -3.0]) == pytest.approx(1 + 2)


@pytest.mark.parametrize(
    ("kind", "layout"), [("classify", "modernbert"), ("regress", "bert"), ("tag", "modernbert")]
)
def test_layers_of_a_packed_model(fine_tuned, kind, layout):
    folder, task, settings, _ = fine_tuned(kind, layout)
    subject = open_subject(folder, task, settings)
    quick = SensitivitySettings(parts=2, sequences=12, batch=8)
    found = sensitivity.sensitivities(subject, 0, quick)
    assert len(found) == 2
    assert all(len(each.eigenvalues) == 2 and each.omega > 0 for each in found)
    assert found == sensitivity.sensitivities(subject, 0, quick)


def test_a_packed_layer_against_finite_differences(fine_tuned):
    """H v of the whole top layer, along a random direction: the change of the gradient along it."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from wellread.compress.subject import load_model
    from wellread.models.fused import unfuse

    folder, task, settings, _ = fine_tuned("classify", "modernbert")
    subject = open_subject(folder, task, settings)
    model, data = unfuse(load_model(subject)).double(), subject.data
    index = data.sequences(task.splits["train"])[:6]
    goal = data.head.fit(model, data.splits["train"], index, False)
    weights = list(model.model.layers[1].parameters())
    direction = sensitivity._direction(weights, 0)

    def loss(_):
        return data.head.loss(model, data.splits["train"], index, goal, 0)

    def gradient(shift):
        with torch.no_grad():
            for weight, part in zip(weights, direction, strict=True):
                weight.add_(part, alpha=shift)
        found = torch.autograd.grad(loss(0).double(), weights)
        with torch.no_grad():
            for weight, part in zip(weights, direction, strict=True):
                weight.sub_(part, alpha=shift)
        return torch.cat([part.flatten() for part in found])

    with sdpa_kernel(SDPBackend.MATH):
        product = sensitivity._products(loss, [1.0], [weights], [direction], [0])[0]
        expected = (gradient(1e-2) - gradient(-1e-2)) / 2e-2
    found = torch.cat([part.flatten() for part in product])
    assert float((found - expected).norm() / expected.norm()) < 0.02
