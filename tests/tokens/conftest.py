"""Made-up texts, and one tokenizer of each kind trained on them."""

import functools
from dataclasses import dataclass
from pathlib import Path

import pytest
from made_up import made_up_texts

from wellread.settings import TokenizerSettings
from wellread.tokens import store, tokenizer

load = functools.cache(tokenizer.load)


@dataclass(frozen=True)
class Trained:
    folder: Path

    def build(self, folder, texts, processes=2, **options):
        """A store of ``texts``, opened."""
        documents = ((f"doc:{number}", text) for number, text in enumerate(texts))
        store.build(documents, self.folder, folder, processes=processes, quiet=True, **options)
        return store.Store.open(folder)

    def direct(self, text):
        """Token ids as the saved tokenizer gives them, special tokens neither added nor recognised."""
        return load(self.folder)(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """{"wordpiece": encoder tokenizer, "bpe": decoder tokenizer}."""
    found = {}
    for kind in ("wordpiece", "bpe"):
        folder = tmp_path_factory.mktemp(kind)
        settings = TokenizerSettings(kind=kind, vocab_size=400)
        tokenizer.train(made_up_texts(200), settings, folder, causal=kind == "bpe", max_length=64, quiet=True)
        found[kind] = Trained(folder)
    return found


@pytest.fixture(scope="session", params=["wordpiece", "bpe"])
def kind(request, trained):
    """Each of the trained tokenizers in turn."""
    return trained[request.param]
