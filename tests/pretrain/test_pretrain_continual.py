"""Continual pre-training: replay, subsets and the bound in runs; resumed ones to the bit."""

import json
import shutil

import numpy as np
import pytest
from made_language import Language, markov_texts

from wellread.errors import RecipeError, UserError
from wellread.pretrain import continual, guard
from wellread.settings import ContinualSettings
from wellread.tokens import store, tokenizer

RUN = {"tokens": 12_000, "validate_every": 4}


def lines(folder):
    return [json.loads(line) for line in (folder / "validation.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A field whose words come in another order than in the general text, with one tokenizer."""
    folder = tmp_path_factory.mktemp("two")
    general = markov_texts(200, seed=1)
    generator = np.random.default_rng(0)
    field = [" ".join(reversed(generator.permutation(text.split()))) for text in markov_texts(200, seed=2)]
    from wellread.settings import TokenizerSettings

    tokenizer.train(
        [*general, *field],
        TokenizerSettings(vocab_size=300),
        folder / "t",
        causal=False,
        max_length=64,
        quiet=True,
    )
    tokens = folder / "tokens"
    for place, texts in ((tokens, field), (continual.text_folder(tokens, "general"), general)):
        for split, rows in (("train", texts[:170]), ("valid", texts[170:])):
            pairs = [(f"{split}{number}", text) for number, text in enumerate(rows)]
            store.build(pairs, folder / "t", place / split, processes=1, quiet=True)
    return Language(tokens, folder / "t")


@pytest.fixture(scope="module")
def start(two, tmp_path_factory):
    """A model of the general text."""
    folder = tmp_path_factory.mktemp("start")
    general = Language(continual.text_folder(two.tokens, "general"), two.tokenizer)
    general.pretrain(folder / "run", tokens=60_000, learning_rate=1e-2)
    return {"start": str(folder / "run" / "model")}


def test_without_its_settings_nothing_changes(two, tmp_path, digests):
    two.pretrain(tmp_path / "plain", **RUN)
    two.pretrain(tmp_path / "given", **RUN, continual=ContinualSettings())
    found = [digests(tmp_path / name) for name in ("plain", "given")]
    # Only the summary of the curves is added.
    assert found[0].pop("pretrain.json") != found[1].pop("pretrain.json")
    assert found[0] == found[1]


def test_every_document_of_a_subset_is_read_as_often_as_epochs_say(two, tmp_path):
    settings = ContinualSettings(subset=0.25, general="general", replay=0.2)
    from made_language import tiny_settings

    run = tiny_settings(tokens=None, epochs=3, continual=settings)
    course = continual.lay(two.tokens, run, 64, tokenizer.load(two.tokenizer), 0, tmp_path)
    mixed = course.legs[0].packing
    both = len(mixed.field.sample_starts) + len(mixed.other.sample_starts)
    read = np.concatenate([mixed.samples(step) for step in range(course.steps)]) % both
    field = read[read < len(mixed.field.sample_starts)]
    chosen = np.load(tmp_path / "subset" / "subset.npy")
    offsets = np.asarray(mixed.store.offsets)
    owners = np.searchsorted(offsets, mixed.field.sample_starts[field], side="right") - 1
    assert set(owners.tolist()) == set(chosen.tolist())
    assert set(np.unique(field, return_counts=True)[1].tolist()) == {3}
    assert continual.share(run) == pytest.approx(0.25 / 0.8)


def test_replay_keeps_the_general_loss_lower(two, start, tmp_path):
    found = {}
    for name, replay in (("none", 0.0), ("half", 0.5)):
        settings = ContinualSettings(general="general", replay=replay)
        two.pretrain(tmp_path / name, start, tokens=40_000, learning_rate=5e-3, continual=settings)
        found[name] = json.loads((tmp_path / name / "pretrain.json").read_text())["continual"]
        assert found[name]["general"]["end"] == lines(tmp_path / name)[-1]["general"]["loss"]
    assert found["none"]["general"]["start"] == found["half"]["general"]["start"]
    assert found["half"]["general"]["rise"] < found["none"]["general"]["rise"]
    assert found["none"]["field"]["rise"] < 0


def test_beyond_the_bound_training_stops_and_can_go_on(two, start, tmp_path, digests):
    def run(folder, bound):
        settings = ContinualSettings(general="general", max_rise=bound)
        two.pretrain(tmp_path / folder, start, **RUN, learning_rate=2e-2, continual=settings)

    with pytest.raises(UserError, match="rose by") as caught:
        run("stopped", 0.02)
    assert caught.value.where == guard.KEY
    kept = sorted(path.name for path in (tmp_path / "stopped" / "checkpoints").glob("step-*"))
    good = int(kept[-1].removeprefix("step-"))
    assert f"step {good}," in caught.value.what
    assert not (tmp_path / "stopped" / "model").exists()
    with pytest.raises(UserError, match="rose by"):  # nothing is forgotten
        run("stopped", 0.02)
    run("stopped", 50.0)
    run("whole", 50.0)
    assert digests(tmp_path / "stopped") == digests(tmp_path / "whole")


def cut_at(monkeypatch, step):
    """Have the steps from ``step`` on be interrupted."""
    from wellread.pretrain import loop

    real, count = loop.take_step, iter(range(100))

    def cut(*arguments, **keywords):
        if next(count) == step:
            raise KeyboardInterrupt
        return real(*arguments, **keywords)

    monkeypatch.setattr(loop, "take_step", cut)


@pytest.mark.parametrize("before", [None, 50.0])
def test_a_bound_set_or_lowered_on_the_way_keeps_what_is_done(
    before, two, start, tmp_path, digests, monkeypatch
):
    def run(folder, bound):
        settings = ContinualSettings(general="general", max_rise=bound)
        changes = RUN | {"learning_rate": 2e-2, "checkpoint_seconds": 1e-9}
        two.pretrain(tmp_path / folder, start, **changes, continual=settings)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        cut_at(patch, 11)
        run("cut", before)
    done = 11 if before is None else 8  # the last validation's checkpoint is the one that the old bound kept
    with pytest.raises(UserError, match=f"step 12, .* step {done}, the last before it, is kept"):
        run("cut", 1e-9)
    assert (tmp_path / "cut" / "checkpoints" / f"step-{done:08d}").is_dir()
    run("cut", 50.0)
    run("whole", 50.0)
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")


@pytest.mark.parametrize("empty", ["corpus", "texts.general"])
def test_nothing_held_out_is_refused_where_a_rise_is_watched(empty, two, start, tmp_path):
    shutil.copytree(two.tokens, tmp_path / "tokens")
    held = tmp_path / "tokens" / ("valid" if empty == "corpus" else "texts/general/valid")
    shutil.rmtree(held)
    store.build([], two.tokenizer, held, processes=1, quiet=True)
    other = Language(tmp_path / "tokens", two.tokenizer)
    with pytest.raises(RecipeError, match="no text is held out") as caught:
        other.pretrain(
            tmp_path / "run", start, **RUN, continual=ContinualSettings(general="general", max_rise=0.1)
        )
    assert caught.value.where == f"{empty}.validation"


def test_the_checkpoint_within_the_bound_outlives_later_ones(tmp_path):
    import torch

    from wellread.pretrain import checkpoint

    for step in (3, 4, 5, 6):
        checkpoint.save(tmp_path, step, {"a": torch.zeros(1)}, {}, kept=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-{n:08d}" for n in (3, 5, 6)]
    checkpoint.drop_after(tmp_path, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]


def test_a_run_cut_short_leaves_the_same_bytes(two, start, tmp_path, digests, monkeypatch):
    settings = ContinualSettings(
        subset=0.5, general="general", reference="general", replay=0.3, max_rise=50.0
    )
    two.pretrain(tmp_path / "whole", start, **RUN, continual=settings)
    cut_at(monkeypatch, 11)
    with pytest.raises(KeyboardInterrupt):
        two.pretrain(tmp_path / "cut", start, **RUN, checkpoint_seconds=1e-9, continual=settings)
    monkeypatch.undo()
    shutil.rmtree(tmp_path / "cut" / "scratch")  # made again, the same
    two.pretrain(tmp_path / "cut", start, **RUN, checkpoint_seconds=1e-9, continual=settings)
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")
