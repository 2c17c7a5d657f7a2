"""Magnitude and movement pruning of small fine-tuned models."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wellread.compress.prune import magnitude, masks, movement
from wellread.compress.prune.settings import GradualSettings
from wellread.compress.subject import load_model, logits, open_subject, scores
from wellread.errors import RecipeError

PRUNE = {"magnitude": magnitude.prune, "movement": movement.prune}


@pytest.fixture
def subject(fine_tuned):
    folder, task, settings, _ = fine_tuned("classify", "modernbert")
    return open_subject(folder, task, settings)


@pytest.mark.parametrize("method", PRUNE)
@pytest.mark.parametrize("pattern", ["unstructured", "block8"])
def test_zeros_hold_in_the_kept_weights(subject, method, pattern):
    """Whichever moment was kept, every matrix has the level asked for, in the pattern asked for."""
    settings = GradualSettings(level=0.6, pattern=pattern, every=4, epochs=3)
    model = PRUNE[method](subject, settings, 0)
    for matrix in masks.matrices(model).values():
        score = matrix.weight.detach().abs()
        wanted = masks.choose(score, 0.6, pattern)
        assert int((score > 0).sum()) == int(wanted.sum())
        assert bool(((score > 0) == wanted).all())
    # What the mask is worth: better than guessing the commonest of three.
    assert scores(model, subject)["macro_f1"] > 0.4
    weights = torch.cat([matrix.weight.detach().flatten() for matrix in masks.matrices(model).values()])
    assert float((weights == 0).float().mean()) == pytest.approx(0.6, abs=0.07)


def test_gpt2_and_averages(fine_tuned):
    """Weights stored the other way round, and a mean over steps, keep their zeros too."""
    folder, task, settings, _ = fine_tuned("classify", "gpt2")
    subject = open_subject(folder, task, settings.model_copy(update={"average": "ema"}))
    model = magnitude.prune(subject, GradualSettings(level=0.5, every=5, epochs=1), 0)
    for matrix in masks.matrices(model).values():
        assert int((matrix.weight != 0).sum()) == round(0.5 * matrix.weight.numel())


def test_the_same_seed_gives_the_same_model(subject):
    settings = GradualSettings(level=0.5, every=3, epochs=1)
    first, second = (movement.prune(subject, settings, 3).state_dict() for _ in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_level_zero_is_the_model(subject):
    model = magnitude.prune(subject, GradualSettings(level=0.0), 0)
    np.testing.assert_array_equal(logits(model, subject), logits(load_model(subject), subject))


def test_a_loss_of_ones_own_is_trained_on(subject):
    asked = []

    def loss(model, split, index, goal, seed):
        asked.append(len(index))
        return subject.data.head.loss(model, split, index, goal, seed)

    magnitude.prune(subject, GradualSettings(level=0.5, epochs=1), 0, loss=loss)
    assert asked


def test_training_that_fails_says_so(subject):
    def loss(model, split, index, goal, seed):
        return subject.data.head.loss(model, split, index, goal, seed) * float("nan")

    with pytest.raises(RecipeError, match="failed"):
        magnitude.prune(subject, GradualSettings(level=0.5, epochs=1), 0, loss=loss)
