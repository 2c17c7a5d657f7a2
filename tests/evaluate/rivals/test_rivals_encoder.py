"""Embeddings equal those of the stock model on padded batches; what was read is remembered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from wellread import known_models as known
from wellread.evaluate.rivals import encoder as encoders
from wellread.evaluate.rivals.encoder import Encoder
from wellread.evaluate.rivals.run import Means

TEXTS = ["word1 alpha", "beta word2 word3 word30 gamma unseenthing", "x", "grape " * 300]


@torch.no_grad()
def stock(folder: Path, texts: list[str], max_length: int) -> np.ndarray:
    """The mean over the tokens of each text, in a padded batch of the plain library, scaled to length 1."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    batch = tokenizer(texts, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
    hidden, mask = model(**batch).last_hidden_state, batch["attention_mask"][..., None]
    return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1).numpy()


def test_embeddings_are_those_of_the_stock_model(means: Means, monkeypatch: pytest.MonkeyPatch) -> None:
    assert means.encoder_folder is not None
    made = Encoder(means.encoder_folder)
    found = encoders.embed(made.model, made.tokenizer, TEXTS, max_length=64)
    assert np.abs(found - stock(means.encoder_folder, TEXTS, 64)).max() < 1e-5


def test_the_published_encoder() -> None:
    folder = known.path(known.MINILM)
    if folder is None:
        pytest.skip("minilm is not in the cache (wellread data get minilm)")
    made = Encoder(folder)
    texts = [
        "Aspirin inhibits cyclooxygenase.",
        "COX is blocked by acetylsalicylic acid.",
        "The sky is blue.",
    ]
    found = made.texts(texts)
    assert np.abs(found - stock(folder, texts, encoders.MAX_LENGTH)).max() < 1e-5
    assert found[0] @ found[1] > found[0] @ found[2] + 0.3


@torch.no_grad()
def test_words_have_the_state_of_their_first_piece(means: Means) -> None:
    assert means.encoder_folder is not None
    made = Encoder(means.encoder_folder)
    words = ("word1", "unseenthing", "\x00", "beta")
    found = made.words([words])
    tokenizer = AutoTokenizer.from_pretrained(means.encoder_folder)
    batch = tokenizer(" ".join(words), return_tensors="pt", return_offsets_mapping=True)
    offsets = batch.pop("offset_mapping")[0].tolist()
    hidden = AutoModel.from_pretrained(means.encoder_folder).eval()(**batch).last_hidden_state[0].numpy()
    starts = {begin: place for place, (begin, end) in reversed(list(enumerate(offsets))) if end > begin}
    assert np.abs(found[0] - hidden[starts[0]]).max() < 1e-5
    assert np.abs(found[1] - hidden[starts[len("word1 ")]]).max() < 1e-5
    assert not found[2].any()  # a control character is no piece
    assert found.shape == (4, 32)


def test_what_was_read_is_remembered(means: Means, monkeypatch: pytest.MonkeyPatch) -> None:
    assert means.encoder_folder is not None
    made, calls = Encoder(means.encoder_folder), []
    embed = encoders.embed
    monkeypatch.setattr(encoders, "embed", lambda *given: calls.append(given[2]) or embed(*given))
    first = made.texts(["a b", "c"])
    assert np.array_equal(made.texts(["c", "a b", "c"]), first[[1, 0, 1]])
    assert calls == [["a b", "c"]] and made.saved > 0
    known_texts = made.forget()
    made.texts(["c"])
    made.remember(known_texts)
    made.texts(["a b"])
    assert calls[1:] == [["c"]]
