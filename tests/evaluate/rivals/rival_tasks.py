"""Small tasks of every kind in which there is something to learn."""

from __future__ import annotations

import random

from wellread.evaluate.metrics import default_metric
from wellread.tasks.task import Example, Task

WORDS = [f"word{number}" for number in range(40)]
TELLING = {"a": ["alpha", "apple"], "b": ["beta", "bean"], "c": ["gamma", "grape"]}


def example(kind: str, number: int, generator: random.Random) -> Example:
    words = generator.choices(WORDS, k=6)
    names = sorted(generator.sample("abc", 1 if kind == "classify" else generator.randint(0, 2)))
    if kind == "pairs":
        other = [word if generator.random() < number % 10 / 9 else generator.choice(WORDS) for word in words]
        same = len(set(words) & set(other)) / len(set(words) | set(other))
        return Example(f"e{number}", " ".join(words), float(same), text_pair=" ".join(other))
    if kind == "tag":
        tags = ["O"] * 6
        place = generator.randrange(5)
        words[place : place + 2] = [generator.choice(TELLING["a"]), "gene"]
        tags[place : place + 2] = ["B-Gene", "I-Gene"]
        return Example(f"e{number}", " ".join(words), tuple(tags), tokens=tuple(words))
    words += [generator.choice(TELLING[name]) for name in names]
    if kind == "regress":
        return Example(f"e{number}", " ".join(words), float("b" in names) + 0.1 * generator.random())
    return Example(f"e{number}", " ".join(words), names[0] if kind == "classify" else tuple(names))


def task_of(kind: str, sizes: tuple[int, int, int] = (150, 40, 60)) -> Task:
    generator = random.Random(kind)
    made = [example(kind, number, generator) for number in range(sum(sizes))]
    splits = {
        "train": made[: sizes[0]],
        "dev": made[sizes[0] : sizes[0] + sizes[1]],
        "test": made[sizes[0] + sizes[1] :],
    }
    real = "regress" if kind == "pairs" else kind
    labels = {"tag": ("O", "B-Gene", "I-Gene"), "regress": ("score",)}.get(real, ("a", "b", "c"))
    return Task(kind, real, labels, default_metric(real), splits)  # type: ignore[arg-type]
