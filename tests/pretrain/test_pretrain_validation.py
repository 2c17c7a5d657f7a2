import json
import shutil

import numpy as np
import pytest

from wellread.models import packed
from wellread.objectives import masking, mlm
from wellread.objectives.prediction import score
from wellread.pretrain import validation
from wellread.pretrain.parts import make_model
from wellread.tokens import store as stores
from wellread.tokens import tokenizer
from wellread.tokens.store import Store


def samples(found):
    return [number for batch in found.batches for number in batch.sample_ids.tolist()]


def test_all_is_held_out_once_when_it_is_little(language):
    store = Store.open(language.tokens / "valid")
    found = validation.held_out(store, 64, 512)
    assert len(set(samples(found))) == len(samples(found))
    assert all(batch.tokens <= 512 for batch in found.batches)
    special = sum(2 * batch.sequences for batch in found.batches)
    read = sum(batch.tokens for batch in found.batches) - special
    assert found.bytes == pytest.approx(store.bytes * read / store.n_tokens)
    assert read >= store.n_tokens - 8 * len(samples(found))


def test_the_choice_depends_on_the_store_only(language, monkeypatch):
    monkeypatch.setattr(validation, "MOST_TOKENS", 700)
    store = Store.open(language.tokens / "valid")
    some = validation.held_out(store, 64, 512)
    assert sum(batch.tokens for batch in some.batches) <= 700
    assert samples(some) == samples(validation.held_out(store, 64, 64))
    monkeypatch.setattr(validation, "MOST_TOKENS", 1 << 15)
    assert samples(validation.held_out(store, 64, 512))[: len(samples(some))] == samples(some)


def test_the_score_does_not_depend_on_the_batches(language, tiny):
    model_settings, settings = tiny
    loaded = tokenizer.load(language.tokenizer)
    model = packed.enable(make_model(model_settings, settings, loaded, seed=0)).eval()
    store = Store.open(language.tokens / "valid")
    found = []
    for batch_tokens in (64, 1024):
        parts = [
            score(model, mlm.predict(batch, masking.validation_positions(batch), loaded.mask_token_id))
            for batch in validation.held_out(store, 64, batch_tokens).batches
        ]
        found.append((sum(loss for loss, _ in parts), sum(right for _, right in parts)))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert found[0][1] == found[1][1]


def test_nothing_held_out(tmp_path, language):
    stores.build([], language.tokenizer, tmp_path / "empty", processes=1, quiet=True)
    assert validation.held_out(Store.open(tmp_path / "empty"), 64, 512).batches == ()


def test_without_held_out_text_there_is_no_validation(tmp_path, language):
    shutil.copytree(language.tokens / "train", tmp_path / "tokens" / "train")
    stores.build([], language.tokenizer, tmp_path / "tokens" / "valid", processes=1, quiet=True)
    type(language)(tmp_path / "tokens", language.tokenizer).pretrain(tmp_path / "run", tokens=1_000)
    assert json.loads((tmp_path / "run" / "pretrain.json").read_text())["loss"] is None
    assert (tmp_path / "run" / "validation.jsonl").read_bytes() == b""


def guessing(loaded):
    return lambda batch, epoch, progress: mlm.predict(
        batch, masking.validation_positions(batch), loaded.mask_token_id
    )


def test_the_loss_of_word_frequencies_is_their_cross_entropy(language):
    loaded = tokenizer.load(language.tokenizer)
    train = Store.open(language.tokens / "train")
    text = validation.held_out(Store.open(language.tokens / "valid"), 64, 512)
    counts = np.bincount(train.tokens(0, train.n_tokens), minlength=len(loaded)) + 1.0
    counts[list(train.suffix)] += train.n_documents
    targets = np.concatenate([guessing(loaded)(batch, None, 0.0).targets.numpy() for batch in text.batches])
    expected = -np.log(counts / counts.sum())[targets].mean()
    assert validation.frequency_loss(train, text, guessing(loaded)) == pytest.approx(expected, rel=1e-12)


def test_nothing_to_guess_has_no_loss(tmp_path, language):
    stores.build([], language.tokenizer, tmp_path / "empty", processes=1, quiet=True)
    text = validation.held_out(Store.open(tmp_path / "empty"), 64, 512)
    train = Store.open(language.tokens / "train")
    assert validation.frequency_loss(train, text, guessing(tokenizer.load(language.tokenizer))) is None


def test_a_model_that_learns_nothing_is_told_of(tmp_path, language, capsys):
    language.pretrain(tmp_path / "slow", tokens=1_000, learning_rate=1e-9, quiet=False)
    facts = json.loads((tmp_path / "slow" / "pretrain.json").read_text())
    assert facts["loss"] > facts["frequency_loss"]
    assert "hardly better than word frequencies" in capsys.readouterr().err
