"""Sub-models share the head, train their top layers only, and are drawn by the step's number."""

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from wellread.models import build
from wellread.schedules import submodels
from wellread.settings import ModelSettings, PretrainSettings


@pytest.fixture(scope="module")
def word_tokenizer():
    """Twenty words, special ones among them."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(15))]
    vocabulary = {word: number for number, word in enumerate(words)}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    names = ("pad", "unk", "cls", "sep", "mask")
    return PreTrainedTokenizerFast(
        tokenizer_object=core, **{f"{name}_token": f"[{name.upper()}]" for name in names}
    )


SETTINGS = PretrainSettings(submodels=2, submodel_share=0.5)


def test_which_submodel_a_step_trains():
    drawn = [submodels.layers(SETTINGS, 5, step, 400, seed=0) for step in range(400)]
    assert drawn[200:] == [None] * 200  # then all is trained
    assert all(60 > drawn[:200].count(depth) / 200 * 100 > 15 for depth in (2, 4, 5))
    assert {*drawn[:200]} == {2, 4, 5}
    assert submodels.layers(PretrainSettings(), 5, 0, 400, 0) is None


@pytest.mark.parametrize("layout", ["modernbert", "bert", "llama", "gpt2"])
def test_only_the_top_layers_and_the_head_learn(layout, word_tokenizer):
    settings = ModelSettings(layout=layout, layers=5, hidden=16, heads=2, max_length=16)
    model = build.build(settings, word_tokenizer, "clm" if settings.causal else "mlm", 0)
    whole = {name for name, _ in model.named_parameters()}
    ids = torch.arange(5, 15)[None]
    for depth, learning in ((2, {0, 1}), (4, {2, 3}), (5, {3, 4})):
        model.zero_grad(set_to_none=True)
        with submodels.only(model, depth, 2):
            model(input_ids=ids, labels=ids).loss.backward()
        moved = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
        layers = {int(part) for name in moved for part in name.split(".") if part.isdigit()}
        assert layers == learning
        # The table is the output layer too, so it always learns; what else is below only with the lowest.
        table = "wpe" if layout == "gpt2" else "embeddings."
        others = [name for name in moved if table in name and "word" not in name and "tok_emb" not in name]
        assert bool(others) == (depth == 2 and layout != "llama")
    assert {name for name, _ in model.named_parameters()} == whole


def test_a_submodel_computes_what_a_shallower_model_does(word_tokenizer):
    settings = ModelSettings(layout="bert", layers=4, hidden=16, heads=2, max_length=16)
    model = build.build(settings, word_tokenizer, "mlm", 0).eval()
    small = build.build(settings.model_copy(update={"layers": 2}), word_tokenizer, "mlm", 1).eval()
    small.load_state_dict({name: model.state_dict()[name] for name in small.state_dict()})
    ids = torch.arange(5, 15)[None]
    with torch.no_grad(), submodels.only(model, 2, 2):
        assert torch.equal(model(input_ids=ids).logits, small(input_ids=ids).logits)


def test_flops_count_what_runs_forwards_and_backwards():
    shape = ModelSettings(layers=6)
    costs = lambda one: (3.0 * one.layers + 3.0, 3.0 * one.layers)  # noqa: E731
    assert submodels.flops(costs, shape, None, 2) == (21.0, 18.0)
    # forwards 4 layers and head, backwards 2 layers and head, which costs twice as much
    assert submodels.flops(costs, shape, 4, 2) == pytest.approx((5 + 2 * 3, 4 + 2 * 2))
    each = [(2 + 1 + 6), (4 + 1 + 6), (6 + 1 + 6)]
    average = submodels.cost(SETTINGS, shape, lambda one: costs(one)[0])
    assert average == pytest.approx(0.5 * sum(each) / 3 / 21 + 0.5)
