"""The model card and the comparison of runs."""

from __future__ import annotations

import dataclasses
import json
import shutil
from statistics import mean, stdev

import fake_run
import pytest
import yaml

from wellread import files
from wellread.errors import UserError
from wellread.report import card, compare, numbers
from wellread.report.gather import gather
from wellread.settings import CheckpointSettings


@pytest.fixture(scope="module")
def better(tmp_path_factory):
    return fake_run.make(tmp_path_factory.mktemp("other") / "better", shift=0.05)


def front(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


def test_card_has_front_matter_and_the_real_numbers(run, tmp_path):
    card.write(run, tmp_path)
    text = (tmp_path / "model_card.md").read_text("utf-8")
    known = front(text)
    assert (
        known["language"] == ["en"]
        and known["pipeline_tag"] == "fill-mask"
        and known["metrics"] == ["macro_f1"]
    )
    summary = files.read_json(run / "stages" / "evaluate" / "summary.json")["tasks"]
    listed = {
        one["dataset"]["name"]: one["metrics"][0]["value"] for one in known["model-index"][0]["results"]
    }
    for task, entry in summary.items():
        assert listed[task] == entry["groups"][-5]["mean"]
        for group in entry["groups"]:
            shown = (
                numbers.score(group["mean"], entry["metric"]),
                numbers.interval(group["interval"], entry["metric"]),
            )
            assert " ".join(shown) in text
    for heading in (
        "Intended use",
        "How to load it",
        "Data",
        "Training",
        "Evaluation",
        "Limitations",
        "Provenance",
    ):
        assert f"\n## {heading}\n" in text


def test_card_of_a_task(run):
    text = card.card(gather(run), "human-animal")
    assert front(text)["pipeline_tag"] == "text-classification"
    assert "AutoModelForSequenceClassification" in text and "sentence-role |" not in text
    assert "animal, human" in text
    with pytest.raises(UserError, match="no scores of a task"):
        card.card(gather(run), "nothing")


def test_card_code_compiles(run):
    for task in (None, "human-animal"):
        code = card.card(gather(run), task).split("```python\n")[1].split("```")[0]
        compile(code, "card", "exec")


def test_card_without_tasks_and_with_hostile_names(tmp_path):
    text = card.card(gather(fake_run.make(tmp_path / "a", tasks=())))
    assert "## Evaluation" not in text and front(text)["model-index"][0]["results"] == []
    run = fake_run.make(
        tmp_path / "b", tasks=("sentence-role",), labels={"sentence-role": ["<b>|x", "y: [", "z"]}
    )
    text = card.card(gather(run), "sentence-role")
    assert "<b>" not in text
    front(text)


def test_card_is_the_same_every_time(run):
    assert card.card(gather(run)) == card.card(gather(run))


def test_compare_pairs_equal_seeds(run, better):
    table = compare.compare([run, better])
    row = next(
        r for r in table["rows"] if (r["task"], r["labels"], r["model"]) == ("sentence-role", 500, "dense")
    )

    def values(folder):
        records = files.read_json(folder / "stages" / "evaluate" / "metrics.json")
        wanted = ("sentence-role", 500, "dense")
        return {r["seed"]: r["value"] for r in records if (r["task"], r["labels"], r["model"]) == wanted}

    left, right = values(run), values(better)
    differences = [right[seed] - left[seed] for seed in left]
    (told,) = row["differences"]
    assert told["pairs"] == 3 and told["mean"] == pytest.approx(mean(differences))
    half = 4.302653 * stdev(differences) / 3**0.5  # Student's t, 2 degrees of freedom
    assert told["interval"] == pytest.approx([mean(differences) - half, mean(differences) + half])
    assert row["cells"][1]["mean"] - row["cells"][0]["mean"] == pytest.approx(0.05)


def test_compare_prints_and_dumps(run, better):
    table = compare.compare([run, better])
    json.dumps(table, allow_nan=False)
    heads, body = compare.rows(table)
    assert heads[3:] == ["quick", "better", "better − quick"]
    assert all(len(row) == len(heads) for row in body) and len(body) == 45
    text = compare.to_text(table)
    assert "+5.0" in text and not any(line != line.rstrip() for line in text.splitlines())


def test_compare_with_itself_differs_by_nothing(run):
    for row in compare.compare([run, run])["rows"]:
        assert row["differences"][0]["mean"] == 0 and row["cells"][0] == row["cells"][1]


def test_other_test_sets_are_not_paired(run, better, tmp_path):
    copy = tmp_path / "changed"
    shutil.copytree(better, copy)
    with open(copy / "stages" / "tasks" / "human-animal" / "test.jsonl", "a") as stream:
        stream.write('{"id": "new", "text": "words", "label": "human"}\n')
    table = compare.compare([run, copy])
    rows = {row["task"]: row["differences"] for row in table["rows"]}
    assert rows["human-animal"] == [None] and rows["sentence-role"] != [None]
    assert any(note.startswith("human-animal: the test sets differ") for note in table["notes"])


def test_tasks_of_one_run_only_have_empty_cells(run, tmp_path):
    small = fake_run.make(tmp_path / "small", tasks=("sentence-role",), seeds=(7,))
    table = compare.compare([small, run])
    row = next(row for row in table["rows"] if row["task"] == "human-animal")
    assert row["cells"][0] is None and row["differences"] == [None]
    row = next(row for row in table["rows"] if row["task"] == "sentence-role")
    assert row["differences"] == [None]  # no seed in common
    compare.to_text(table)


def test_one_run_is_not_compared(run):
    with pytest.raises(UserError, match="two runs"):
        compare.compare([run])


def test_runs_of_the_same_name_are_told_apart(run, tmp_path):
    copy = tmp_path / "again" / run.name
    shutil.copytree(run, copy)
    first, second = compare.compare([run, copy])["runs"]
    assert first != second and second == "again/quick"


def test_compared_runs_are_told_with_what_they_took(run, better):
    """Tokens, steps and batch agree; money is the price of the hours."""
    table = compare.compare([run, better], price=3.6)
    facts = gather(run)
    for bill, variant in zip(table["costs"][table["runs"][0]], facts.variants, strict=True):
        assert bill["model"] == variant.name
        assert bill["steps"] * bill["batch_tokens"] == pytest.approx(bill["tokens"])
        assert bill["tokens"] == variant.facts["tokens"]
        assert bill["money"] == pytest.approx(variant.timing[-1]["seconds"] / 1000)
    assert "per parameter" in compare.to_text(table)
    assert all(bill["money"] is None for bill in compare.compare([run, better])["costs"][table["runs"][0]])


def test_card_of_another_variant_and_of_a_checkpoint(run):
    facts = gather(run)
    other = facts.variants[1]
    text = card.card(facts, "human-animal", other.name)
    assert f"stages/finetune/human-animal/{other.name}/model" in text
    assert f"Read: {numbers.whole(other.facts['tokens'])} tokens" in text
    assert front(text)["tags"] == ["wellread", *(["sparse-pretraining"] if other.sparse else [])]
    assert "## Fine-tuning" in text
    known = CheckpointSettings(name="bert", start="bert")
    facts = dataclasses.replace(facts, recipe=facts.recipe.model_copy(update={"checkpoints": (known,)}))
    checkpoint = card.card(facts, "human-animal", "bert")
    assert "The checkpoint bert, fine-tuned." in checkpoint
    assert "## Data" not in checkpoint and "## Training" not in checkpoint
    assert front(checkpoint)["model-index"][0]["results"] == []


def test_card_of_a_head_that_transformers_lacks(run):
    text = card.card(gather(run), "human-animal", head="similarity")
    assert "wellread predict" in text and "pipeline(" not in text


def test_seeds_that_tell_the_same_are_no_evidence():
    found = compare._paired({0: 0.70, 1: 0.70, 2: 0.70}, {0: 0.701, 1: 0.701, 2: 0.701})
    assert found["interval"] is None and found["mean"] == pytest.approx(0.001)
