"""A recipe with a model made elsewhere: as a start with more vocabulary and a new head, and beside ours."""

from __future__ import annotations

from pathlib import Path

import pytest

import wellread
from synthetic import write_tiny_run
from wellread import files
from wellread.models import build
from wellread.plan import examine as plan
from wellread.settings import ModelSettings, TokenizerSettings
from wellread.tokens import tokenizer as tokenizers

CHANGES = """
[tokenizer]
path = "general"
add_words = 5
[model]
start = "general"
start_vocabulary = "mean"
layout = "bert"
layers = 1
hidden = 32
heads = 2
max_length = 64
[pretrain]
tokens = 3000
batch_tokens = 512
[tasks.human]
derive = "human-animal"
max_train = 60
max_eval = 40
[finetune]
seeds = [0, 1]
starts = ["pretrained"]
max_steps = 6
min_steps = 1
evaluations = 1
[[checkpoints]]
name = "general"
start = "general"
finetune = { max_steps = 4 }
[evaluate]
rivals = ["majority", "tfidf", "static"]
bootstrap = 20
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe, and beside it a headless BERT with a tokenizer of its own."""
    folder = tmp_path_factory.mktemp("adapt")
    path = write_tiny_run(folder)
    head = path.read_text().split("[tokenizer]")[0]
    path.write_text(head + CHANGES)
    (folder / "general").mkdir()
    tokenizer = tokenizers.train(
        ["patients with hypertension were treated in the study of the group " * 3],
        TokenizerSettings(vocab_size=300, min_frequency=1),
        folder / "general",
        causal=False,
        max_length=64,
        quiet=True,
    )
    shape = ModelSettings(layout="bert", layers=1, hidden=32, heads=2, max_length=64)
    build.save(build.build(shape, tokenizer, "mlm", 0).base_model, tokenizer, folder / "general")
    return path


def test_the_plan_has_no_problem(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "PROBE_SECONDS", 0.1)
    found = plan.plan(str(recipe), recipe.parent / "nowhere")
    assert found["problems"] == []
    text = recipe.read_text()
    wrong = recipe.with_name("wrong.toml")
    wrong.write_text(
        text.replace("layers = 1", "layers = 3").replace('start = "general"\nf', 'start = "no"\nf')
    )
    where = {problem["where"] for problem in plan.plan(str(wrong), recipe.parent / "nowhere")["problems"]}
    assert "model.layers" in where and any(place.endswith("/no") for place in where)


def test_it_is_one_more_row(recipe: Path) -> None:
    run = wellread.run(recipe, out=recipe.parent / "run", quiet=True)
    groups = {(one["model"], one["start"]): one for one in run.summary["tasks"]["human"]["groups"]}
    assert set(groups) == {
        ("main", "pretrained"),
        ("general", "pretrained"),
        *((name, "rival") for name in ("majority", "tfidf", "static")),
    }
    assert groups["general", "pretrained"]["seeds"] == [0, 1]
    assert groups["general", "pretrained"]["interval"] is not None
    # Each with its own tokenizer.
    size = len(tokenizers.load(recipe.parent / "general"))
    assert len(tokenizers.load(run.model("human", "general"))) == size
    assert len(tokenizers.load(run.model("human"))) == size + 5
    page = run.report.read_text()
    assert ">general<" in page and "static vectors" in page and "seconds for 1,000 texts" in page
    units = run.folder / "stages" / "finetune" / "human" / "general" / "units"
    costs = files.read_json(units / "pretrained-all-0" / "costs.json")
    assert set(costs) == {"seconds", "peak_memory_bytes", "seconds_per_1000", "size_bytes"}
    assert run.verify() == []
    assert wellread.run(recipe, out=recipe.parent / "run", quiet=True).summary == run.summary
