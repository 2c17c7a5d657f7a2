"""Order, names, winners: what the report claims of scores."""

from __future__ import annotations

import shutil
from dataclasses import replace

import fake_run
from hypothesis import given
from hypothesis import strategies as st

from wellread import files
from wellread.report import inference, results, words
from wellread.report.gather import gather
from wellread.report.results import Score
from wellread.report.weaknesses import weaknesses


def score(model: str, low: float, high: float, metric: str = "macro_f1", start: str = "rival") -> Score:
    middle = (low + high) / 2
    return Score(
        "t",
        metric,
        model,
        start,
        0.0,
        "none",
        100,
        (0, 1),
        0,
        middle,
        0.0,
        low,
        high,
        (low, high),
        {},
        None,
        None,
    )


edges = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted)


@given(st.lists(edges, min_size=2, max_size=6))
def test_a_winner_is_above_all_others_and_alone(intervals):
    groups = [score(str(place), *bounds) for place, bounds in enumerate(intervals)]
    marks = results.ranks(groups)
    best = [one for one in groups if marks.get(one.key) == "best"]
    assert len(best) <= 1
    for one in best:
        assert all(one.interval[0] > other.interval[1] for other in groups if other is not one)
        assert "tied" not in marks.values()
    top = max(one.mean for one in groups)
    assert all(
        results.compared(one, other) == -results.compared(other, one) for one in groups for other in groups
    )
    assert any(one.mean == top for one in groups if one.key in marks)


def test_lower_is_better_for_errors():
    small, large = score("a", 0.1, 0.2, "rmse"), score("b", 0.3, 0.4, "rmse")
    assert results.compared(small, large) == 1
    assert results.ranks([large, small]) == {small.key: "best"}


def test_no_interval_no_winner():
    groups = [replace(score("a", 0.1, 0.2), interval=None), score("b", 0.3, 0.4)]
    assert results.compared(*groups) is None
    assert results.ranks(groups) == {}


def test_touching_intervals_are_not_told_apart():
    assert results.compared(score("a", 0.1, 0.2), score("b", 0.2, 0.3)) == 0


def test_budgets_with_equally_many_labels_are_one(tmp_path):
    """A budget above the training set is "all" for the models, and may keep its number for the rivals."""
    run = fake_run.make(tmp_path / "run", tasks=("sentence-role",), budgets=(100, "all", 6120))
    groups = results.scores(gather(run))["sentence-role"]
    assert results.amounts(groups) == [100, 6120]
    assert len({one.key for one in results.at(groups, 6120)}) == len(results.at(groups, 6120))


def test_order_and_names(run):
    facts = gather(run)
    here = results.at(results.scores(facts)["sentence-role"], 100)
    assert [results.name(one, facts) for one in here] == [
        "sparse75",
        "dense",
        "no pre-training",
        "TF-IDF + logistic regression",
        "majority class",
    ]


def test_the_only_model_is_called_pre_trained(tmp_path):
    main = ("main", 0.75, "unstructured")
    run = fake_run.make(tmp_path / "run", variants=(main,), tasks=("sentence-role",))
    facts = gather(run)
    names = {results.name(one, facts) for one in results.scores(facts)["sentence-role"]}
    assert "main" not in names and "pre-trained" in names and facts.variants[0].title == "pre-trained"


def test_verdict_counts_every_comparison(run):
    facts = gather(run)
    tallies = words.tallies(facts)
    assert len(tallies) == 3 and all("of 9 comparisons" in line for line in tallies)
    assert "TF-IDF + logistic regression" in tallies[2] and "worse in 3" in tallies[2]


def test_better_pretraining_changes_the_verdict(tmp_path):
    facts = gather(fake_run.make(tmp_path / "run", tasks=("disease-category",), shift=0.2))
    outcomes = {name: outcome for name, _, _, outcome in words.task_verdicts(facts)[0].opponents}
    assert outcomes["TF-IDF + logistic regression"] == 1 and outcomes["no pre-training"] == 1
    assert "Rivals" not in weaknesses(facts) or not any(
        "better" in text for text in weaknesses(facts)["Rivals"]
    )


def test_weaknesses_state_what_the_facts_say(run):
    found = {heading: " ".join(statements) for heading, statements in weaknesses(gather(run)).items()}
    assert "disease-category: TF-IDF + logistic regression is better" in found["Rivals"]
    assert (
        "3 fine-tuning seeds" in found["Evidence"]
        and "1 of 3 seeds of no pre-training failed" in found["Evidence"]
    )
    assert "130 examples" in found["Evidence"]
    assert "16 classes" in found["Labels"] and "own structure" in found["Labels"]
    assert "1977 to 2021 (none of 1978 to 2017)" in found["Data"]
    assert "fewer accounted FLOPs" in found["Speed"] and "0.97× the tokens per second" in found["Speed"]
    assert "Leakage" not in found and "Calibration" not in found


def test_allowed_overlap_is_stated(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    files.write_json(
        copy / "stages" / "selection" / "leakage.json", {"overlapping_documents": 7, "allowed": True}
    )
    assert "7 documents" in weaknesses(gather(copy))["Leakage"][0]


def test_many_seeds_and_a_dense_model_are_no_weakness(tmp_path):
    run = fake_run.make(
        tmp_path / "run",
        variants=(("dense", 0.0, "unstructured"),),
        tasks=("sentence-role",),
        seeds=(0, 1, 2, 3, 4),
    )
    found = weaknesses(gather(run))
    assert "Speed" not in found
    assert not any("fine-tuning seed" in text for text in found["Evidence"])


def test_cost_stands_beside_each_score(tmp_path):
    run = fake_run.make(tmp_path / "run", tasks=("human-animal", "sentence-role"), budgets=(100, "all"))
    facts = gather(run)
    slow = {"tfidf": 0.5, "sparse75": 20.0, "dense": 40.0, "random": 20.0}
    for unit in facts.units:
        if unit["model"] in slow:
            unit["costs"] = {
                "seconds": 60.0 + unit["seed"],
                "seconds_per_1000": slow[unit["model"]] + unit["seed"],
                "peak_memory_bytes": 10**8 * (1 + unit["seed"]),
                "size_bytes": 10**6,
            }
    by_task = results.scores(facts)
    (main,) = [one for one in by_task["human-animal"] if one.key == ("sparse75", "pretrained")][-1:]
    known = inference.cost(facts, main)
    assert (known.seconds, known.per_1000, known.peak_bytes, known.size_bytes) == (
        61.0,
        21.0,
        3 * 10**8,
        10**6,
    )
    assert inference.cells(facts, main) == ["1 min 01 s", "21 s", "300 MB", "1 MB"]
    looks = results.styles(facts, [one for groups in by_task.values() for one in groups])
    figure = inference.picture(facts, by_task, looks)
    top = {task: groups[-1].labels for task, groups in by_task.items()}
    means = [
        one.mean
        for task, groups in by_task.items()
        for one in groups
        if one.key == main.key and one.labels == top[task]
    ]
    assert f"sparse75: {100 * sum(means) / 2:.1f} at 21 s" in figure.caption
    assert "majority" not in figure.caption
    missing = [
        unit for unit in facts.units if not (unit["model"] == "dense" and unit["task"] == "human-animal")
    ]
    part = inference.picture(replace(facts, units=missing), by_task, looks)
    assert "dense: " not in part.caption and "Not on every task, so not shown: dense." in part.caption
    assert inference.picture(replace(facts, units=[]), by_task, looks) is None


def test_what_an_earlier_recipe_left_is_not_told(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    assert gather(copy).summary and gather(copy).metrics
    left = copy / "stages" / "pretrain" / "removed"
    left.mkdir()
    files.write_json(left / "costs.json", {"seconds": 1000.0, "peak_memory_bytes": 1})
    files.write_manifest(left, stage="pretrain/removed")
    evaluated = copy / "stages" / "evaluate"
    (evaluated / files.MANIFEST).unlink()
    task = next(iter(gather(run).tasks))
    files.write_manifest(evaluated, stage="evaluate", inputs={f"tasks/{task}": "made anew since"})
    facts = gather(copy)
    assert not facts.summary and not facts.metrics
    assert {"pretrain/removed", "evaluate"}.isdisjoint(cost.stage for cost in facts.costs)
    assert f"tasks/{task}" in {artefact.stage for artefact in facts.artefacts}
