"""Label budgets."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wellread.tasks.subset import subset
from wellread.tasks.task import Example, Task


def task_of(labels: list) -> Task:
    kind = "classify" if labels and isinstance(labels[0], str) else "multilabel"
    train = [Example(f"e{index}", "t", label) for index, label in enumerate(labels)]
    return Task(
        "t", kind, ("a", "b", "c", "d"), "macro_f1", {"train": train, "dev": train[:1], "test": train[:1]}
    )


labels = st.lists(st.sampled_from("aaaaaabcd"), min_size=1, max_size=60)
sets = st.lists(
    st.sets(st.sampled_from("abcd")).map(lambda found: tuple(sorted(found))), min_size=1, max_size=40
)


@settings(deadline=None)
@given(labels | sets, st.integers(1, 60), st.integers(1, 60), st.integers(0, 5))
def test_size_order_nesting_and_every_label(found: list, one: int, other: int, seed: int) -> None:
    task = task_of(found)
    small, large = (subset(task, size, seed) for size in sorted((one, other)))
    for chosen, size in zip((small, large), sorted((one, other)), strict=True):
        assert len(chosen) == min(size, len(found))
        places = [int(example.id[1:]) for example in chosen]
        assert places == sorted(set(places))
        if size >= 4:
            assert {x for e in chosen for x in e.label} == {x for e in task.splits["train"] for x in e.label}
    assert {example.id for example in small} <= {example.id for example in large}
    assert subset(task, one, seed) == subset(task, one, seed)


def test_all_and_seeds() -> None:
    task = task_of(["a"] * 50)
    assert subset(task, "all", 1) == task.splits["train"] == subset(task, 50, 2)
    assert subset(task, 10, 0) != subset(task, 10, 1)


def test_the_sample_is_not_stratified_beyond_the_first_of_each() -> None:
    task = task_of(["a"] * 900 + ["b"] * 100)
    shares = [sum(one.label == "b" for one in subset(task, 200, seed)) for seed in range(20)]
    assert sum(shares) / 20 == pytest.approx(20, abs=4) and len(set(shares)) > 3
