"""The compact convolutional transformer: published sizes, and that padding changes nothing."""

import json

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from wellread.errors import ArtefactError
from wellread.models import build, cct, heads
from wellread.settings import TokenizerSettings
from wellread.tokens import tokenizer
from wellread.tokens.batch import pack


def tiny(kernel=2, **changes):
    return cct.make(cct.CctConfig(kernel=kernel, vocab_size=40, num_labels=3, **changes), seed=0).eval()


# Parameters without word vectors, four classes, in millions, for kernels 1, 2 and 4.
PUBLISHED = {
    "cct-2": (0.238, 0.276, 0.353),
    "cct-4": (0.436, 0.475, 0.551),
    "cct-6": (3.237, 3.313, 3.467),
}


@pytest.mark.parametrize("size", PUBLISHED)
@pytest.mark.parametrize("kernel", [1, 2, 4])
def test_parameters_and_positions_are_as_published(size, kernel):
    model = cct.make(cct.CctConfig(size=size, kernel=kernel, vocab_size=40, num_labels=4), seed=0)
    total = sum(weight.numel() for weight in model.parameters())
    counted = total - 40 * 300
    assert round(counted / 1e6, 3) == PUBLISHED[size][(1, 2, 4).index(kernel)]
    x, seen = model.tokenise(torch.zeros(1, 64, 300), torch.ones(1, 64, dtype=torch.bool))
    assert x.shape[1] == seen.shape[1] == {1: 34, 2: 33, 4: 33}[kernel]


@pytest.mark.parametrize("kernel", [1, 2, 4])
@pytest.mark.parametrize("length", [1, 2, 7, 8])
def test_padding_changes_nothing(kernel, length):
    model = tiny(kernel)
    ids = torch.randint(40, (2, length), generator=torch.Generator().manual_seed(length))
    alone = model.logits(ids, torch.ones(2, length, dtype=torch.bool))
    for more in (1, 5, 30):
        filler = torch.full((2, more), 17)
        real = torch.arange(length + more)[None].expand(2, -1) < length
        torch.testing.assert_close(
            model.logits(torch.cat([ids, filler], 1), real), alone, rtol=1e-5, atol=1e-6
        )


def test_a_packed_batch_is_each_sequence_alone():
    model, texts = tiny(4), [[3, 4, 5], [6], [7, 8, 9, 10, 11, 12, 13]]
    together = heads.sequence_logits(model, pack(texts))
    alone = torch.cat([model(pack([text])) for text in texts])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def test_pooling_with_zero_weights_is_the_mean_over_what_is_seen():
    model = tiny()
    torch.nn.init.zeros_(model.attention_pool.weight)
    x, seen = torch.randn(2, 5, 128), torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]).bool()
    pooled = model.pool(x, seen)
    torch.testing.assert_close(pooled, torch.stack([x[0, :3].mean(0), x[1].mean(0)]))


def test_pooling_by_the_formula():
    model = tiny()
    x = torch.randn(1, 4, 128)
    weights = F.softmax(x @ model.attention_pool.weight[0] + model.attention_pool.bias, dim=-1)
    expected = sum(weights[0, place] * x[0, place] for place in range(4))
    torch.testing.assert_close(model.pool(x, torch.ones(1, 4, dtype=torch.bool))[0], expected)


def test_a_block_goes_on_from_the_normalised_value():
    block = tiny().blocks[1]
    x, seen = torch.randn(2, 5, 128), torch.ones(2, 5, dtype=torch.bool)
    for layer in (block.output, block.narrow):  # both branches give nothing
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    torch.testing.assert_close(block(x, seen), block.after(x))


def test_attention_by_the_formula():
    block = tiny().blocks[0]
    x, seen = torch.randn(1, 4, 128), torch.tensor([[True, True, True, False]])
    query, key, value = (part.view(4, 2, 64) for part in block.qkv(x)[0].chunk(3, dim=-1))
    mixed = []
    for head in range(2):
        scores = query[:, head] @ key[:3, head].T / 8
        mixed.append(scores.softmax(-1) @ value[:3, head])
    torch.testing.assert_close(
        block._attend(x, seen)[0], block.output(torch.cat(mixed, -1)), rtol=1e-5, atol=1e-6
    )


def test_stochastic_depth_drops_whole_branches_and_keeps_the_mean():
    model = tiny().train()
    assert model.blocks[0].drop == 0 and model.blocks[1].drop == pytest.approx(0.1)
    branch = torch.ones(4000, 2, 3)
    with build.seeded(0):
        kept = model.blocks[1]._path(branch)
    assert kept.unique().tolist() == pytest.approx([0, 1 / 0.9])
    assert torch.equal(kept[:, 0, 0], kept[:, 1, 2])
    assert float(kept.mean()) == pytest.approx(1.0, abs=0.03)
    assert torch.equal(model.eval().blocks[1]._path(branch), branch)


@pytest.fixture
def saved(tmp_path):
    tokenizer.train(
        ["word or words"] * 3, TokenizerSettings(), tmp_path / "t", causal=False, max_length=64, quiet=True
    )
    pieces = tokenizer.load(tmp_path / "t")
    model = tiny()
    build.save(model, pieces, tmp_path / "model")
    return model, tmp_path / "model"


def test_saved_and_loaded_through_wellread_only(saved):
    model, folder = saved
    assert (folder / "model.safetensors").is_file()
    assert json.loads((folder / "config.json").read_text())["model_type"] == "wellread-cct"
    assert cct.is_folder(folder) and not cct.is_folder(folder.parent)
    batch = pack([[3, 4, 5], [6]])
    assert torch.equal(cct.load(folder)(batch), model(batch))
    with pytest.raises(ArtefactError, match="wellread-cct"):
        build.load_config(folder)  # no stock model, so no start for pre-training and fine-tuning


def test_a_damaged_folder_is_refused(saved):
    _, folder = saved
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"kernel": 4}))
    with pytest.raises(ArtefactError):
        cct.load(folder)
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(ArtefactError):
        cct.load(folder)


def test_the_seed_decides_the_weights():
    same, other = tiny(), cct.make(cct.CctConfig(vocab_size=40, num_labels=3), seed=1)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    again = tiny()
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(same.words.weight, again.words.weight)
    assert not torch.equal(same.words.weight, other.words.weight)
