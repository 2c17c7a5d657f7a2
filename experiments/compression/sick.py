"""SICK's entailment pairs as a labelled folder: train, dev and test as published.

python experiments/compression/sick.py SICK_FOLDER OUT
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

SPLITS = {"train": "SICK_train.txt", "dev": "SICK_trial.txt", "test": "SICK_test_annotated.txt"}


def main(source: Path, target: Path) -> None:
    """Write train.jsonl, dev.jsonl and test.jsonl."""
    target.mkdir(parents=True, exist_ok=True)
    for split, name in SPLITS.items():
        with (source / name).open(encoding="utf-8") as lines, (target / f"{split}.jsonl").open("w") as out:
            for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
                example = {
                    "id": row["pair_ID"],
                    "text": row["sentence_A"],
                    "text_pair": row["sentence_B"],
                    "label": row["entailment_judgment"].strip(),
                }
                out.write(json.dumps(example) + "\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
