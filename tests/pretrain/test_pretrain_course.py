"""Stages of length and batch size: exact borders, every token once an epoch, exact resume."""

import random

import numpy as np
import pytest
import torch
from test_pretrain_resume import ALWAYS, CutError, cut_at

from wellread import rng
from wellread.models import packed, positions
from wellread.pretrain import course, loop, parts
from wellread.schedules.phases import phases
from wellread.settings import PretrainSettings
from wellread.tokens import tokenizer as tokenizers
from wellread.tokens.packing import MIN_TAIL
from wellread.tokens.store import Store

LENGTHS = ((16, 0.3), (32, 0.3), (64, 0.4))


@pytest.fixture
def lay(language, tmp_path):
    """A course over the made-up language, and its store."""
    store = Store.open(language.tokens / "train")

    def of(**settings):
        chosen = PretrainSettings(**({"batch_tokens": 256} | settings))
        stages = phases(chosen, 64)
        return store, course.lay(store, chosen, stages, 2, 0, tmp_path / str(rng.derive(0, repr(settings))))

    return of


def places(packing, samples):
    """The tokens of some samples, by their places in the store."""
    return np.concatenate(
        [packing.sample_starts[s] + np.arange(packing.sample_lengths[s]) for s in np.asarray(samples)]
    )


@pytest.mark.parametrize("epochs", [1, 2])
def test_every_token_is_read_once_an_epoch(lay, epochs):
    store, found = lay(epochs=epochs, lengths=LENGTHS)
    seen = np.zeros((epochs, store.n_tokens), int)
    for step in range(found.steps):
        packing, place, epoch = found.at(step)
        np.add.at(seen[epoch], places(packing, packing.samples(place)), 1)
    assert seen.max() == 1
    # only ends of documents that are too short to keep are left out
    assert (seen == 0).mean() < MIN_TAIL / 32
    for epoch in range(epochs):
        missing = np.flatnonzero(seen[epoch] == 0)
        offsets = np.asarray(store.offsets)
        ends = offsets[np.searchsorted(offsets, missing, side="right")]
        assert (ends - missing < MIN_TAIL).all()


def test_long_documents_are_cut_into_consecutive_chunks_of_one_length(lay):
    store, found = lay(epochs=1, lengths=LENGTHS)
    offsets, lengths_of = np.asarray(store.offsets), {}
    for step in range(found.steps):
        packing, place, _ = found.at(step)
        for sample in packing.samples(place):
            start, length = int(packing.sample_starts[sample]), int(packing.sample_lengths[sample])
            document = int(np.searchsorted(offsets, start, side="right")) - 1
            lengths_of.setdefault(document, []).append(
                (packing.max_length, start - int(offsets[document]), length)
            )
    for chunks in lengths_of.values():
        chunks.sort(key=lambda chunk: chunk[1])
        (room,) = {most - 2 for most, _, _ in chunks}
        assert [begin for _, begin, _ in chunks] == [number * room for number in range(len(chunks))]
        assert all(length == room for _, _, length in chunks[:-1])


def test_borders_lie_where_the_shares_say(lay):
    _, found = lay(epochs=3, lengths=LENGTHS)
    tokens, ends = {}, []
    for step in range(found.steps):
        packing, place, _ = found.at(step)
        tokens[packing.max_length] = tokens.get(packing.max_length, 0) + packing.batch(place).tokens
        if step and packing.max_length != found.at(step - 1)[0].max_length:
            ends.append(step)
    total = sum(tokens.values())
    # within half a document and a step
    assert [tokens[most] / total for most, _ in LENGTHS] == pytest.approx([0.3, 0.3, 0.4], abs=300 / total)
    assert [found.longer(step) for step in ends] == [(16, 32), (32, 64)]
    assert sum(found.longer(step) is not None for step in range(found.steps)) == 2


def test_steps_have_as_many_tokens_in_every_stage(lay):
    _, found = lay(epochs=3, lengths=LENGTHS)
    for leg in found.legs:
        sizes = [
            leg.packing.batch(step).tokens for step in range(min(leg.steps, leg.packing.steps_per_epoch))
        ]
        assert max(sizes) <= 256
        assert np.mean(sizes) > 256 - 256 / len(sizes) - 10


def test_small_steps_come_first_where_batches_grow(lay):
    _, found = lay(epochs=2, batch_tokens=512, batches=((128, 0.25), (512, 0.75)))
    sizes = np.array([found.at(step)[0].batch(found.at(step)[1]).tokens for step in range(found.steps)])
    small = int(np.flatnonzero(sizes > 128)[0])
    assert (sizes[:small] <= 128).all() and sizes[small:].mean() > 400
    assert sizes[:small].sum() / sizes.sum() == pytest.approx(0.25, abs=0.02)


def test_any_step_is_found_at_once_and_again(lay):
    _, found = lay(epochs=2, lengths=LENGTHS)
    _, again = lay(epochs=2, lengths=LENGTHS)
    for step in random.Random(0).sample(range(found.steps), 10):
        (first, place, epoch), (second, other, same) = found.at(step), again.at(step)
        assert epoch == same and np.array_equal(first.samples(place), second.samples(other))


def test_a_single_stage_is_the_plain_run_to_the_bit(language, tmp_path, digests):
    language.pretrain(tmp_path / "plain", tokens=3_000)
    language.pretrain(tmp_path / "staged", tokens=3_000, lengths=((64, 1.0),), batches=((512, 1.0),))
    assert digests(tmp_path / "plain") == digests(tmp_path / "staged")


STAGES = {
    "modernbert": {"lengths": LENGTHS},
    "bert": {"lengths": LENGTHS, "batches": ((256, 0.5), (512, 0.5)), "sparsity": {"level": 0.5}},
    "submodels": {"submodels": 1, "submodel_share": 0.5, "optimizer": "muon"},
}


@pytest.mark.parametrize("case", STAGES)
def test_interrupted_in_any_stage_equals_uninterrupted(case, language, tmp_path, monkeypatch, digests):
    model = {"layout": "bert" if case == "bert" else "modernbert"}
    language.pretrain(tmp_path / "whole", model, **STAGES[case])
    steps = len((tmp_path / "whole" / "log.jsonl").read_text().splitlines())
    # Cut at each third of what is left, and at every border of stages on the way.
    for count in (steps // 3, 1, steps // 3, 2):
        with monkeypatch.context() as patch, pytest.raises(CutError):
            cut_at(patch, loop, "take_step", count)
            language.pretrain(tmp_path / "cut", model, checkpoint_seconds=ALWAYS, **STAGES[case])
    language.pretrain(tmp_path / "cut", model, **STAGES[case])
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")


@pytest.mark.parametrize("layout", ["bert", "gpt2", "modernbert"])
def test_lengthening_changes_nothing_that_short_sequences_see(layout, language, causal_language, tiny):
    spoken = causal_language if layout == "gpt2" else language
    loaded = tokenizers.load(spoken.tokenizer)
    model = parts.make_model(tiny[0].model_copy(update={"layout": layout}), tiny[1], loaded, 0).eval()
    build_batch = course.plan(Store.open(spoken.tokens / "valid"), 16, 256, 2, 0, spoken.tokens / "bins")
    batch = build_batch.batch(0)
    with torch.no_grad():
        before = packed.hidden_states(model, batch)
        states = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        positions.tile(model, 16, 40)
        assert torch.equal(packed.hidden_states(model, batch), before)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, states[name])}
    if layout == "modernbert":
        assert not changed
        return
    (name,) = changed
    table = model.state_dict()[name]
    assert torch.equal(table[16:32], table[:16]) and torch.equal(table[32:40], table[:8])
    assert torch.equal(table[40:], states[name][40:])
