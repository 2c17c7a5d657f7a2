"""Tiny learnable tasks of every kind, a tokenizer for them and small models: generated, never downloaded."""

from __future__ import annotations

import random
from pathlib import Path

from wellread.evaluate.metrics import default_metric
from wellread.settings import FinetuneSettings, ModelSettings, TokenizerSettings
from wellread.tasks.task import Example, Task
from wellread.tokens import tokenizer as tokenizers

FILLER = ["the", "of", "in", "patients", "with", "study", "results", "were", "was", "treated", "group"]
FILLER += ["showed", "effect", "cell", "dose"]
DRUGS = ["aspirin", "ibuprofen", "warfarin", "metformin"]
GENES = ["brca1", "tp53", "egfr", "kras-2"]
KINDS = ("classify", "multilabel", "regress", "tag")
LAYOUTS = ("modernbert", "bert", "llama", "gpt2")


def make_tokenizer(folder: Path, *, causal: bool = False, kind: str = "wordpiece"):
    words = [*FILLER, *DRUGS, *GENES]
    texts = [" ".join(random.Random(number).sample(words, 12)) for number in range(200)]
    settings = TokenizerSettings(kind=kind, vocab_size=400, min_frequency=1)
    tokenizers.train(texts, settings, folder, causal=causal, max_length=64, quiet=True)
    return tokenizers.load(folder)


def model(layout: str = "modernbert", **changes) -> ModelSettings:
    shape = {
        "layers": 2,
        "hidden": 32,
        "heads": 2,
        "max_length": 64,
        "local_attention": 16,
        "global_every": 2,
    }
    return ModelSettings(layout=layout, **{**shape, **changes})


def settings(**changes) -> FinetuneSettings:
    quick = {
        "seeds": (0, 1),
        "epochs": 6,
        "min_steps": 60,
        "batch": 16,
        "learning_rate": 3e-3,
        "evaluations": 4,
    }
    return FinetuneSettings(**{**quick, "evaluations": 4, **changes})


def task(kind: str, train: int = 120, other: int = 40) -> Task:
    labels = {
        "classify": ("drug", "gene", "none"),
        "multilabel": ("drug", "gene"),
        "regress": ("score",),
        "tag": ("O", "B-Drug", "I-Drug", "B-Gene", "I-Gene"),
    }[kind]
    splits = {
        split: [_example(kind, f"{split}-{number}") for number in range(size)]
        for split, size in (("train", train), ("dev", other), ("test", other))
    }
    return Task(f"toy-{kind}", kind, labels, default_metric(kind), splits)


def _example(kind: str, name: str) -> Example:
    draw = random.Random(name)
    words = draw.choices(FILLER, k=draw.randint(3, 14))
    drug, gene = draw.random() < 0.5, draw.random() < 0.5
    if kind == "classify":
        gene = gene and not drug
    tags = ["O"] * len(words)
    for present, names, label in ((drug, DRUGS, "Drug"), (gene, GENES, "Gene")):
        if present:
            place = draw.randrange(len(words) + 1)
            while place < len(tags) and tags[place].startswith("I-"):
                place += 1
            words[place:place] = [draw.choice(names), "extract"]
            tags[place:place] = [f"B-{label}", f"I-{label}"]
    text = " ".join(words)
    if kind == "classify":
        return Example(name, text, "drug" if drug else "gene" if gene else "none")
    if kind == "multilabel":
        return Example(name, text, tuple(n for n, present in (("drug", drug), ("gene", gene)) if present))
    if kind == "regress":
        return Example(name, text, 40.0 + 10 * drug - 5 * gene, text_pair="patients with effect")
    return Example(name, text, tuple(tags), tokens=tuple(words))
