"""A fine-tuned model opened for compression, and trained further."""

from __future__ import annotations

import numpy as np
import pytest
import toy

from wellread.compress.subject import load_model, logits, open_subject, scores
from wellread.errors import ArtefactError
from wellread.finetune.loop import tune
from wellread.models import packed


@pytest.fixture(params=["classify", "regress", "tag"])
def tuned(request, fine_tuned):
    return fine_tuned(request.param, "bert")


def test_scores_are_those_of_fine_tuning(tuned):
    folder, task, settings, result = tuned
    subject = open_subject(folder, task, settings)
    model = load_model(subject)
    assert scores(model, subject) == pytest.approx(result.dev)
    assert scores(model, subject, "test") == pytest.approx(result.test)


def test_going_on_begins_where_fine_tuning_ended(tuned):
    """A step of no length leaves the predictions as they are, the scale of a regression too."""
    folder, task, settings, _ = tuned
    subject = open_subject(folder, task, settings)
    model = load_model(subject)
    before = logits(model, subject)
    still = settings.model_copy(update={"learning_rate": 1e-12, "min_steps": 1, "max_steps": 1})
    again = tune(model, subject.data, task.splits["train"], still, 0, fine_tuned=True).model
    after = logits(packed.enable(again).eval(), subject)
    np.testing.assert_allclose(after, before, atol=1e-4)


def test_another_task_is_refused(tuned):
    folder, task, _, _ = tuned
    other = toy.task("classify" if task.kind == "tag" else "tag")
    with pytest.raises(ArtefactError, match="labels"):
        open_subject(folder, other)
