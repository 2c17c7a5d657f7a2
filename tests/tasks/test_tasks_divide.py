"""One published file divided: near copies stay together, contradictions go, labels are shared out alike."""

import random
from collections import Counter
from pathlib import Path

from wellread.tasks.divide import divide
from wellread.tasks.known import read_known
from wellread.tasks.rows import Row
from wellread.tasks.task import SPLITS

WORDS = [f"word{number}" for number in range(300)]


def text(seed: int, change: int = 0) -> str:
    words = random.Random(seed).sample(WORDS, 60)
    words[:change] = ["changed"] * change
    return " ".join(words)


def rows(*given: tuple[str, str]) -> list[Row]:
    return [
        Row(Path("f.csv"), line, {"text": words, "label": label})
        for line, (words, label) in enumerate(given, 2)
    ]


def test_splits() -> None:
    plain = [(text(seed), "a" if seed % 4 else "b") for seed in range(100)]
    copies = [(text(seed, 1), "a" if seed % 4 else "b") for seed in range(20)]
    clash = [(text(99, 1), "a" if plain[99][1] == "b" else "b")]
    splits, facts = divide(rows(*plain, *copies, *clash), {"dev": 0.2, "test": 0.3})
    assert facts == {"left_out_under_two_labels": 2}
    assert sum(map(len, splits.values())) == 119
    place = {row.values["text"]: split for split, found in splits.items() for row in found}
    assert all(place[text(seed)] == place[text(seed, 1)] for seed in range(20))
    assert text(99) not in place
    counts = {split: Counter(row.values["label"] for row in found) for split, found in splits.items()}
    assert 3 <= counts["dev"]["b"] <= 7 and 5 <= counts["test"]["b"] <= 10
    again, _ = divide(rows(*plain, *copies, *clash), {"dev": 0.2, "test": 0.3})
    assert again == splits


def test_a_known_task_of_one_file(tmp_path: Path) -> None:
    lines = ["label,description,text"]
    lines += [f'{1 + seed % 4}, a note ,"{text(seed)}"' for seed in range(40)]
    lines += [f'2, a note ,"{text(0)}"']
    (tmp_path / "test.csv").write_text("\n".join(lines), encoding="utf-8")
    task = read_known("mtsamples", tmp_path)
    assert task.kind == "classify" and task.metric == "macro_f1"
    assert task.labels == ("Surgery", "Medical Records", "Internal Medicine", "Other")
    assert task.facts["left_out_under_two_labels"] == 2
    assert [len(task.splits[split]) for split in SPLITS] == [20, 8, 11]
    ids = {example.id for split in SPLITS for example in task.splits[split]}
    assert len(ids) == 39
