"""What each layer of an encoder still says of its tokens: size of the states, the token, its word, the text.

    python experiments/layers/run.py MODEL_FOLDER ... --tag TASK_FOLDER --classify TASK_FOLDER ...

Linear probes on frozen states, fitted on train and scored on dev; a Markdown table for each model.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.preprocessing import StandardScaler
from transformers import AutoModel

from wellread.guard import guarded
from wellread.progress import say
from wellread.tasks.read import read_task
from wellread.tasks.task import Example, Task
from wellread.tokens import tokenizer as tokenizers

MAX_LENGTH = 128  # tokens
TRAIN, DEV = 1000, 500  # examples of each task, at most
COMMON = 300  # the token's identity is asked for among so many, the commonest
PENALTY = 100.0  # of the ridge regression for it
INVERSE_PENALTY = 0.05  # of the logistic regressions, scikit-learn's C

States = list[np.ndarray]  # a layer each, the embeddings first: (N, d)


def main() -> None:
    """Probe each model and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", type=Path, nargs="+", help="checkpoint folders with their tokenizers")
    parser.add_argument("--tag", type=Path, required=True, help="folder of a task that labels words")
    parser.add_argument(
        "--classify", type=Path, nargs="*", default=[], help="folders of tasks that label texts"
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    tagged = read_task(given.tag, given.tag.name)
    classified = [read_task(folder, folder.name) for folder in given.classify]
    for folder in given.models:
        say(f"probing {folder}")
        print(table(folder, tagged, classified), flush=True)


def table(folder: Path, tagged: Task, classified: Sequence[Task]) -> str:
    """The Markdown table of a model: a line for each layer."""
    encoder, tokenizer = AutoModel.from_pretrained(folder).eval(), tokenizers.load(folder)
    columns = words(encoder, tokenizer, tagged)
    for task in classified:
        columns[f"{task.name}, macro F1"] = texts(encoder, tokenizer, task)
    lines = [f"**{folder}**", "", f"| layer | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for layer, row in enumerate(zip(*columns.values(), strict=True)):
        lines.append(f"| {layer or 'embeddings'} | {' | '.join(f'{value:.1f}' for value in row)} |")
    return "\n".join([*lines, ""])


def words(encoder: Any, tokenizer: Any, task: Task) -> dict[str, list[float]]:
    """By column and layer: what the state at the first piece of a word tells."""
    train, known, entity = _words(encoder, tokenizer, task.splits["train"][:TRAIN])
    dev, asked, truth = _words(encoder, tokenizer, task.splits["dev"][:DEV])
    tokens, counts = np.unique(known, return_counts=True)
    common = tokens[np.argsort(-counts, kind="stable")[:COMMON]]
    found: dict[str, list[float]] = {
        "size": [float(np.sqrt(np.mean(states**2))) for states in train],
        "largest": [float(np.abs(states).max()) for states in train],
        "token, accuracy": [],
        "word in an entity, F1": [],
    }
    for states, others in zip(train, dev, strict=True):
        scaler = StandardScaler().fit(states)
        x, z = scaler.transform(states), scaler.transform(others)
        found["token, accuracy"].append(100 * _identity(x, known, z, asked, common))
        found["word in an entity, F1"].append(100 * float(f1_score(truth, _fitted(x, entity).predict(z))))
    return found


def texts(encoder: Any, tokenizer: Any, task: Task) -> list[float]:
    """By layer: macro F1, in points, of what the mean state of a text tells."""
    train, dev = task.splits["train"][:TRAIN], task.splits["dev"][:DEV]
    layers = zip(_means(encoder, tokenizer, train), _means(encoder, tokenizer, dev), strict=True)
    labels, truth, scores = [one.label for one in train], [one.label for one in dev], []
    for x, z in layers:
        scaler = StandardScaler().fit(x)
        guess = _fitted(scaler.transform(x), labels).predict(scaler.transform(z))
        scores.append(100 * float(f1_score(truth, guess, average="macro")))
    return scores


def _fitted(x: np.ndarray, labels: Any) -> LogisticRegression:
    return LogisticRegression(max_iter=300, C=INVERSE_PENALTY).fit(x, labels)


def _identity(
    x: np.ndarray, known: np.ndarray, z: np.ndarray, asked: np.ndarray, common: np.ndarray
) -> float:
    """Share of dev's common tokens that a ridge regression on their states finds."""
    here, there = np.isin(known, common), np.isin(asked, common)
    wanted = (known[here][:, None] == common).astype(np.float64)
    gram = x[here].T @ x[here] + PENALTY * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x[here].T @ wanted)
    return float((common[(z[there] @ weights).argmax(1)] == asked[there]).mean())


def _words(
    encoder: Any, tokenizer: Any, examples: Sequence[Example]
) -> tuple[States, np.ndarray, np.ndarray]:
    """States at the first piece of each word, that piece, and whether the word is in an entity."""
    found: list[list[np.ndarray]] = []
    pieces: list[int] = []
    entity: list[bool] = []
    for example in examples:
        encoded = tokenizer(
            list(example.tokens), is_split_into_words=True, truncation=True, max_length=MAX_LENGTH
        )
        owners = encoded.word_ids()
        first = [at for at, word in enumerate(owners) if word is not None and owners[at - 1] != word]
        states = _states(encoder, torch.tensor([encoded["input_ids"]]))
        found.append([layer[0, first].numpy() for layer in states])
        pieces += [encoded["input_ids"][at] for at in first]
        entity += [example.label[owners[at]] != "O" for at in first]
    return [np.concatenate(layer) for layer in zip(*found, strict=True)], np.array(pieces), np.array(entity)


def _means(encoder: Any, tokenizer: Any, examples: Sequence[Example]) -> States:
    """The mean state of each text."""
    return [np.stack(layer) for layer in zip(*_mean(encoder, tokenizer, examples), strict=True)]


def _mean(encoder: Any, tokenizer: Any, examples: Sequence[Example]) -> Iterator[list[np.ndarray]]:
    for example in examples:
        encoded = tokenizer(example.text, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
        yield [layer[0].mean(0).numpy() for layer in _states(encoder, encoded["input_ids"])]


@torch.inference_mode()
def _states(encoder: Any, pieces: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The embeddings and what each layer hands on, the last one after its norm: (1, L, d) each."""
    states: tuple[torch.Tensor, ...] = encoder(input_ids=pieces, output_hidden_states=True).hidden_states
    return states


if __name__ == "__main__":
    guarded(main)
