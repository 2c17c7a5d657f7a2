"""Teachers and texts that do not fit are refused by the plan, with the key, the cause and the cure."""

from types import SimpleNamespace

import pytest

from synthetic import write_tiny_run
from wellread import recipe as recipes
from wellread.errors import RecipeError
from wellread.models import build
from wellread.pipeline.context import Context
from wellread.pipeline.finetuning import finetune_stages
from wellread.plan import checks, examine
from wellread.settings import ModelSettings, TokenizerSettings
from wellread.tokens import tokenizer


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A small encoder of 32 positions with a tokenizer of its own."""
    folder = tmp_path_factory.mktemp("teacher")
    made = TokenizerSettings(vocab_size=300, min_frequency=1)
    tokenizer.train(["some words of a text"] * 9, made, folder, causal=False, max_length=32, quiet=True)
    loaded = tokenizer.load(folder)
    shape = ModelSettings(layers=1, hidden=16, heads=2, max_length=32)
    build.save(build.build(shape, loaded, "mlm", 0), loaded, folder)
    return folder


def problems(tmp_path, added, **model):
    recipe = write_tiny_run(tmp_path)
    settings = recipes.load(recipe)
    changes = {"model": {**settings.model.model_dump(), **model}} if model else {}
    text = recipe.read_text()
    assert "[pretrain.teacher]" not in text
    settings = recipes.parse(
        {**settings.model_dump(exclude_unset=True), **changes}
        | {"pretrain": {**_pretrain(settings), **added}}
    )
    findings = checks.Findings()
    checks.check_models(settings, recipe.parent, findings)
    return findings.problems


def _pretrain(settings):
    return settings.pretrain.model_dump(exclude_unset=True)


def test_a_teacher_with_another_tokenizer_is_refused(tmp_path, teacher):
    (found,) = problems(tmp_path, {"teacher": {"path": str(teacher)}}, max_length=32)
    assert found["where"] == "pretrain.teacher.path"
    assert "tokenizer" in found["what"] and "tokenizer.path" in found["fix"]


def test_a_teacher_that_reads_less_is_refused(tmp_path, teacher):
    (found,) = problems(tmp_path, {"teacher": {"path": str(teacher)}}, max_length=64)
    assert found["where"] == "pretrain.teacher.path"
    assert "32 tokens at most" in found["what"]


def parse(**tables):
    return recipes.parse({"name": "x", "corpus": {"sources": ["a"]}, **tables})


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"pretrain": {"continual": {"replay": 0.2}}}, "needs `general`"),
        ({"pretrain": {"continual": {"general": "wiki"}}}, r"add \[texts.wiki\]"),
        ({"pretrain": {"continual": {"reference": "wiki"}}}, "subset below 1"),
        (
            {
                "texts": {"wiki": {"sources": ["b"]}},
                "pretrain": {"continual": {"general": "wiki", "max_rise": 0.1}},
            },
            "set model.start",
        ),
        (
            {
                "texts": {"wiki": {"sources": ["b"], "validation": 0.0}},
                "pretrain": {"continual": {"general": "wiki"}},
            },
            "validated on",
        ),
        ({"pretrain": {"teacher": {"path": "t", "keep": 0.5}, "continual": {}}}, "choose one"),
        ({"pretrain": {"teacher": {"path": "variants.none"}}}, "there is no variant 'none'"),
        ({"variants": [{"name": "a", "pretrain": {"teacher": {"path": "variants.a"}}}]}, "would need itself"),
        ({"corpus": {"sources": ["a"], "keep_layout": True}}, "WordPiece drops"),
    ],
)
def test_bad_settings_name_their_key(tables, words):
    with pytest.raises(RecipeError, match=words):
        parse(**tables)


def test_a_variant_that_teaches_is_trained_before():
    variants = [
        {"name": "large", "pretrain": {"teacher": {"path": "variants.small", "share": 0.3}}},
        {"name": "small", "model": {"layers": 1}},
    ]
    settings = parse(variants=variants)
    assert settings.forebears("large") == ["small"]
    assert settings.forebears("small") == []


def test_a_missing_text_is_told_by_its_own_key(tmp_path):
    settings = parse(texts={"wiki": {"sources": ["nowhere.txt"]}})
    findings = checks.Findings()
    checks.check_texts(settings, tmp_path, findings)
    assert findings.problems[0]["where"] == "texts.wiki.sources"


def test_a_corpus_without_a_held_out_part_beside_a_general_text_is_told_of(tmp_path):
    (tmp_path / "b.txt").write_text("text")
    tables = {"texts": {"wiki": {"sources": ["b.txt"]}}, "pretrain": {"continual": {"general": "wiki"}}}
    found = []
    for share in (0.0, 0.1):
        findings = checks.Findings()
        settings = parse(corpus={"sources": ["a"], "validation": share}, **tables)
        checks.check_texts(settings, tmp_path, findings)
        found.append([one["where"] for one in findings.problems])
    assert found == [["corpus.validation"], []]


def test_what_a_checkpoint_has_and_the_recipe_leaves_out_is_counted(tmp_path, teacher):
    loaded = tokenizer.load(teacher)
    shape = ModelSettings(layers=1, hidden=16, heads=2, ffn=80, local_attention=16, max_length=32)
    build.save(build.build(shape, loaded, "mlm", 0), loaded, tmp_path / "model")
    model = {"layers": 1, "hidden": 16, "heads": 2, "max_length": 32}
    variants = [
        {"name": "second", "model": {"start": "variants.first"}},
        {"name": "first", "model": {"start": "model"}},
        {"name": "fresh"},
        {"name": "absent", "model": {"start": "nowhere"}},
    ]
    settings = checks.settle(parse(model=model, variants=variants), tmp_path)
    found = {name: settings.model_for(name) for name in settings.variant_names()}
    assert [found[name].inner for name in found] == [80, 80, 64, 64]
    assert [found[name].local_attention for name in found] == [16, 16, 128, 128]
    findings = checks.Findings()
    checks.check_models(settings, tmp_path, findings)
    assert [problem["what"] for problem in findings.problems] == ["no such model folder"]
    # Without pre-training, too, it is the same architecture.
    task = {"path": "labels", "budgets": ["all"]}
    context = Context(parse(model={**model, "start": "model"}, tasks={"a": task}), tmp_path, tmp_path / "run")
    [random] = [stage for stage in finetune_stages(context) if stage.settings["start"] == "random"]
    assert (random.settings["model"]["ffn"], random.settings["model"]["local_attention"]) == (80, 16)


def test_a_teacher_that_could_not_be_tried_has_no_cost():
    """Its problem stands in the plan already; the variants that could be tried are still told of."""
    variants = [
        {"name": "large", "pretrain": {"teacher": {"path": "variants.small"}}},
        {"name": "small", "model": {"layers": 1}},
    ]
    findings = checks.Findings()
    tried = SimpleNamespace(flops={"accounted": 1e12})
    examine._add_origins(parse(variants=variants), {"large": tried}, findings)
    assert findings.notes == []
    examine._add_origins(parse(variants=variants), {"large": tried, "small": tried}, findings)
    assert findings.notes == ["large: 1e+12 FLOPs were spent before on small, and come on top"]
