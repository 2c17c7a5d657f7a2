"""Two of the subjects' tasks as labelled folders: OUT/sick and OUT/pubmedqa-conclusions.

python experiments/compression/data.py BENCHMARK_SETS OUT

SICK's entailment pairs: train, dev and test as published.  PubMedQA's questions with the abstract's
conclusion (the "reasoning-free" setting of its paper) in place of the context, official split, fold 0 as
dev: from the context a model of this size learns less than always to say the largest class, and what knows
nothing has nothing to lose by compression.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from wellread.tasks import pubmedqa

SICK = {"train": "SICK_train.txt", "dev": "SICK_trial.txt", "test": "SICK_test_annotated.txt"}
QUESTIONS = {"questions": "ori_pqal.json", "test": "test_ground_truth.json"}


def main(source: Path, target: Path) -> None:
    """Write train.jsonl, dev.jsonl and test.jsonl of both."""
    needed = [found_sick(source) / name for name in SICK.values()]
    needed += [source / "pubmedqa" / name for name in QUESTIONS.values()]
    absent = [path for path in needed if not path.is_file()]
    if absent:
        raise SystemExit(f"Error: no file {absent[0]}; give the folder that holds sts_sick_msr and pubmedqa")
    for split, name in SICK.items():
        write(target / "sick" / f"{split}.jsonl", sick(found_sick(source) / name))
    files = {name: source / "pubmedqa" / file for name, file in QUESTIONS.items()}
    answers = {pmid: one["LONG_ANSWER"] for pmid, one in json.loads(files["questions"].read_bytes()).items()}
    for split, rows in pubmedqa.read(files, fold=0).items():
        examples = ({**row.values, "text_pair": answers[row.values["id"]]} for row in rows)
        write(target / "pubmedqa-conclusions" / f"{split}.jsonl", examples)


def found_sick(source: Path) -> Path:
    """The folder of SICK's files, wherever it lies below the benchmark sets."""
    below = source / "sts_sick_msr"
    return next((path.parent for path in below.rglob(SICK["train"])), below)


def sick(path: Path) -> Iterable[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
            yield {
                "id": row["pair_ID"],
                "text": row["sentence_A"],
                "text_pair": row["sentence_B"],
                "label": row["entailment_judgment"].strip(),
            }


def write(path: Path, examples: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in examples), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(*map(Path, sys.argv[1:]))
