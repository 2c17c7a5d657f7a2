"""Packing: every token once an epoch, nothing over its bounds, any step from its number alone."""

import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_up import made_up_texts

from wellread.errors import ArtefactError, DataError, RecipeError
from wellread.tokens import packing
from wellread.tokens.batch import PackedBatch
from wellread.tokens.packing import MIN_TAIL, cut, plan
from wellread.tokens.store import Store

FIELDS = ("input_ids", "cu_seqlens", "position_ids", "word_ids", "sample_ids")


def same(first, second):
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in FIELDS)


@pytest.fixture(scope="module")
def corpus(trained, tmp_path_factory):
    """A store of 150 documents (an empty one and a very short one among them), and its texts."""
    long_words = "hepatneurcardiostdermitisomaopathyectomy " * 20
    texts = ["", "a", long_words, *made_up_texts(146, seed=5, longest=60), ""]
    folder = tmp_path_factory.mktemp("packing") / "store"
    return trained["wordpiece"].build(folder, texts, shard_tokens=1024), texts


@pytest.fixture(scope="module")
def packed(corpus, tmp_path_factory):
    return plan(corpus[0], 32, 300, 2, 7, tmp_path_factory.mktemp("plan"))


def epoch_samples(packed, epoch):
    steps = range(epoch * packed.steps_per_epoch, (epoch + 1) * packed.steps_per_epoch)
    return [number for step in steps for number in packed.batch(step).sample_ids.tolist()]


@pytest.mark.parametrize("shape", [(32, 300), (32, 32), (8, 500), (512, 4096)])
def test_every_token_of_every_kept_sample_comes_once_an_epoch(corpus, trained, tmp_path, shape):
    """Compared with the documents tokenised afresh and cut by hand."""
    store, texts = corpus
    packed = plan(store, *shape, 2, 7, tmp_path)
    expected = []
    dropped = 0
    for text in texts:
        tokens = trained["wordpiece"].direct(text)
        for begin in range(0, len(tokens), shape[0] - 2):
            piece = tokens[begin : begin + shape[0] - 2]
            if begin and len(piece) < min(MIN_TAIL, shape[0] - 2):
                dropped += len(piece)
            else:
                expected.append([2, *piece, 3])
    for epoch in (0, 3):
        found = {}
        for step in range(epoch * packed.steps_per_epoch, (epoch + 1) * packed.steps_per_epoch):
            batch = packed.batch(step)
            assert batch.tokens <= shape[1] and max(batch.lengths) <= shape[0]
            for number, begin, end in zip(
                batch.sample_ids.tolist(), batch.cu_seqlens[:-1], batch.cu_seqlens[1:], strict=True
            ):
                assert number not in found
                found[number] = batch.input_ids[begin:end].tolist()
        assert [found[number] for number in sorted(found)] == expected
    assert packed.dropped_tokens == dropped
    assert packed.tokens_per_epoch == sum(map(len, expected))
    assert packed.n_samples == len(expected)


def test_batches_are_well_formed(packed, corpus):
    """Positions, word numbers and sequence borders against a plain loop over the store."""
    store = corpus[0]
    for step in (0, 5, packed.steps_per_epoch - 1):
        batch = packed.batch(step)
        assert isinstance(batch, PackedBatch) and batch.cu_seqlens.dtype == torch.int32
        assert all(getattr(batch, name).dtype == torch.int64 for name in FIELDS if name != "cu_seqlens")
        positions, words = [], []
        for number, length in zip(batch.sample_ids.tolist(), batch.lengths, strict=True):
            start = int(packed.sample_starts[number])
            positions += range(length)
            word = 0
            words.append(-1)
            for place, begins in enumerate(store.gather(np.arange(start, start + length - 2))[1]):
                word += bool(begins and place)
                words.append(word)
            words.append(-1)
        assert batch.position_ids.tolist() == positions
        assert batch.word_ids.tolist() == words
        assert batch.cu_seqlens.tolist() == [0, *np.cumsum(batch.lengths).tolist()]


def test_some_samples_begin_within_a_word(packed, corpus):
    """Otherwise the test above would not have tried them."""
    starts = corpus[0].gather(np.arange(corpus[0].n_tokens))[1]
    assert not starts[np.asarray(packed.sample_starts)].all()


def test_bins_hold_every_sample_once_and_no_more_than_their_room(packed):
    assert sorted(packed.bin_samples.tolist()) == list(range(packed.n_samples))
    sizes = np.asarray(packed.sample_lengths)[packed.bin_samples] + 2
    totals = np.add.reduceat(sizes, packed.bin_offsets[:-1])
    assert packed.bin_offsets[-1] == packed.n_samples and totals.max() <= packed.bin_tokens
    assert packed.bin_tokens == 75 and totals.sum() == packed.tokens_per_epoch
    assert packed.fill == totals.sum() / (75 * packed.n_bins) > 0.85


def test_steps_are_of_even_size(packed):
    sizes = []
    for step in range(packed.steps_per_epoch):
        samples = set(packed.batch(step).sample_ids.tolist())
        sizes.append(
            sum(
                not samples.isdisjoint(packed.bin_samples[begin:end].tolist())
                for begin, end in zip(packed.bin_offsets[:-1], packed.bin_offsets[1:], strict=True)
            )
        )
    assert max(sizes) <= 4 and max(sizes) - min(sizes) <= 1 and sum(sizes) == packed.n_bins


def test_a_batch_depends_on_nothing_but_seed_and_step(packed, corpus, tmp_path):
    wanted = packed.batch(11)
    for step in (3, 1000, 0):
        packed.batch(step)
    assert same(packed.batch(11), wanted)
    reopened = plan(Store.open(corpus[0].folder), 32, 300, 2, 7, tmp_path / "anew")
    assert same(reopened.batch(11), wanted)
    other = plan(corpus[0], 32, 300, 2, 8, tmp_path / "other")
    assert not same(other.batch(11), wanted)


def test_a_saved_plan_is_used_again(packed, corpus, tmp_path, monkeypatch):
    plan(corpus[0], 32, 300, 2, 7, tmp_path)
    monkeypatch.setattr(packing, "fill_bins", lambda *given: pytest.fail("packed anew"))
    assert same(plan(corpus[0], 32, 300, 2, 7, tmp_path).batch(4), packed.batch(4))


@pytest.mark.parametrize("changed", ["seed", "max_length", "batch_tokens", "store"])
def test_a_saved_plan_for_something_else_is_not(corpus, trained, tmp_path, changed):
    store = corpus[0]
    plan(store, 32, 300, 2, 7, tmp_path / "plan")
    given = {"max_length": 32, "batch_tokens": 300, "n_special": 2, "seed": 7, "folder": tmp_path / "plan"}
    if changed == "store":
        store = trained["wordpiece"].build(tmp_path / "store", made_up_texts(150, seed=6))
    else:
        given[changed] += 1
    again = plan(store, **given)
    fresh = plan(store, **{**given, "folder": tmp_path / "fresh"})
    assert same(again.batch(2), fresh.batch(2))
    assert json.loads((tmp_path / "plan" / "packing.json").read_bytes())["bins"] == fresh.n_bins


@pytest.mark.parametrize("name", ["sample_starts", "sample_lengths", "bin_offsets", "bin_samples"])
def test_a_cut_or_missing_table_is_made_anew(packed, corpus, tmp_path, name):
    plan(corpus[0], 32, 300, 2, 7, tmp_path)
    path = tmp_path / f"{name}.npy"
    path.write_bytes(path.read_bytes()[:-3])
    assert same(plan(corpus[0], 32, 300, 2, 7, tmp_path).batch(4), packed.batch(4))
    path.unlink()
    assert same(plan(corpus[0], 32, 300, 2, 7, tmp_path).batch(4), packed.batch(4))


def test_epochs_differ_in_order_and_not_in_content(packed):
    epochs = [epoch_samples(packed, epoch) for epoch in range(3)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2]) == list(range(packed.n_samples))
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert packed.epoch(packed.steps_per_epoch - 1) == 0 and packed.epoch(packed.steps_per_epoch) == 1


def test_a_far_step_costs_no_more_than_a_near_one(packed):
    """Counted in reads of the store and draws, not in seconds."""
    counts = []
    original = packing.rng.permute

    def counting(index, *rest):
        counts.append(len(index))
        return original(index, *rest)

    packing.rng.permute = counting
    try:
        packed.batch(0)
        packed.batch(10**6)
    finally:
        packing.rng.permute = original
    assert len(counts) == 2 and abs(counts[0] - counts[1]) <= 1


def test_validation_visits_every_sample_once_in_one_order(packed):
    batches = list(packed.validation_batches())
    samples = [number for batch in batches for number in batch.sample_ids.tolist()]
    assert sorted(samples) == list(range(packed.n_samples))
    assert max(batch.tokens for batch in batches) <= 300
    assert all(same(*pair) for pair in zip(batches, packed.validation_batches(), strict=True))


def test_figures(packed):
    assert packed.mean_tokens_per_step == packed.tokens_per_epoch / packed.steps_per_epoch


def test_a_decoder_has_its_own_special_tokens(trained, tmp_path):
    store = trained["bpe"].build(tmp_path / "store", made_up_texts(20))
    batch = plan(store, 64, 256, 2, 0, tmp_path / "plan").batch(0)
    for begin, end in zip(batch.cu_seqlens[:-1], batch.cu_seqlens[1:], strict=True):
        assert batch.input_ids[begin] == 2 and batch.input_ids[end - 1] == 3


def test_no_special_tokens_at_all(trained, tmp_path):
    built = trained["bpe"].build(tmp_path / "store", made_up_texts(20))
    path = built.folder / "store.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "prefix": [], "suffix": []}))
    store = Store.open(built.folder)
    packed = plan(store, 16, 64, 0, 0, tmp_path / "plan")
    found = {}
    for batch in packed.validation_batches():
        assert (batch.word_ids >= 0).all()
        for number, begin, end in zip(
            batch.sample_ids.tolist(), batch.cu_seqlens[:-1], batch.cu_seqlens[1:], strict=True
        ):
            start = int(packed.sample_starts[number])
            found[number] = batch.input_ids[begin:end].tolist()
            assert found[number] == store.tokens(start, start + int(end - begin)).tolist()
    assert len(found) == packed.n_samples


def test_an_empty_store_can_be_planned_but_not_trained_on(trained, tmp_path):
    store = trained["wordpiece"].build(tmp_path / "store", ["", ""])
    packed = plan(store, 32, 300, 2, 7, tmp_path / "plan")
    assert list(packed.validation_batches()) == [] and packed.n_bins == 0
    for ask in (lambda: packed.steps_per_epoch, lambda: packed.batch(0), lambda: packed.mean_tokens_per_step):
        with pytest.raises(DataError, match="no token"):
            ask()


def test_impossible_shapes_are_refused(corpus, tmp_path):
    for shape in ((2, 300), (32, 31)):
        with pytest.raises(RecipeError, match="no room"):
            plan(corpus[0], *shape, 2, 7, tmp_path)
    with pytest.raises(ArtefactError, match="2 special tokens"):
        plan(corpus[0], 32, 300, 3, 7, tmp_path)


def test_damage_of_the_store_is_found_before_a_step(corpus, tmp_path):
    shutil.copytree(corpus[0].folder, tmp_path / "store")
    (tmp_path / "store" / "words-00000.bin").write_bytes(b"")
    with pytest.raises(ArtefactError):
        plan(Store.open(tmp_path / "store"), 32, 300, 2, 7, tmp_path / "plan")


@given(
    sizes=st.lists(st.integers(0, 100), max_size=30),
    longest=st.integers(1, 40),
)
def test_cutting_keeps_all_but_short_ends(sizes, longest):
    offsets = np.concatenate([[0], np.cumsum(np.array(sizes, np.int64))])
    starts, lengths, dropped = cut(offsets, longest)
    expected, left_out = [], 0
    for begin, size in zip(offsets[:-1].tolist(), sizes, strict=True):
        for place in range(0, size, longest):
            length = min(longest, size - place)
            if place and length < min(MIN_TAIL, longest):
                left_out += length
            else:
                expected.append((begin + place, length))
    assert list(zip(starts.tolist(), lengths.tolist(), strict=True)) == expected
    assert dropped == left_out
