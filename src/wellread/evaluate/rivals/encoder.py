"""The rival with a general sentence encoder: frozen embeddings, then logistic regression."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wellread.evaluate.rivals import dense
from wellread.evaluate.rivals.fitted import Examples, Fitted, best
from wellread.finetune import batches, encode
from wellread.models import build, packed
from wellread.tasks.task import Example, Task
from wellread.tokens import tokenizer as tokenizers

MAX_LENGTH = 256  # tokens, as the encoder's authors set it
BATCH_TOKENS = 2048


class Encoder:
    """A stock encoder that embeds texts and words, and remembers the texts it has read.

    Attributes:
        model: with packed attention, in evaluation mode.
        tokenizer: of the model.
        bytes: of the weights on disk.
        saved: seconds that remembering has saved so far.
    """

    def __init__(self, folder: Path) -> None:
        self.model: Any = packed.enable(build.load(folder, None)).eval()
        self.model.to("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer: Any = tokenizers.load(folder)
        self.bytes = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
        self.saved = 0.0
        self._known: dict[Any, np.ndarray] = {}
        self._spent, self._read = 0.0, 0

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """(N, d) float32 mean over the tokens of each text, scaled to length 1."""
        return np.stack(self._remembered(texts, lambda new: list(embed(self.model, self.tokenizer, new))))

    def words(self, sentences: Sequence[tuple[str, ...]]) -> np.ndarray:
        """(words of all sentences, d) float32 state at the first piece of each word; 0 where it has none."""
        found = self._remembered(sentences, lambda new: word_states(self.model, self.tokenizer, new))
        return np.concatenate(found)

    def forget(self) -> dict[Any, np.ndarray]:
        """Begin anew, for a measurement; hands out what was known."""
        known, self._known = self._known, {}
        return known

    def remember(self, known: dict[Any, np.ndarray]) -> None:
        """Take back what :func:`forget` gave."""
        self._known = known

    def _remembered(self, inputs: Sequence[Any], function: Any) -> list[np.ndarray]:
        new = [one for one in dict.fromkeys(inputs) if one not in self._known]
        self.saved += (len(inputs) - len(new)) * self._spent / max(1, self._read)
        if new:
            began = time.perf_counter()
            self._known.update(zip(new, function(new), strict=True))
            self._spent += time.perf_counter() - began
            self._read += len(new)
        return [self._known[one] for one in inputs]


def fit(task: Task, train: list[Example], encoder: Encoder) -> Fitted:
    """The logistic regression of the grid that is best on dev."""
    return best(
        task,
        dense.candidates(task, train, lambda examples: embeddings(task, examples, encoder), encoder.bytes),
    )


def read(task: Task, train: Examples, encoder: Encoder) -> None:
    """Let the encoder forget what it knows and read all that a task's units will ask for.

    The last bits of an embedding depend on what stands beside it in a batch where torch has several threads.
    If each unit embedded what is new to it, they would depend on what this process did before: on the tasks
    and units that an interrupted run had left to do.
    """
    encoder.forget()
    embeddings(task, [*train, *task.splits["dev"], *task.splits["test"]], encoder)


def embeddings(task: Task, examples: Examples, encoder: Encoder) -> np.ndarray:
    """(N, d') features of texts or pairs; for tag (words of all examples, d)."""
    if task.kind == "tag":
        return encoder.words([example.tokens for example in examples])
    first = encoder.texts([example.text for example in examples])
    if all(example.second is None for example in examples):
        return first
    second = encoder.texts([example.second or "" for example in examples])
    return dense.pair_features(first, second, task.kind)


@torch.inference_mode()
def embed(model: Any, tokenizer: Any, texts: Sequence[str], max_length: int = MAX_LENGTH) -> np.ndarray:
    """Mean-pooled, normalised embeddings: (N, d) float32.

    Args:
        model: an encoder with packed attention, in evaluation mode.
        tokenizer: of the model.
        texts: N texts; longer ones than ``max_length`` tokens are cut.
        max_length: in tokens, special tokens included.
    """
    encoded = encode.texts(tokenizer, texts, None, max_length)
    found = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
    for index in batches.by_length(encoded.lengths, BATCH_TOKENS):
        found[index] = pooled(model, encoded, index).float().cpu().numpy()
    return found


def pooled(model: Any, encoded: encode.Encoded, index: np.ndarray) -> Tensor:
    """(B, d) embeddings of some sequences, with gradients where they are wanted."""
    batch = batches.select(encoded, index)[0].to(next(model.parameters()).device)
    hidden = packed.hidden_states(model, batch)
    means = torch.stack([part.mean(0) for part in hidden.split(batch.lengths)])
    return torch.nn.functional.normalize(means, dim=-1)


@torch.inference_mode()
def word_states(model: Any, tokenizer: Any, sentences: Sequence[tuple[str, ...]]) -> list[np.ndarray]:
    """For each sentence (words, d) float32."""
    encoded = encode.sentences(tokenizer, sentences, MAX_LENGTH)
    rows = [np.zeros((len(words), model.config.hidden_size), dtype=np.float32) for words in sentences]
    owner = np.repeat(encoded.inputs, np.diff(encoded.word_offsets))
    device = next(model.parameters()).device
    for index in batches.by_length(encoded.lengths, BATCH_TOKENS):
        batch, places, words = batches.select(encoded, index)
        hidden = packed.hidden_states(model, batch.to(device)).float().cpu().numpy()
        for place, word in zip(places.tolist(), words.tolist(), strict=True):
            rows[owner[word]][encoded.word_numbers[word]] = hidden[place]
    return rows
