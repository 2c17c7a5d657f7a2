import pytest
from transformers import BertConfig, BertModel

from wellread import recipe
from wellread.errors import RecipeError
from wellread.models import presets
from wellread.settings import ModelSettings
from wellread.sparsity import flops

# Millions of parameters of the bare encoder with its pooler, vocabulary 30,522, 512 positions.
PUBLISHED = {
    2: (4.4, 9.6, 22.5, 38.6),
    4: (4.8, 11.2, 28.8, 52.8),
    6: (5.2, 12.7, 35.1, 67.0),
    8: (5.6, 14.3, 41.4, 81.1),
    12: (6.4, 17.5, 54.0, 109.5),
}
VOCAB = 30_522


def formula(layers, hidden):
    """Embeddings with their norm, layers, pooler."""
    tables = (VOCAB + 512 + 2) * hidden + 2 * hidden
    return tables + layers * (12 * hidden**2 + 13 * hidden) + hidden**2 + hidden


def test_there_are_24_miniatures_and_their_usual_names():
    assert sum(name.count("-") == 2 for name in presets.PRESETS) == 24
    same = {"tiny": "2-128", "mini": "4-256", "small": "4-512", "medium": "8-512", "base": "12-768"}
    for name, shape in same.items():
        assert presets.PRESETS[f"bert-{name}"] == presets.PRESETS[f"bert-{shape}"]


@pytest.mark.parametrize("layers", presets.MINIATURE_LAYERS)
@pytest.mark.parametrize("hidden", presets.MINIATURE_WIDTHS)
def test_parameters_of_the_miniatures(layers, hidden):
    settings = ModelSettings(preset=f"bert-{layers}-{hidden}")
    assert (settings.layout, settings.layers, settings.hidden) == ("bert", layers, hidden)
    assert settings.heads * 64 == hidden and settings.inner == 4 * hidden
    # Wellread counts the language model: a transform with its norm and a bias for each word, no pooler.
    transform = hidden**2 + 3 * hidden + VOCAB
    pooler = hidden**2 + hidden
    counted = flops.parameters(settings, VOCAB)["total"]
    assert counted == formula(layers, hidden) - pooler + transform
    if layers in PUBLISHED:
        published = PUBLISHED[layers][presets.MINIATURE_WIDTHS.index(hidden)]
        assert formula(layers, hidden) / 1e6 == pytest.approx(published, abs=0.051)


def test_the_formula_is_that_of_the_built_model():
    settings = ModelSettings(preset="bert-tiny")
    config = BertConfig(
        vocab_size=VOCAB,
        hidden_size=settings.hidden,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=settings.inner,
    )
    assert sum(weight.numel() for weight in BertModel(config).parameters()) == formula(2, 128)


def given(model, **rest):
    return recipe.parse({"name": "x", "corpus": {"sources": ["a"]}, "model": model, **rest})


def test_given_keys_win_and_the_name_is_no_part_of_the_model():
    filled = given({"preset": "bert-mini", "heads": 8, "ffn": 512}).model
    assert (
        filled.model_dump()
        == ModelSettings(layout="bert", layers=4, hidden=256, heads=8, ffn=512).model_dump()
    )
    assert ModelSettings(preset="bert-mini", layout="modernbert").inner == 704


def test_a_preset_of_a_variant_replaces_the_shape_of_model():
    variants = [{"name": "a"}, {"name": "b", "model": {"preset": "bert-tiny"}}]
    read = given({"layers": 3, "ffn": 100, "max_length": 64}, variants=variants)
    assert read.model_for("a").layers == 3
    assert read.model_for("b") == ModelSettings(preset="bert-tiny", max_length=64)
    over = given({"preset": "bert-mini"}, variants=[{"name": "c", "model": {"layers": 6}}])
    assert (over.model_for("c").layers, over.model_for("c").hidden) == (6, 256)


def test_an_unknown_preset_is_refused_with_the_nearest():
    with pytest.raises(RecipeError, match="did you mean `bert-4-256`") as error:
        given({"preset": "bert-4-265"})
    assert error.value.where == "recipe: model.preset"
    with pytest.raises(RecipeError, match="bert-tiny") as error:
        given({}, variants=[{"name": "b", "model": {"preset": "bert-tiney"}}])
    assert error.value.where == "variants.b.model: preset"
    with pytest.raises(RecipeError, match=r"miniatures\.md"):
        given({"preset": "zzz"})
