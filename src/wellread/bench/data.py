"""Sequences to train on: a run's token store, or made-up tokens with the lengths of real abstracts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from wellread.api import open_run
from wellread.bench.options import Options
from wellread.stages import stage_folder
from wellread.tokens import store, tokenizer
from wellread.tokens.packing import Packing, plan

# Tokens of a document, special tokens not counted, at these shares of the documents: measured on the 28,580
# training documents of the quickstart (title and abstract, PubMed sample, WordPiece of 8,192; mean 295.3).
SHARES = (0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1)
LENGTHS = (22, 35, 86, 121, 171, 213, 252, 289, 327, 366, 407, 468, 526, 663, 1031, 1621)
DOCUMENTS = 6000
SPECIALS = tokenizer.ENCODER_SPECIALS
SEED = 0


@dataclass(frozen=True)
class Data:
    """A token store, its tokenizer, and how the tokens make steps."""

    tokens: Path
    tokenizer_folder: Path
    tokenizer: PreTrainedTokenizerBase
    packing: Packing
    note: str

    def samples(self) -> list[list[int]]:
        """Every sequence, special tokens included: the same that the packed steps are made of."""
        packing = self.packing
        return [
            packing.assemble(np.array([number])).input_ids.tolist() for number in range(packing.n_samples)
        ]


def prepare(options: Options, scratch: Path) -> Data:
    """The run's own tokens where one is given, else made-up ones.

    Raises:
        ArtefactError: no run there, or one without tokens.
    """
    if options.tokens_from is None:
        make_up(options.vocabulary, options.max_length, scratch)
        tokens, folder, note = scratch / "tokens", scratch / "tokenizer", "made-up tokens"
    else:
        run = open_run(options.tokens_from).folder
        tokens = stage_folder(run, "tokens") / "train"
        folder, note = stage_folder(run, "tokenizer"), f"tokens of {run}"
    return load(tokens, folder, options.max_length, options.batch_tokens, scratch / "bins", note)


def load(
    tokens: Path, folder: Path, max_length: int, batch_tokens: int, scratch: Path, note: str = ""
) -> Data:
    """Open a store and pack it into steps.

    Args:
        tokens: folder of the store.
        folder: of the tokenizer.
        max_length: longest sequence.
        batch_tokens: most tokens in a step.
        scratch: where the packing is kept.
        note: for the records.
    """
    loaded = tokenizer.load(folder)
    special = loaded.num_special_tokens_to_add()
    packing = plan(store.Store.open(tokens), max_length, batch_tokens, special, SEED, scratch)
    return Data(tokens, folder, loaded, packing, f"{note}, vocabulary {len(loaded)}")


def make_up(vocabulary: int, max_length: int, folder: Path, documents: int = DOCUMENTS) -> None:
    """Write a tokenizer and a token store: lengths as in real abstracts, words drawn by Zipf's law."""
    save_tokenizer(vocabulary, max_length, folder / "tokenizer")
    texts = made_up_texts(vocabulary - len(SPECIALS), documents)
    store.build(texts, folder / "tokenizer", folder / "tokens", processes=1, quiet=True)


def save_tokenizer(vocabulary: int, max_length: int, folder: Path) -> None:
    """A tokenizer whose words are hexadecimal numbers."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = list(SPECIALS.values())
    words = [*names, *(f"{number:x}" for number in range(vocabulary - len(names)))]
    ids = {word: number for number, word in enumerate(words)}
    backend = Tokenizer(models.WordLevel(ids, unk_token=SPECIALS["unk_token"]))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    begin, end = SPECIALS["cls_token"], SPECIALS["sep_token"]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}", special_tokens=[(name, ids[name]) for name in (begin, end)]
    )
    backend.add_special_tokens(names)
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **SPECIALS,
    )
    folder.mkdir(parents=True, exist_ok=True)
    made.save_pretrained(folder)


def made_up_texts(words: int, documents: int) -> Iterator[tuple[str, str]]:
    """(id, text) of documents: hexadecimal numbers, as many words and as often as in real abstracts."""
    generator = np.random.default_rng(SEED)
    lengths = np.interp(generator.random(documents), SHARES, LENGTHS).round().astype(int)
    for number, length in enumerate(lengths):
        # The rank of a word drawn by Zipf's law (exponent 1) is uniform in its logarithm.
        ranks = (words ** generator.random(length)).astype(int) - 1
        yield str(number), " ".join(f"{rank:x}" for rank in ranks)
