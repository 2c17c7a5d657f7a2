"""A small benchmark folder in the published formats, and a tiny model of another maker's making."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
WORDS = ["the", "of", "in", "patients", "with", "study", "gene", "cell", "dose", "binds", "causes", "and"]
WORDS += ["no", "risk", "was", "shown"]


def sentence(draw: random.Random, sign: str) -> str:
    words = draw.choices(WORDS, k=8)
    words[draw.randrange(8)] = sign
    return " ".join(words)


def write_biosses(folder: Path) -> None:
    """Sizes as official, so that the task is whole."""
    folder.mkdir(parents=True)
    draw = random.Random(0)
    for name, count in (("train", 64), ("dev", 16), ("test", 20)):
        lines = ["pair_id\tsent1\tsent2\tscore"]
        for number in range(count):
            score = draw.randrange(5)
            first, second = sentence(draw, "gene"), sentence(draw, "dose" if score < 2 else "gene")
            lines.append(f"{name}{number}\t{first}\t{second}\t{score}.0")
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")


def write_gad(folder: Path, count: int = 24) -> None:
    """Far fewer than official, so that the task is partial."""
    folder.mkdir(parents=True)
    for name in ("train", "dev", "test"):
        draw = random.Random(name)
        lines = ["index\tsentence\tlabel"]
        for number in range(count):
            label = draw.randrange(2)
            lines.append(f"{number}\t@GENE$ {sentence(draw, ('no', 'causes')[label])} @DISEASE$.\t{label}")
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("blurb")
    write_biosses(folder / "BIOSSES")
    write_gad(folder / "GAD")
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """A BERT as others publish them: pre-training heads, a tokenizer that tells the texts of a pair apart."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertForPreTraining, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("models") / "Tiny_BERT"
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*specials, *WORDS, "@", "$", ".", "disease"]
    core = Tokenizer(
        models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]")
    )
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = dict(
        zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), specials, strict=True)
    )
    PreTrainedTokenizerFast(tokenizer_object=core, **names).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertForPreTraining(config).save_pretrained(folder)
    return folder
