"""Predictions of a fine-tuned stock model: texts, pairs or words in; labels, scores or spans out.

Inputs are read in chunks and each chunk is packed by length, so memory stays bounded however long the stream
is, and no time goes into padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from wellread import files
from wellread.compress import early_exit
from wellread.compress.prune import store as pruned
from wellread.errors import ArtefactError, UserError
from wellread.finetune import classifier, comparison, encode, objective, similarity
from wellread.finetune.data import HEADS, PAIRED
from wellread.finetune.head import NOTES, Head
from wellread.finetune.light import stored
from wellread.models import build, cct
from wellread.serve.engines import engine as engines
from wellread.serve.engines.engine import Engine, is_engine
from wellread.serve.engines.formats import ENGINES
from wellread.serve.inputs import check, examples
from wellread.settings import AnswerSettings, FinetuneSettings
from wellread.tasks.examples import TOKEN
from wellread.tasks.task import Kind
from wellread.tokens import tokenizer as tokenizers
from wellread.workers import cores

CHUNK = 512  # inputs that are held at a time
CHUNK_CHARACTERS = 2_000_000  # of them all, from which on none is added
COMMITTEE = "committee.json"  # of several models that answer together (compress/distil/committee.py)
THRESHOLD = 0.5  # from this probability on, a label of a multilabel task is given

T = TypeVar("T")
_KINDS: dict[str | None, Kind] = {"multi_label_classification": "multilabel", "regression": "regress"}


@dataclass(frozen=True)
class Predictor:
    """A fine-tuned stock model, ready to predict.

    Attributes:
        model: with packed attention, in evaluation mode; or an engine.
        tokenizer: of the model.
        kind: of the task that it was fine-tuned on, as its configuration tells.
        labels: names of its outputs.
        max_length: longest input in tokens.
        head: how the model is asked, and how its answer is read.
        iob2: whether its tags are known to be IOB2, as those of all models that Wellread trains.
    """

    model: Any
    tokenizer: Any
    kind: Kind
    labels: tuple[str, ...]
    max_length: int
    head: Head
    iob2: bool = True

    @staticmethod
    def load(folder: str | Path, engine: str | None = None, threads: int | None = None) -> Predictor:
        """Load a model folder: safetensors, JSON and graphs only, nothing in it is run.

        Args:
            folder: of a fine-tuned model, or one that was exported for an engine.
            engine: "torch", "onnx" or "openvino"; default what the folder was exported for, else torch.
            threads: of onnx and openvino, as many batches side by side; default all cores.

        Raises:
            ArtefactError: no model there, a damaged or unsafe one, or one that has not learnt to give labels.
            UserError: an engine that is unknown, not installed, or not in the folder.
        """
        folder = Path(folder)
        if engine not in (None, *ENGINES):
            raise UserError(
                f"there is no engine {engine!r}", where="--engine", fix=f"one of: {', '.join(ENGINES)}"
            )
        if engine != "torch" and (engine or is_engine(folder)):
            return _exported(folder, engine, threads or cores())
        if is_engine(folder) and not any(folder.glob("*.safetensors")):
            raise UserError(
                "the folder was exported without the checkpoint that torch needs",
                where=str(folder),
                fix="use another --engine, or export it with --format transformers as well",
            )
        if cct.is_folder(folder):
            return _compact(folder)
        if (folder / COMMITTEE).exists():
            from wellread.compress.distil import committee

            return committee.load(folder)
        return _stock(folder)

    def predict(self, inputs: Iterable[Any]) -> Iterator[dict[str, Any]]:
        """Predict, in order, chunk by chunk.

        The first answer comes when 512 inputs have been taken, or 2 million characters, or all there are; and
        so on.

        Args:
            inputs: strings, or pairs of strings, or dictionaries of "text", "options" (a list of strings)
                and perhaps "text_pair"; for a model of tags strings or lists of words.

        Yields:
            For each input a dictionary, by kind of task:
            classify {"label", "probability", "probabilities": {label: probability}};
            multilabel {"labels", "probabilities"}; regress {"score"};
            tag {"spans": [{"start", "end", "label", "text", "probability"}]} with character offsets, and for
            lists of words {"tags", "spans"} with word numbers for start and end.
            {"truncated": true} besides where a text was too long for the model.

        Raises:
            DataError: an input is none of these, naming its number.
        """
        before = 0
        for chunk in chunks(inputs):
            for number, value in enumerate(chunk, before + 1):
                check(value, self.kind, f"input {number}")
            yield from self._tags(chunk) if self.kind == "tag" else self._sequences(chunk)
            before += len(chunk)

    def _sequences(self, chunk: list[Any]) -> Iterator[dict[str, Any]]:
        encoded = self.head.encode(examples(chunk, self.kind), self.max_length)
        rows = objective.scores(self.kind, self.head.logits(self.model, encoded))
        for row, truncated in zip(rows.tolist(), encoded.truncated, strict=True):
            yield {**self._labels(row), **({"truncated": True} if truncated else {})}

    def _labels(self, row: list[float]) -> dict[str, Any]:
        if self.kind == "regress":
            return {"score": row[0]}
        probabilities = dict(zip(self.labels, row, strict=True))
        if self.kind == "multilabel":
            chosen = [label for label, value in probabilities.items() if value >= THRESHOLD]
            return {"labels": chosen, "probabilities": probabilities}
        best = max(range(len(row)), key=row.__getitem__)
        return {"label": self.labels[best], "probability": row[best], "probabilities": probabilities}

    def _tags(self, chunk: list[Any]) -> Iterator[dict[str, Any]]:
        found = [list(TOKEN.finditer(value)) if isinstance(value, str) else None for value in chunk]
        words = [
            [match.group() for match in matches] if matches is not None else list(value)
            for matches, value in zip(found, chunk, strict=True)
        ]
        encoded = encode.sentences(self.tokenizer, words, self.max_length)
        logits = self.head.logits(self.model, encoded)
        tags = objective.tags(self.labels, logits, encoded, [len(row) for row in words], iob2=self.iob2)
        sure = [np.ones(len(row)) for row in words]  # a word that the model never sees is surely outside
        owners, numbers = objective.word_inputs(encoded), encoded.word_numbers
        for owner, number, values in zip(owners, numbers, objective.scores("tag", logits), strict=True):
            tag = tags[owner][number]
            chosen = self.iob2 and tag in self.labels  # else it may have been mended
            sure[owner][number] = values[self.labels.index(tag)] if chosen else values.max()
        for value, matches, row, probability in zip(chunk, found, tags, sure, strict=True):
            if matches is None:
                yield {"tags": row, "spans": [_span(*span, probability) for span in spans(row)]}
                continue
            results = []
            for begin, end, label in spans(row):
                start, stop = matches[begin].start(), matches[end - 1].end()
                span = _span(begin, end, label, probability)
                results.append({**span, "start": start, "end": stop, "text": value[start:stop]})
            yield {"spans": results}


def chunks(inputs: Iterable[T], texts_of: Callable[[T], Any] = lambda one: one) -> Iterator[list[T]]:
    """Inputs in lists of :data:`CHUNK`, or of fewer where they are long.

    Args:
        inputs: of any shape.
        texts_of: what :meth:`Predictor.predict` takes of one of them.
    """
    chunk: list[T] = []
    characters = 0
    for one in inputs:
        chunk.append(one)
        characters += _characters(texts_of(one))
        if len(chunk) >= CHUNK or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _characters(value: Any) -> int:
    """Of all texts of an input; what is none has not been refused yet, and counts for nothing."""
    parts = list(value.values()) if isinstance(value, dict) else value
    if isinstance(parts, str):
        return len(parts)
    if not isinstance(parts, (list, tuple)):
        return 0
    texts = [one for part in parts for one in (part if isinstance(part, list) else [part])]
    return sum(len(text) for text in texts if isinstance(text, str))


def _exported(folder: Path, engine: str | None, threads: int) -> Predictor:
    """A folder that was exported for an engine; so many batches side by side."""
    graph, facts = engines.load(folder, engine, workers=threads)
    kind, labels, tokenizer = facts["kind"], tuple(facts["labels"]), tokenizers.load(folder)
    head = classifier.head(kind, labels, tokenizer)
    predictor = Predictor(
        None, tokenizer, kind, labels, facts["max_length"], head, iob2=facts.get("iob2", True)
    )
    return with_engine(predictor, graph)


def with_engine(predictor: Predictor, engine: Engine) -> Predictor:
    """The same predictor with its logits from an engine."""
    head = replace(predictor.head, logits=lambda model, encoded: model.logits(encoded))
    return replace(predictor, model=engine, head=head)


def _stock(folder: Path) -> Predictor:
    """A stock checkpoint, and what a method may have left beside it."""
    config = build.load_config(folder)
    if (folder / files.MANIFEST).exists():
        files.check(folder)
    name = (getattr(config, "architectures", None) or [""])[0]
    tokenizer = tokenizers.load(folder)
    if name.endswith(("ForMaskedLM", "LMHeadModel", "ForCausalLM")) and (folder / NOTES).exists():
        labels, head = _answering(folder, tokenizer)
        model = stored.load(folder, "mlm" if name.endswith("ForMaskedLM") else "clm").eval()
        return Predictor(model, tokenizer, "classify", labels, _length(folder, config, tokenizer), head)
    kind = _kind(config, name, folder)
    if (folder / NOTES).exists():
        return _paired(folder, config, tokenizer)
    reader = pruned if pruned.is_pruned(folder) else stored
    model = reader.load(folder, "tag" if kind == "tag" else "classify").eval()
    labels = build.labels_of(config)
    head = classifier.head(kind, labels, tokenizer)
    if early_exit.is_early(folder):
        head = early_exit.load(folder, model, head, kind)
    ours = (folder / files.MANIFEST).exists()
    return Predictor(model, tokenizer, kind, labels, _length(folder, config, tokenizer), head, iob2=ours)


def _length(folder: Path, config: Any, tokenizer: Any) -> int:
    """Of the longest input: as in fine-tuning, and never more than there are positions."""
    return min(build.longest(config) - stored.positions(folder), tokenizer.model_max_length)


def _kind(config: Any, name: str, folder: Path) -> Kind:
    """Of the task that a classifier was fine-tuned on."""
    if name.endswith("ForTokenClassification"):
        return "tag"
    if name.endswith("ForSequenceClassification"):
        return _KINDS.get(config.problem_type, "classify")
    raise ArtefactError(
        f"{name or 'this model'} gives no labels",
        where=str(folder),
        fix="give the folder of a fine-tuned model, or the run folder with --task",
    )


def _answering(folder: Path, tokenizer: Any) -> tuple[tuple[str, ...], Head]:
    """Labels and head of a model that answers in words, from the notes beside it."""
    notes = files.read_json(folder / NOTES)
    try:
        labels = tuple(map(str, notes["labels"]))
        words = tuple((label, notes["words"][label]) for label in labels)
        settings = AnswerSettings(
            template=notes["template"], words=words, normalise=notes.get("normalise", "none")
        )
        make = HEADS[notes["head"]]
    except (KeyError, TypeError, ValueError):
        raise ArtefactError(
            "template and words cannot be read",
            where=str(folder / NOTES),
            fix="restore the folder from its source",
        ) from None
    given = FinetuneSettings(answer=settings, light=stored.settings_of(folder))
    return labels, make("classify", labels, tokenizer, given)


def _paired(folder: Path, config: Any, tokenizer: Any) -> Predictor:
    """A model that reads the texts of a pair apart."""
    name, line = files.read_json(folder / NOTES).get("head"), getattr(config, "similarity", None)
    if name not in PAIRED or (name == similarity.NAME and not isinstance(line, list)):
        raise ArtefactError(
            "how it compares texts cannot be read",
            where=str(folder / NOTES),
            fix="restore the folder from its source",
        )
    labels = build.labels_of(config)
    model: Any = stored.load(folder, "classify").eval()
    if name == comparison.NAME:
        comparison.load(model, folder)
    head = HEADS[name](PAIRED[name], labels, tokenizer)
    return Predictor(model, tokenizer, PAIRED[name], labels, _length(folder, config, tokenizer), head)


def _compact(folder: Path) -> Predictor:
    """A CCT, which is no stock model."""
    build.refuse_code(folder)
    model: Any = cct.load(folder)
    tokenizer = tokenizers.load(folder)
    kind = _KINDS.get(model.config.problem_type, "classify")
    labels = build.labels_of(model.config)
    head = classifier.head(kind, labels, tokenizer)
    return Predictor(model, tokenizer, kind, labels, build.longest(model.config, tokenizer), head)


def spans(tags: list[str]) -> list[tuple[int, int, str]]:
    """Spans as (first word, word after the last, label) in valid IOB2 tags."""
    found: list[tuple[int, int, str]] = []
    for number, tag in enumerate(tags):
        if tag.startswith("B-"):
            found.append((number, number + 1, tag[2:]))
        elif tag.startswith("I-") and found:
            begin, _, label = found[-1]
            found[-1] = (begin, number + 1, label)
    return found


def _span(begin: int, end: int, label: str, probability: np.ndarray) -> dict[str, Any]:
    return {
        "start": begin,
        "end": end,
        "label": label,
        "probability": float(probability[begin:end].mean()),
    }
