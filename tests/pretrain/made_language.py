"""A small made-up language and tiny runs on it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wellread.pretrain.loop import pretrain
from wellread.pretrain.parallel import SOLO
from wellread.settings import ModelSettings, PretrainSettings, TokenizerSettings
from wellread.tokens import store, tokenizer


def markov_texts(count, seed):
    """Texts in which each word is followed by one of three words."""
    words = [a + b + c for a in "bcdfgm" for b in "aeiou" for c in ("n", "st", "rd", "")]
    generator = np.random.default_rng(seed)
    follows = np.random.default_rng(0).integers(0, len(words), (len(words), 3))
    texts = []
    for _ in range(count):
        state, text = int(generator.integers(len(words))), []
        for _ in range(int(generator.integers(5, 60))):
            text.append(words[state])
            state = int(follows[state, generator.integers(3)])
        texts.append(" ".join(text))
    return texts


@dataclass(frozen=True)
class Language:
    tokens: Path
    tokenizer: Path

    def pretrain(self, folder, model=None, seed=0, group=SOLO, quiet=True, **settings):
        """A tiny pre-training run into ``folder``."""
        folder.mkdir(exist_ok=True)
        pretrain(
            tiny_model(**(model or {})),
            tiny_settings(**settings),
            tokens=self.tokens,
            tokenizer=self.tokenizer,
            folder=folder,
            seed=seed,
            quiet=quiet,
            group=group,
        )


def tiny_model(**changes):
    return ModelSettings(**({"layers": 2, "hidden": 32, "heads": 2, "max_length": 64} | changes))


def tiny_settings(**changes):
    return PretrainSettings(**({"tokens": 6_000, "batch_tokens": 512, "precision": "fp32"} | changes))


def build_language(folder, causal):
    texts = markov_texts(300, seed=1)
    settings = TokenizerSettings(vocab_size=300, kind="bpe" if causal else "wordpiece")
    tokenizer.train(texts, settings, folder / "tokenizer", causal=causal, max_length=64, quiet=True)
    for split, rows in (("train", texts[:270]), ("valid", texts[270:])):
        pairs = [(f"{split}{number}", text) for number, text in enumerate(rows)]
        store.build(pairs, folder / "tokenizer", folder / "tokens" / split, processes=1, quiet=True)
    return Language(folder / "tokens", folder / "tokenizer")
