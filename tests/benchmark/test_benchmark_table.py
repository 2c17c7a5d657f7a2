"""The table: scores by task, what is missing or partial in words, a score only over whole groups."""

from __future__ import annotations

import io
import math

import pytest

from wellread.benchmark.suite import load
from wellread.benchmark.table import TaskState, cells, results, spread, to_rich, to_text

BLURB = load("blurb")


def state(task: str, *values: float, **more) -> TaskState:
    seeds = more.pop("seeds", tuple(range(len(values))))
    return TaskState(task, "accuracy", seeds, dict(enumerate(values)), **more)


def whole() -> list[TaskState]:
    return [state(task, BLURB.published["PubMedBERT"][task] / 100) for task in BLURB.tasks]


def row(states: list[TaskState], name: str) -> list[str]:
    return next(row for row in cells(BLURB, "ours", states) if name in row)


def test_mean_and_deviation() -> None:
    one = state("hoc", 0.5, 0.6, 0.7)
    assert (one.mean, one.std) == (pytest.approx(0.6), pytest.approx(0.1))
    assert spread(one) == "60.00 ± 10.00" and spread(state("hoc", 0.5)) == "50.00"
    assert spread(state("hoc", seeds=(0, 1))) == "-"


def test_the_published_values_give_the_published_score() -> None:
    last = cells(BLURB, "ours", whole())[-1]
    assert last[1] == "BLURB" and last[3] == "81.16" and last[5:8] == ["76.11", "81.16", "83.39"]
    assert last[-1] == ""
    score = results(BLURB, "ours", whole())["score"]
    assert score["complete"] and score["tasks"] == score["of"] == 13
    assert math.isclose(score["value"], 0.8116, abs_tol=5e-5)


@pytest.mark.parametrize("change", [{"partial": "no train"}, {"missing": "no folder"}, {"seeds": (0, 1)}])
def test_a_task_that_is_not_whole_leaves_its_group_out(change: dict) -> None:
    states = whole()
    place = BLURB.tasks.index("biosses")
    values = () if "missing" in change else (0.9,)
    states[place] = state("biosses", *values, **{"seeds": (), **change} if not values else change)
    score, same = cells(BLURB, "ours", states)[-2:]
    assert score[3] == "partial" and score[-1] == "partial (12 of 13 tasks)" and score[6] == "81.16"
    # The same five groups for the published columns: ours has PubMedBERT's values, so it has its mean.
    assert same[2] == "whole groups only" and same[3] == same[6] and "similarity" not in same[-1]
    found = results(BLURB, "ours", states)
    assert not found["score"]["complete"] and found["score"]["tasks"] == 12
    assert set(found["groups"]) == set(BLURB.groups) - {"similarity"}


def test_without_a_whole_group_there_is_no_score() -> None:
    states = [state("gad", 0.7)]
    assert cells(BLURB, "ours", states)[-1][3] == "partial" and len(cells(BLURB, "ours", states)) == 3
    assert results(BLURB, "ours", states)["score"]["value"] is None


def test_failures_missing_and_partial_are_said() -> None:
    states = [
        state("hoc", 0.1, 0.2, failed=2),
        TaskState("ebm-pico", missing="no folder ebm-pico with its files"),
        state("ddi", 0.3, partial="train has 1 examples, the benchmark 25,296"),
    ]
    assert row(states, "hoc")[-1] == "2 failed" and row(states, "hoc")[4] == "2/2"
    assert row(states, "ebm-pico")[-1].startswith("missing: no folder")
    assert row(states, "ddi")[-1].startswith("partial: train has 1")
    assert row(states, "ddi")[5] == "80.04", "BERT's column stands beside it"


def test_text_and_terminal_show_the_same_cells() -> None:
    from rich.console import Console

    text = to_text(BLURB, "ours[x]", whole())
    stream = io.StringIO()
    Console(file=stream, width=300).print(to_rich(BLURB, "ours[x]", whole()))
    for cell in ("ours[x]", "bc5cdr-chem", "93.33", "81.16", "BioLinkBERT"):
        assert cell in text and cell in stream.getvalue()


def test_a_benchmark_without_a_score_has_no_row_for_it() -> None:
    general = load("general")
    assert cells(general, "ours", [state("cola", 0.3)])[-1][1] == "cola"
