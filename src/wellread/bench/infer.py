"""Predictions in alternation: latency by batch and length, and documents a second on a file."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wellread.bench import contenders, machine, measure
from wellread.bench.contenders import BASELINE, Answer
from wellread.bench.data import SEED, SPECIALS, made_up_texts, save_tokenizer
from wellread.bench.infer_options import InferOptions
from wellread.bench.machine import Machine
from wellread.bench.measure import Call, Record, Timing, alternate, as_baseline, compared, record
from wellread.bench.options import HEAD
from wellread.errors import DataError, UserError
from wellread.models import build, heads
from wellread.progress import Progress
from wellread.serve.inputs import read_texts
from wellread.settings import ModelSettings
from wellread.tokens import tokenizer as tokenizers
from wellread.workers import tokenizer_threads, torch_threads

VOCABULARY, MAX_LENGTH = 16384, 512
LABELS = ("a", "b", "c")
LONG = 4096  # tokens of a call from which on fewer pairs are counted
WARMUP = 2
FILE_ROUNDS = 3
SETTLE = 0.02  # seconds before each call, for the threads of the one before to stop waiting for work
CALIBRATION = 100  # texts


@dataclass(frozen=True)
class Work:
    """What all contenders are given.

    Attributes:
        model: folder of the fine-tuned model.
        tokenizer: of the model.
        max_length: longest input in tokens.
        shape: of the model, for the records.
        documents: texts of the file.
        note: for the records.
    """

    model: Path
    tokenizer: Any
    max_length: int
    shape: str
    documents: list[str]
    note: str


def run(options: InferOptions, keep: Callable[[list[Record]], None] = lambda _: None) -> list[Record]:
    """Measure what the options ask for.

    Args:
        options: what to measure.
        keep: called after each part with all records so far, for whoever interrupts the rest.

    Returns:
        Records with the keys of :data:`wellread.bench.measure.KEYS`, those of the machine first.

    Raises:
        UserError: a GPU would take the predictions, a length is beyond the model, or there are no documents.
    """
    if torch.cuda.is_available():
        what = "the figures are of the CPU, but torch would use the GPU"
        raise UserError(what, fix="hide it: set the environment variable CUDA_VISIBLE_DEVICES to nothing")
    machines: dict[int, Machine] = {}
    found: list[Record] = []
    with tempfile.TemporaryDirectory(prefix="wellread-bench-") as scratch:
        work = prepare(options, Path(scratch))
        folders = contenders.export(
            work.model, options.contenders, work.documents[:CALIBRATION], Path(scratch)
        )
        for threads in options.threads:
            with torch_threads(threads), tokenizer_threads(threads):
                machines[threads] = machine.look()
                for part in ("latency", "file"):
                    if part in options.parts:
                        found += _watched(part, options, work, folders, threads)
                        keep(machine.records(machines) + found)
    return machine.records(machines) + found


def prepare(options: InferOptions, scratch: Path) -> Work:
    """Model and documents: those given, else made up."""
    model = options.model or _make_up_model(options, scratch)
    config, tokenizer = build.load_config(model), tokenizers.load(model)
    max_length = build.longest(config, tokenizer)
    if max(options.lengths) > max_length:
        raise UserError(
            f"the model reads {max_length} tokens", where="--lengths", fix=f"ask for {max_length} at most"
        )
    if options.texts is None:
        documents = [text for _, text in made_up_texts(VOCABULARY - len(SPECIALS), options.documents)]
        source = "made-up documents"
    else:
        documents = list(islice(read_texts(str(options.texts)), options.documents))
        source = f"documents of {options.texts.name}"
    if not documents:
        raise DataError("there are no documents", where=str(options.texts), fix="give one text a line")
    shape = f"{config.num_hidden_layers}x{config.hidden_size}"
    note = f"{config.model_type}, {'made up' if options.model is None else model.name}; {source}"
    return Work(model, tokenizer, max_length, shape, documents, note)


def _make_up_model(options: InferOptions, scratch: Path) -> Path:
    layers, hidden = options.shape
    settings = ModelSettings(
        layout=options.layout,
        layers=layers,
        hidden=hidden,
        heads=max(1, hidden // HEAD),
        max_length=MAX_LENGTH,
    )
    save_tokenizer(VOCABULARY, MAX_LENGTH, scratch / "tokenizer")
    tokenizer = tokenizers.load(scratch / "tokenizer")
    made = heads.task_model(settings, tokenizer, "classify", LABELS, 0.0, SEED)
    build.save(made, tokenizer, scratch / "model")
    return scratch / "model"


def _watched(
    part: str, options: InferOptions, work: Work, folders: dict[str, Path], threads: int
) -> list[Record]:
    measuring = {"latency": time_answers, "file": _time_file}[part]
    answers = contenders.make(work.model, options.contenders, folders, threads, side_by_side=part == "file")
    others = len(answers) - 1
    if part == "latency":
        tokens = latency_tokens(options, others)
    else:
        tokens = _with_warmup(_file_rounds(options)) * others * _file_tokens(work)
    with Progress(f"bench {part}, {threads} thread(s)", tokens, "tokens", quiet=options.quiet) as progress:
        return measuring(options, work, answers, threads, progress.advance)


def latency_tokens(options: InferOptions, others: int) -> int:
    """Tokens that :func:`time_answers` advances by, with so many beside the baseline.

    Pairs of calls differ by a factor of hundreds in their time; tokens tell what is left.
    """
    return sum(
        _with_warmup(_rounds(options, batch, length)) * others * batch * length
        for batch in options.batches
        for length in options.lengths
    )


def _rounds(options: InferOptions, batch: int, length: int) -> int:
    """Counted pairs of a batch of texts of a length."""
    return options.rounds if batch * length <= LONG else max(3, options.rounds // 5)


def _file_rounds(options: InferOptions) -> int:
    return min(options.rounds, FILE_ROUNDS)


def _with_warmup(rounds: int) -> int:
    return rounds + min(rounds, WARMUP)


def _file_tokens(work: Work) -> int:
    return _tokens(work.tokenizer, work.documents, work.max_length)


def _tokens(tokenizer: Any, texts: Sequence[str], longest: int) -> int:
    """Tokens of some texts, of none more than the model reads."""
    return sum(min(longest, len(row)) for row in tokenizer(list(texts), verbose=False)["input_ids"])


def time_answers(
    options: InferOptions,
    work: Work,
    answers: dict[str, Answer],
    threads: int,
    advance: Callable[[int], None],
) -> list[Record]:
    """Latency of some ways to get from texts to logits, against the one named :data:`BASELINE`."""
    found = []
    for length in options.lengths:
        for batch in options.batches:
            batches = _texts_of_length(work, length, batch)
            rounds = _rounds(options, batch, length)
            common = {"shape": work.shape, "batch": batch, "length": length, "note": work.note}
            calls = {
                name: _call(answer, batches, work.tokenizer, work.max_length)
                for name, answer in answers.items()
            }
            found += _compared("latency", calls, rounds, threads, common, partial(advance, batch * length))
    return found


def _time_file(
    options: InferOptions,
    work: Work,
    answers: dict[str, Answer],
    threads: int,
    advance: Callable[[int], None],
) -> list[Record]:
    """Each of them on the whole file."""
    common = {"shape": work.shape, "batch": len(work.documents), "length": work.max_length, "note": work.note}
    calls = {
        name: _call(answer, [work.documents], work.tokenizer, work.max_length)
        for name, answer in answers.items()
    }
    return _compared(
        "file", calls, _file_rounds(options), threads, common, partial(advance, _file_tokens(work))
    )


def _compared(
    part: str,
    calls: dict[str, Call],
    rounds: int,
    threads: int,
    common: dict[str, Any],
    advance: Callable[[], None],
) -> list[Record]:
    """Records of the baseline and of each contender against it."""
    others = {name: call for name, call in calls.items() if name != BASELINE}
    pairs = alternate(calls[BASELINE], others, rounds=rounds, warmup=min(rounds, WARMUP), advance=advance)
    first = [before[part] for of_one in pairs.values() for before, _ in of_one]
    found = [
        record(part, BASELINE, part, threads, **common, **as_baseline(pairs, part), **_more(first, common))
    ]
    for name, of_one in pairs.items():
        figures = compared(of_one, part) | _more([after[part] for _, after in of_one], common)
        found.append(record(part, name, part, threads, against=BASELINE, **common, **figures))
    return found


def _more(timings: Sequence[Timing], common: dict[str, Any]) -> dict[str, Any]:
    seconds = [timing.seconds for timing in timings]
    return {
        "p95_seconds": float(np.quantile(seconds, 0.95)),
        "documents_per_second": common["batch"] / float(np.median(seconds)),
    }


def _call(answer: Answer, batches: Sequence[Sequence[str]], tokenizer: Any, longest: int) -> Call:
    """A call of :func:`wellread.bench.measure.alternate`: the texts of a round, from text to logits."""
    counts = [_tokens(tokenizer, texts, longest) for texts in batches]

    def call(number: int) -> dict[str, Timing]:
        texts = batches[number % len(batches)]
        time.sleep(SETTLE)
        began = measure.clock()
        answer(texts)
        timing = Timing(measure.clock() - began, counts[number % len(batches)], 0.0)
        return {"latency": timing, "file": timing}

    return call


def _texts_of_length(work: Work, length: int, batch: int, different: int = 4) -> list[list[str]]:
    """A few batches of texts that have as many tokens as whole words allow, special tokens included."""
    words = [word for text in work.documents for word in text.split()]
    draw = np.random.default_rng((SEED, length, batch))
    room = length - work.tokenizer.num_special_tokens_to_add()
    found = []
    for _ in range(different * batch):
        begin = int(draw.integers(len(words)))
        some = [words[(begin + number) % len(words)] for number in range(max(1, room))]
        text = " ".join(some)
        cut = work.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        offsets = cut["offset_mapping"]
        if len(offsets) > room > 0:
            end = offsets[room][0]  # where the first token begins that has no room
            text = text[:end].rsplit(" ", 1)[0] if end and text[end - 1] != " " else text[:end].rstrip()
        found.append(text)
    return [found[begin : begin + batch] for begin in range(0, len(found), batch)]
