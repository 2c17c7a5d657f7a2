"""Recipes are strict, and each refusal says where and how to fix it."""

import pytest

from wellread import recipe, reference
from wellread.api import recipes_folder
from wellread.errors import RecipeError
from wellread.settings import CorpusSettings, FinetuneSettings, TaskSettings


def minimal(**changes):
    return {"name": "r", "corpus": {"sources": ["x"]}, **changes}


BAD = {
    "unknown key": ({"modle": {}}, "modle", "did you mean `model`"),
    "unknown nested key": ({"model": {"hiden": 3}}, "model.hiden", "did you mean `hidden`"),
    "key of an inner table": ({"pretrain": {"mask_rate": 0.3}}, "mask_rate", "did you mean `masking.rate`"),
    "unknown deep key": ({"pretrain": {"sparsity": {"lvl": 1}}}, "pretrain.sparsity.lvl", "did you mean"),
    "missing name": ({"name": None}, "name", ""),
    "bad name": ({"name": "../etc"}, "name", ""),
    "no sources": ({"corpus": {"sources": []}}, "corpus.sources", ""),
    "missing sources": ({"corpus": {}}, "corpus.sources", "required"),
    "heads": ({"model": {"hidden": 100, "heads": 3}}, "model", "must divide"),
    "odd head": ({"model": {"hidden": 9, "heads": 3}}, "model", "even"),
    "negative rate": ({"pretrain": {"learning_rate": -1}}, "pretrain.learning_rate", ""),
    "nan rate": ({"pretrain": {"learning_rate": float("nan")}}, "pretrain.learning_rate", ""),
    "sparsity of one": ({"pretrain": {"sparsity": {"level": 1.0}}}, "pretrain.sparsity.level", ""),
    "batch below length": (
        {"model": {"max_length": 512}, "pretrain": {"batch_tokens": 256}},
        "",
        "one sequence",
    ),
    "window wider than any text": (
        {"model": {"max_length": 128, "local_attention": 256}},
        "model.local_attention",
        "larger than model.max_length (128)",
    ),
    "window wider than a variant's texts": (
        {"model": {"local_attention": 128}, "variants": [{"name": "short", "model": {"max_length": 64}}]},
        "model.local_attention",
        "in short",
    ),
    "tokens and epochs": ({"pretrain": {"tokens": 5, "epochs": 1}}, "pretrain", "not both"),
    "task without source": ({"tasks": {"t": {}}}, "tasks.t", "derive"),
    "task with two sources": ({"tasks": {"t": {"derive": "review", "path": "x"}}}, "tasks.t", "derive"),
    "unknown derivation": ({"tasks": {"t": {"derive": "sentense"}}}, "tasks.t.derive", "sentence-role"),
    "bad budget": ({"tasks": {"t": {"path": "x", "budgets": [-1]}}}, "tasks.t.budgets", ""),
    "no seeds": ({"finetune": {"seeds": []}}, "finetune.seeds", ""),
    "checkpoint named as a variant": (
        {"checkpoints": [{"name": "main", "start": "minilm"}]},
        "",
        "given twice",
    ),
    "words without a tokenizer": ({"tokenizer": {"add_words": 10}}, "tokenizer", "needs `path`"),
    "variant twice": ({"variants": [{"name": "a"}, {"name": "a"}]}, "", "given twice"),
    "variant's unknown key": ({"variants": [{"name": "a", "model": {"hidn": 1}}]}, "hidn", "did you mean"),
    "task's unknown finetune key": (
        {"tasks": {"t": {"path": "x", "finetune": {"epoch": 1}}}},
        "epoch",
        "did you mean `epochs`",
    ),
    "objective that does not fit": ({"pretrain": {"objective": "clm"}}, "", "does not fit"),
    "pairs of documents beside what is of one": (
        {"pretrain": {"pairs": "nsp", "besides": {"contrastive": 1.0}}},
        "pretrain",
        "texts of two documents",
    ),
    "string for a table": ({"corpus": "x"}, "corpus", ""),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_recipes_are_refused_with_key_and_fix(case):
    changes, key, words = BAD[case]
    with pytest.raises(RecipeError) as caught:
        recipe.parse(minimal(**changes))
    assert key in caught.value.where
    assert words in str(caught.value)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("content", "where", "words"),
    [
        (b"name = \n", ":1", "TOML"),
        (b"a = 1\nb = [1,\n", "", "TOML"),
        ("name = 'caf\u00e9'".encode("latin-1"), ":1", "UTF-8"),
        (b"", "name", "required"),
        ("\ufeffname = 'r'\n[corpus]\nsources = ['x']\n".encode("utf-16"), "", "UTF-8"),
    ],
)
def test_bad_files_are_refused_with_line(tmp_path, content, where, words):
    path = tmp_path / "r.toml"
    path.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        recipe.load(path)
    assert where in caught.value.where
    assert words in str(caught.value)


def test_missing_file_and_byte_order_mark(tmp_path):
    with pytest.raises(RecipeError, match="no such recipe"):
        recipe.load(tmp_path / "none.toml")
    path = tmp_path / "bom.toml"
    path.write_bytes(b"\xef\xbb\xbfname = 'r'\n[corpus]\nsources = ['x']\n")
    assert recipe.load(path).name == "r"


def test_variants_change_only_what_they_name():
    settings = recipe.parse(
        minimal(
            pretrain={"learning_rate": 0.001, "sparsity": {"level": 0.5, "rescale": False}},
            variants=[{"name": "dense", "pretrain": {"sparsity": {"level": 0.0}}}, {"name": "as-is"}],
        )
    )
    assert settings.variant_names() == ("dense", "as-is")
    dense = settings.pretrain_for("dense")
    assert (dense.sparsity.level, dense.sparsity.rescale, dense.learning_rate) == (0.0, False, 0.001)
    assert settings.pretrain_for("as-is").sparsity.level == 0.5
    assert dense.objective == "mlm"


@pytest.mark.parametrize("path", sorted(recipes_folder().glob("*.toml")), ids=lambda path: path.stem)
def test_recipes_that_come_along_are_valid(path):
    assert recipe.load(path).name == path.stem


def test_every_key_is_documented_and_the_page_is_current():
    assert "None" not in reference.page()
    if reference.PAGE.exists():
        assert reference.PAGE.read_text("utf-8") == reference.page()


def test_the_reference_shows_tables_as_tables_and_the_kinds_of_fixed_lists():
    rows = {line.split("`")[1]: line for line in reference.page().splitlines() if line.startswith("| `")}
    assert "| table from text to text | `{}` |" in rows["words"]
    assert '| table from "token" or ' in rows["units"]
    assert " to number >= 0 | `{token = 1.0}` |" in rows["units"]
    assert "| list of [integer >= 1, number > 0 and <= 1] |" in rows["lengths"]


def test_a_checkpoints_settings_go_last():
    settings = recipe.parse(
        minimal(
            finetune={"learning_rate": 3e-3, "epochs": 4},
            tasks={"t": {"path": "t", "finetune": {"learning_rate": 1e-3, "batch": 8}}},
            checkpoints=[
                {"name": "general", "start": "minilm", "finetune": {"learning_rate": 1e-4}},
                {"name": "plain", "start": "/models/plain"},
            ],
        )
    )
    general, plain, own = (settings.finetune_for("t", name) for name in ("general", "plain", "main"))
    assert (general.learning_rate, general.batch, general.epochs) == (1e-4, 8, 4)
    assert plain == own and own.learning_rate == 1e-3
    assert settings.variant_names() == ("main",) and settings.checkpoint("main") is None


@pytest.mark.parametrize("table", [{"masking": {"units": {"span": 1}}}, {"pairs": "sop"}])
def test_decoders_mask_nothing(table):
    values = {"name": "r", "corpus": {"sources": ["x"]}, "model": {"layout": "llama"}, "pretrain": table}
    with pytest.raises(RecipeError, match=f"pretrain.{next(iter(table))} does not fit layout 'llama'"):
        recipe.parse(values)


def test_units_of_a_variant_replace_those_of_the_recipe():
    values = {
        "name": "r",
        "corpus": {"sources": ["x"]},
        "pretrain": {"masking": {"rate": 0.2, "units": {"token": 0.5, "span": 0.5}}},
        "variants": [{"name": "a"}, {"name": "b", "pretrain": {"masking": {"units": {"word": 1}}}}],
    }
    masking = recipe.parse(values).pretrain_for("b").masking
    assert masking.units == (("word", 1.0),) and masking.rate == 0.2


def test_a_window_is_held_against_the_length_only_where_it_is_written():
    assert recipe.parse(minimal(model={"max_length": 64})).model.local_attention == 128
    assert recipe.parse(minimal(model={"max_length": 64, "local_attention": 64}))
    assert recipe.parse(minimal(model={"layout": "bert", "max_length": 64, "local_attention": 128}))


def test_languages_are_understood_or_refused():
    assert CorpusSettings(sources=("a",), languages=("en", "German", "fra")).languages == (
        "eng",
        "ger",
        "fre",
    )
    with pytest.raises(ValueError, match="'xx' is no language code"):
        CorpusSettings(sources=("a",), languages=("xx",))


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"path": "p", "max_train": 100}, "`max_train` goes with `derive`"),
        ({"path": "p", "fold": 3}, "`fold` goes with `known`"),
        ({"derive": "review", "known": "gad"}, "`known` goes with `path`"),
        ({"path": "p", "budgets": (100, 100)}, "stands twice"),
    ],
)
def test_keys_of_a_task_that_would_do_nothing_are_refused(values, why):
    with pytest.raises(ValueError, match=why):
        TaskSettings(**values)


def test_seeds_stand_once():
    with pytest.raises(ValueError, match="stands twice"):
        FinetuneSettings(seeds=(0, 0))


def test_an_unknown_home_is_named(tmp_path):
    with pytest.raises(RecipeError, match="no home folder"):
        recipe.resolve("~nobody-of-that-name/x", tmp_path, "corpus.sources")
