"""The plan says what a recipe takes and what is wrong, and writes nothing."""

import json

import pytest
from transformers import BertConfig

from synthetic import write_tiny_run
from wellread.errors import DataError, RecipeError
from wellread.plan import examine as planning
from wellread.plan import probe, words
from wellread.settings import CorpusSettings


@pytest.mark.parametrize(
    ("name", "ratio", "parameters"),
    [
        ("medi-swift-302m", 2.03, 302e6),
        ("medi-swift-510m", 2.25, 510e6),
        ("medi-swift-1.2b", 2.535, 1.21e9),
    ],
)
def test_paper_scale_recipes_give_the_papers_ratio(name, ratio, parameters, monkeypatch):
    monkeypatch.delenv("WELLREAD_DATA", raising=False)
    found = planning.plan(name)
    (model,) = found["models"]
    assert model["full_length_ratio"] == pytest.approx(ratio, abs=0.006)
    assert model["parameters_without_embeddings"] == pytest.approx(parameters, rel=0.01)
    problem = found["problems"][0]  # the machine may be too small as well
    assert problem["where"] == "corpus.sources" and "WELLREAD_DATA" in problem["what"]
    assert found["time"] is None and found["memory"]["bytes"] > 4 * 4 * parameters


def test_a_plan_of_a_tiny_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(planning, "PROBE_SECONDS", 0.1)
    recipe = write_tiny_run(tmp_path / "data")
    found = planning.plan(str(recipe))
    assert found["problems"] == []
    assert found["corpus"]["documents"] == pytest.approx(240, rel=0.05)
    assert set(found["time"]["stages"]) >= {"corpus", "tokenizer", "tokens", "pretrain", "finetune"}
    assert found["models"][0]["flops"]["dense"] > found["models"][0]["flops"]["accounted"] > 0
    assert not (tmp_path / "runs").exists()
    assert "Fix" not in words.to_text(found)


def test_updates_that_would_never_come_are_a_problem(tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "PROBE_SECONDS", 0.1)
    recipe = write_tiny_run(tmp_path / "data")
    text = recipe.read_text()
    assert text.count("[pretrain.sparsity]") == 1
    recipe.write_text(
        text.replace("[pretrain.sparsity]", '[pretrain.sparsity]\ndynamic = "rigl"\nupdate_every = 9999')
    )
    found = planning.plan(str(recipe), tmp_path / "out")
    assert [problem["where"] for problem in found["problems"]] == ["pretrain.sparsity.update_every"]


def test_every_problem_is_found_at_once(tmp_path):
    recipe = write_tiny_run(tmp_path)
    text = recipe.read_text().replace("pubmed99n0001", "missing")
    recipe.write_text(text + '\n[tasks.mine]\npath = "nowhere"\n')
    found = planning.plan(str(recipe), tmp_path / "out")
    wheres = " ".join(problem["where"] for problem in found["problems"])
    assert "corpus.sources" in wheres and "nowhere" in wheres
    assert all(problem["fix"] for problem in found["problems"])
    assert "PROBLEM" in words.to_text(found)
    assert not (tmp_path / "out").exists()


def test_a_wrong_recipe_is_refused(tmp_path):
    (tmp_path / "r.toml").write_text("name = 'r'\n")
    with pytest.raises(RecipeError, match="corpus"):
        planning.plan(str(tmp_path / "r.toml"))


def test_sizes_are_written_for_people():
    assert [words.size(n) for n in (1500, 2.5e6, 3.2e9, 4e12)] == ["2 kB", "2.5 MB", "3.2 GB", "4.0 TB"]


@pytest.mark.parametrize(
    ("terms", "told"), [(None, "no file"), ("", "no term"), ("zyzzyva\nquux", "none of the 2 terms")]
)
def test_a_lexicon_that_does_not_fit_is_a_problem(terms, told, tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "PROBE_SECONDS", 0.1)
    recipe = write_tiny_run(tmp_path / "data")
    if terms is not None:
        (tmp_path / "data" / "terms.txt").write_text(terms)
    table = '[pretrain.masking]\nunits = { token = 0.5, lexicon = 0.5 }\nlexicon = "terms.txt"\n\n'
    text = recipe.read_text()
    assert text.count("[pretrain.sparsity]") == 1
    recipe.write_text(text.replace("[pretrain.sparsity]", table + "[pretrain.sparsity]"))
    (problem,) = planning.plan(str(recipe), tmp_path / "out")["problems"]
    assert problem["where"].startswith("pretrain.masking.lexicon") and told in problem["what"]
    assert problem["fix"]


def test_inputs_longer_than_a_models_positions_are_a_problem(tmp_path):
    recipe = write_tiny_run(tmp_path)
    text = recipe.read_text().replace("pubmed99n0001", "missing")  # so that nothing is measured
    assert text.count("[finetune]\n") == 1
    text = text.replace("[finetune]\n", "[finetune]\nmax_length = 65\n")
    other = '[[checkpoints]]\nname = "other"\nstart = "other"\nfinetune = { max_length = 41 }\n'
    recipe.write_text(f"{text}\n{other}")
    BertConfig(max_position_embeddings=40).save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").touch()
    problems = planning.plan(str(recipe), tmp_path / "out")["problems"]
    found = {one["what"]: one["fix"] for one in problems if one["where"] == "finetune.max_length"}
    assert list(found) == [
        "main: the model takes at most 64 tokens (got 65)",
        "other: the model takes at most 40 tokens (got 41)",
    ]
    assert ["raise model.max_length" in fix for fix in found.values()] == [True, False]
    assert ["wellread extend" in fix for fix in found.values()] == [False, True]


def test_a_sample_of_what_cannot_be_cut(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [" ".join(f"w{number}x{place}" for place in range(900)) for number in range(400)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", compression="none")
    long = {"text": "word " * 300_000}
    (tmp_path / "b.jsonl").write_text("\n".join(json.dumps(long) for _ in range(3)))
    (tmp_path / "scratch").mkdir()
    for name in ("a.parquet", "b.jsonl"):
        path = tmp_path / name
        assert path.stat().st_size > probe.PIECE_BYTES
        found = probe.sample(CorpusSettings(sources=(name,)), [path], tmp_path / "scratch")
        assert found.read and len(found.documents) == found.read
        assert 0.5 < found.total / {"a.parquet": 400, "b.jsonl": 3}[name] < 2
    (tmp_path / "c.jsonl").write_text("\n".join(json.dumps({"body": "x" * 2000}) for _ in range(900)))
    with pytest.raises(DataError, match="no key 'text'"):
        probe.sample(CorpusSettings(sources=("c",)), [tmp_path / "c.jsonl"], tmp_path / "scratch")
    (tmp_path / "d.jsonl").write_text(json.dumps({"body": "x"}))
    with pytest.raises(DataError) as error:
        probe.sample(CorpusSettings(sources=("d",)), [tmp_path / "d.jsonl"], tmp_path / "scratch")
    assert error.value.where == f"{tmp_path / 'd.jsonl'}:1"
    assert (tmp_path / "d.jsonl").exists()
