"""Recipes that the command line changes: they begin elsewhere, and the copy says so."""

import shutil
import tomllib
from pathlib import Path

import pytest

import wellread
from synthetic import RECIPE
from wellread import files, given, recipe
from wellread.errors import ArtefactError, RecipeError
from wellread.serve.export import export

TEXT = RECIPE.format(epochs=1, checkpoint_seconds=60).encode()
MINI = "wellread-pubmed-mini"


def test_a_recipe_that_starts_from_a_model_pretrains_nothing_and_keeps_the_rest():
    before, changed = tomllib.loads(TEXT.decode()), given.start_from(TEXT, MINI, "tiny.toml")
    after = tomllib.loads(changed.decode())
    assert after["pretrain"] == {"tokens": 0, "batch_tokens": 512}
    assert after["tokenizer"] == {"path": MINI} and after["model"]["start"] == MINI
    assert (after["model"]["hidden"], after["model"]["max_length"]) == (256, 64)
    for key in set(before) - {"pretrain", "tokenizer", "model"}:
        assert after[key] == before[key]
    settings = recipe.parse(after)
    assert settings.pretrain_for("main").tokens == 0


def test_variants_cannot_start_elsewhere():
    text = TEXT + b'\n[[variants]]\nname = "dense"\n'
    with pytest.raises(RecipeError, match="variants") as caught:
        given.start_from(text, MINI, "tiny.toml")
    assert caught.value.where == "tiny.toml: variants"


def test_toml_reads_back_as_it_was():
    values = {
        "text": 'a "quote", a \\ and é\n',
        "odd key": [1, 2.5, True, "x"],
        "table": {"inner": {"deep": [1]}, "list": []},
        "rows": [{"name": "a", "change": {"x": 1e-5}}, {"name": "b"}],
    }
    assert tomllib.loads(given.to_toml(values)) == values


@pytest.mark.parametrize("change", ["", "\nsparsity = {level = 0.5}"])
def test_nothing_to_train_needs_a_start_and_no_sparsity(change):
    text = TEXT.decode().replace("epochs = 1\n", f"tokens = 0{change}\n", 1)
    text = text.replace("[pretrain.sparsity]\nlevel = 0.75\n", "")
    with pytest.raises(RecipeError, match="model.start" if not change else "sparse"):
        recipe.parse(tomllib.loads(text))


TABLES = {
    "no table": ('name = "r"\n[corpus]\nsources = ["x"]', None),
    "with keys": ('name = "r"\n[finetune]  # tuned\nepochs = 2\n\n[corpus]\nsources = ["x"]\n', 2),
    "last and empty": ('name = "r"\n[corpus]\nsources = ["x"]\n[finetune]', None),
    "named already": (
        'name = "r"\n[finetune]\nepochs = 2\nrecipe = "stable"\n[corpus]\nsources = ["x"]',
        2,
    ),
    "named elsewhere": (
        'name = "r"\n[finetune]\nepochs = 2\n[corpus]\nsources = ["x"]\n'
        '[[variants]]\nname = "a"\nfinetune = { recipe = "stable" }',
        2,
    ),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_named_recipe_of_finetuning_is_written_into_the_text(case, tmp_path):
    text, epochs = TABLES[case]
    path = tmp_path / "r.toml"
    path.write_bytes(given.name_finetune(text.encode(), "standard", "r.toml"))
    changed, stated = recipe.load(path), {"recipe"} | ({"epochs"} if epochs else set())
    assert changed.finetune.recipe == "standard"
    assert changed.finetune.model_fields_set == stated
    assert changed.finetune.epochs == epochs or epochs is None
    path.write_text(text)
    before = recipe.load(path)
    assert before.model_dump(exclude={"finetune"}) == changed.model_dump(exclude={"finetune"})


def test_a_table_that_cannot_be_added_to_is_refused():
    text = b'name = "r"\nfinetune = { epochs = 2 }\n[corpus]\nsources = ["x"]\n'
    with pytest.raises(RecipeError, match=r"r\.toml: --recipe cannot.*\n?.*put recipe"):
        given.name_finetune(text, "stable", "r.toml")


def test_changes_of_a_table_add_up_and_words_need_no_quotes():
    found = given.changes(("light.method=lora", "light.rank = 4", "learning_rate=3e-5", "head=mlm"))
    assert found == {"light": {"method": "lora", "rank": 4}, "learning_rate": 3e-5, "head": "mlm"}


@pytest.mark.parametrize("pair", ["learning_rate", "light method=lora", "=3"])
def test_a_change_that_is_none_is_refused(pair):
    with pytest.raises(RecipeError, match=r"KEY=VALUE|a key"):
        given.changes((pair,))


@pytest.mark.parametrize("pair", ["seeds=[7, 8]", 'starts=["random"]'])
def test_what_has_an_option_of_its_own_cannot_be_set(pair):
    with pytest.raises(RecipeError, match="cannot be set here"):
        given.changes((pair,))


def test_a_damaged_model_of_a_run_is_refused_wherever_it_is_given(tmp_path):
    """Its hashes stand in the manifest of its stage."""
    stage = tmp_path / "run" / "stages" / "pretrain" / "main"
    known = Path(__file__).parents[1] / "models" / MINI
    shutil.copytree(known, stage / "model", ignore=shutil.ignore_patterns(files.MANIFEST))
    files.write_manifest(stage)
    assert given.checkpoint(stage / "model") == (stage / "model").resolve()
    weights = stage / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    for use in (given.checkpoint, wellread.load, lambda folder: export(folder, tmp_path / "out")):
        with pytest.raises(ArtefactError, match="damaged"):
            use(stage / "model")


def test_models_of_runs_have_the_names_of_their_runs():
    found = {
        "/x/bert": "bert",
        "/x/bert/model": "bert",
        "/runs/a/stages/pretrain/main/model": "a",
        "/runs/b/stages/pretrain/main/model": "b",
        "/runs/b/stages/pretrain/dense/model": "b-dense",
    }
    assert {path: given.model_name(Path(path)) for path in found} == found
    assert given.model_name(Path("/runs/a/stages/pretrain/main/model"), "mine") == "mine"
