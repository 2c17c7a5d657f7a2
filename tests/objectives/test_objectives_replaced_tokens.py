from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from wellread.errors import RecipeError
from wellread.models import packed
from wellread.models.build import build
from wellread.objectives import mlm, replaced_tokens
from wellread.objectives.replaced_tokens import detection, draw, replaced, share_embeddings, small
from wellread.settings import ModelSettings
from wellread.sparsity.flops import step_flops
from wellread.tokens.batch import pack

VOCAB = 40


class Tokenizer:
    """Only what a configuration needs."""

    pad_token_id, bos_token_id, eos_token_id, cls_token_id, sep_token_id = 0, None, None, 1, 2

    def __len__(self):
        return VOCAB


def shape(layout="modernbert", **changes):
    return ModelSettings(
        **({"layout": layout, "layers": 3, "hidden": 16, "heads": 2, "max_length": 32} | changes)
    )


def text(samples=(4, 5)):
    generator = torch.Generator().manual_seed(samples[0])
    rows = [[1, *torch.randint(4, VOCAB, (n,), generator=generator).tolist(), 2] for n in (9, 14)]
    return pack(rows, [[-1, *range(len(row) - 2), -1] for row in rows], list(samples))


def test_the_extra_passes_are_counted_and_the_generator_is_dense():
    settings = shape(max_length=100)
    dense, accounted = replaced_tokens.passes(settings, VOCAB, 0.3, 0.75)
    whole, sparse = step_flops(settings, VOCAB, [100], 30, 0.75)
    generator = step_flops(small(settings), VOCAB, [100], 30, 0.0)[0]
    head = whole - step_flops(settings, VOCAB, [100], 0, 0.0)[0]
    assert dense == pytest.approx(1 + (generator - head) / whole)
    assert accounted == pytest.approx(1 + (generator - head) / sparse)


def test_a_draw_is_the_inverse_of_the_summed_probabilities():
    logits = torch.tensor([[0.0, 1.0, -2.0, 0.5]]).expand(100_000, 4)
    uniform = torch.linspace(0, 1, 100_001, dtype=torch.float64)[:-1]
    shares = torch.bincount(draw(logits, uniform), minlength=4) / 100_000
    torch.testing.assert_close(shares, logits[0].softmax(-1), atol=2e-5, rtol=0)


def test_only_masked_places_change_and_the_draw_is_the_same_in_any_company():
    generator = packed.enable(build(shape(), Tokenizer(), "mlm", 0)).eval()

    def made(batch, positions, epoch=0):
        asked = mlm.predict(batch, torch.tensor(positions), 3)
        states = packed.hidden_states(generator, asked.inputs)
        return replaced(generator, states, batch, asked, 0, epoch).input_ids

    batch = text()
    found = made(batch, [2, 5, 12, 20])
    changed = (found != batch.input_ids).nonzero()[:, 0].tolist()
    assert changed and set(changed) <= {2, 5, 12, 20}
    second = pack([batch.input_ids[11:].tolist()], [batch.word_ids[11:].tolist()], [5])
    assert torch.equal(made(second, [1, 9]), found[11:])
    assert not torch.equal(made(batch, [2, 5, 12, 20], epoch=1), found)


def test_detection_is_the_sum_over_the_text_and_a_token_drawn_again_is_the_authors():
    original = text()
    ids = original.input_ids.clone()
    ids[3] += 1
    made = SimpleNamespace(input_ids=ids)
    logits = torch.randn(len(ids))
    answers = torch.zeros(len(ids))
    answers[3] = 1
    inside = original.word_ids >= 0
    expected = F.binary_cross_entropy_with_logits(logits[inside], answers[inside], reduction="sum")
    torch.testing.assert_close(detection(logits, made, original), expected)


@pytest.mark.parametrize("layout", ["modernbert", "bert"])
def test_the_generator_is_small_and_shares_the_embeddings(layout):
    settings = shape(layout)
    model = build(settings, Tokenizer(), "mlm", 0)
    before = sum(parameter.numel() for parameter in model.parameters())
    generator = build(small(settings), Tokenizer(), "mlm", 1)
    assert small(settings).layers == 1
    share_embeddings(generator, model)
    model.auxiliary = nn.ModuleDict({"generator": generator})
    added = sum(parameter.numel() for parameter in model.parameters()) - before
    assert 0 < added < before / 2
    table = model.get_input_embeddings().weight
    assert generator.get_input_embeddings().weight is table
    assert generator.get_output_embeddings().weight is table


def test_decoders_are_refused():
    with pytest.raises(RecipeError, match="hides no tokens") as found:
        replaced_tokens.auxiliary(50.0, shape("llama"), Tokenizer(), 0.3, 0)
    assert found.value.where == "pretrain.besides.replaced-tokens"


def test_a_vocabulary_that_was_padded_is_shared_whole():
    model = build(shape(), Tokenizer(), "mlm", 0)
    generator = build(small(shape()), Tokenizer(), "mlm", 1)
    model.resize_token_embeddings(VOCAB + 8, mean_resizing=False)
    share_embeddings(generator, model)
    states = torch.randn(3, 16)
    assert generator.get_output_embeddings()(states).shape == (3, VOCAB + 8)
    assert generator.get_output_embeddings().weight is model.get_input_embeddings().weight
