"""The published columns average to their published scores; every task is one that is known."""

from __future__ import annotations

import pytest

from wellread.benchmark.suite import group_means, load, mean_of_groups
from wellread.tasks.known import describe, known_names

BLURB = load("blurb")


@pytest.mark.parametrize("model", BLURB.published)
def test_columns_average_to_their_published_score(model: str) -> None:
    """Mean of the six group means, each the mean of its tasks, to the two digits that are published."""
    scores = BLURB.published[model]
    assert set(scores) == {*BLURB.tasks, "score"}
    found = mean_of_groups(BLURB, scores, BLURB.groups)
    assert found is not None and abs(found - scores["score"]) < 0.00501


def test_one_wrong_digit_would_be_seen() -> None:
    scores = {**BLURB.published["BERT"], "hoc": 80.30}
    assert abs(mean_of_groups(BLURB, scores, BLURB.groups) - 76.11) > 0.00501  # type: ignore[operator]


def test_thirteen_tasks_in_six_groups_with_the_official_metrics() -> None:
    assert len(BLURB.tasks) == len(set(BLURB.tasks)) == 13 and len(BLURB.groups) == 6
    metrics = {task: describe(task).get("metric", "entity_f1") for task in BLURB.tasks}
    assert {metrics[task] for task in BLURB.groups["NER"]} == {"entity_f1"}
    assert {metrics[task] for task in BLURB.groups["relations"]} == {"micro_f1_positive"}
    assert {metrics[task] for task in BLURB.groups["questions"]} == {"accuracy"}
    assert metrics["ebm-pico"] == "word_macro_f1" and metrics["biosses"] == "pearson"
    assert metrics["hoc"] == "micro_f1_doc" and describe("pubmedqa")["folds"] == 10
    assert all("official" in describe(task) for task in BLURB.tasks)


@pytest.mark.parametrize("name", ["blurb", "general"])
def test_every_task_is_known(name: str) -> None:
    assert set(load(name).tasks) <= set(known_names())


def test_groups_count_whole_or_not_at_all() -> None:
    values = {"biosses": 0.9, "pubmedqa": 0.5, "bioasq": 0.7, "gad": 0.8}
    assert group_means(BLURB, values) == {"similarity": 0.9, "questions": pytest.approx(0.6)}
    assert mean_of_groups(BLURB, values, ["similarity", "questions"]) == pytest.approx(0.75)
    assert mean_of_groups(BLURB, values, BLURB.groups) is None
    assert mean_of_groups(BLURB, values, []) is None
