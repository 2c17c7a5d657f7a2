"""Two texts at fixed shares: proportions, passes, and any step from its number alone."""

from collections import Counter

import numpy as np
import pytest
import torch
from made_up import made_up_texts

from wellread.tokens.mixture import mix
from wellread.tokens.packing import plan


@pytest.fixture(scope="module")
def packings(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixture")
    stores = [
        trained["wordpiece"].build(folder / name, made_up_texts(count, seed=seed, longest=longest))
        for name, count, seed, longest in (("field", 60, 1, 60), ("other", 23, 2, 20))
    ]
    return [plan(store, 32, 300, 2, 7, folder / f"bins{number}") for number, store in enumerate(stores)]


def is_other(mixed, samples):
    field, other = mixed.field, mixed.other
    return samples % (len(field.sample_starts) + len(other.sample_starts)) >= len(field.sample_starts)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.93])
def test_shares_of_tokens_are_within_a_hundredth_over_ten_thousand_draws(packings, share):
    mixed = mix(*packings, share, tokens=150_000)
    tokens, draws = np.zeros(2), 0
    for step in range(mixed.steps):
        samples = mixed.samples(step)
        sizes, other = mixed.sizes(samples), is_other(mixed, samples)
        tokens += sizes[~other].sum(), sizes[other].sum()
        draws += len(samples)
    assert draws > 5_000
    assert tokens[1] / tokens.sum() == pytest.approx(share, abs=0.01)
    assert tokens.sum() == pytest.approx(150_000, rel=0.01)
    assert mixed.n_samples == pytest.approx(draws, rel=0.02)
    assert mixed.mean_tokens_per_step * mixed.steps == pytest.approx(tokens.sum(), rel=0.01)


def test_over_ten_thousand_bins_the_share_is_exact(packings):
    mixed = mix(*packings, 0.2, tokens=10_000 * 280)
    place = np.arange(mixed.bins)
    other = ((place + 1) * mixed.parts >> 20) > (place * mixed.parts >> 20)
    fills = [packing.tokens_per_epoch / packing.n_bins for packing in packings]
    found = other.sum() * fills[1] / (other.sum() * fills[1] + (~other).sum() * fills[0])
    assert found == pytest.approx(0.2, abs=1e-4)


@pytest.mark.parametrize("epochs", [1, 3])
def test_every_sample_of_the_field_comes_once_a_pass(packings, epochs):
    mixed = mix(*packings, 0.3, epochs=epochs)
    found = np.concatenate([mixed.samples(step) for step in range(mixed.steps)])
    other = is_other(mixed, found)
    assert len(set(found.tolist())) == len(found)  # each time under another number, so under another mask
    both = len(packings[0].sample_starts) + len(packings[1].sample_starts)
    seen = Counter((found[~other] % both).tolist())
    assert sorted(seen) == sorted(packings[0].bin_samples.tolist())
    assert set(seen.values()) == {epochs}
    replayed = Counter((found[other] % both).tolist())
    assert max(replayed.values()) - min(replayed.values()) <= 1


def test_a_batch_is_those_samples_and_fits(packings):
    mixed = mix(*packings, 0.4, epochs=2)
    for step in (0, mixed.steps // 2, mixed.steps - 1):
        samples, batch = mixed.samples(step), mixed.batch(step)
        assert batch.tokens <= 300
        assert sorted(batch.sample_ids.tolist()) == sorted(samples.tolist())
        assert sorted(batch.lengths) == sorted(mixed.sizes(samples).tolist())
        assert int(batch.cu_seqlens[-1]) == batch.tokens
        within = batch.sample_ids.numpy() % (len(packings[0].sample_starts) + len(packings[1].sample_starts))
        first = packings[0].assemble(within[:1])
        assert torch.equal(batch.input_ids[: first.tokens], first.input_ids)
        last = packings[1].assemble(within[-1:] - len(packings[0].sample_starts))
        assert torch.equal(batch.input_ids[-last.tokens :], last.input_ids)
        assert torch.equal(batch.position_ids[-last.tokens :], last.position_ids)


def test_a_batch_of_no_sample_is_as_a_plain_packings(packings):
    nothing = np.empty(0, np.int64)
    found, plain = mix(*packings, 0.4).assemble(nothing), packings[0].assemble(nothing)
    assert (found.tokens, found.sequences) == (0, 0)
    for name in ("input_ids", "cu_seqlens", "position_ids", "word_ids", "sample_ids"):
        one, other = getattr(found, name), getattr(plain, name)
        assert torch.equal(one, other) and one.dtype == other.dtype, name
