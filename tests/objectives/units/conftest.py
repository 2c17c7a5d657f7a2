"""A small corpus with phrases, as a token store with its tokenizer."""

import random
import sys
from pathlib import Path

import pytest

from wellread.settings import TokenizerSettings
from wellread.tokens import store, tokenizer

sys.path.insert(0, str(Path(__file__).parent))

FILLERS = ["the", "a", "of", "in", "with", "and", "for", "by", "was", "were", "had", "this", "each", "two"]
PHRASES = ("myocardial infarction", "deep vein thrombosis", "rheumatoid arthritis")


def texts(count):
    """Texts of filler words, with a phrase now and then, and one word of their own."""
    draw = random.Random(0)
    for number in range(count):
        words = [draw.choice(FILLERS) for _ in range(draw.randint(15, 40))]
        for _ in range(3):
            words.insert(draw.randrange(len(words)), draw.choice(PHRASES))
        yield f"d{number}", " ".join(words)


def build(folder, count=200, kind="wordpiece"):
    settings = TokenizerSettings(vocab_size=300, kind=kind)
    rows = list(texts(count))
    tokenizer.train(
        (text for _, text in rows), settings, folder / "tokenizer", causal=False, max_length=64, quiet=True
    )
    store.build(rows, folder / "tokenizer", folder / "store", processes=1, quiet=True)
    return folder


@pytest.fixture(scope="session")
def phrased(tmp_path_factory):
    """A folder with ``tokenizer`` and ``store``."""
    return build(tmp_path_factory.mktemp("phrased"))


@pytest.fixture(scope="session")
def phrased_bpe(tmp_path_factory):
    """The same with a byte-level BPE."""
    return build(tmp_path_factory.mktemp("phrased-bpe"), kind="bpe")
