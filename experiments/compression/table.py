"""The results as Markdown and JSON.

python experiments/compression/table.py RESULTS.json ... FOLDER     # results of several runs on one page
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from wellread import files

PUBLISHED = """\
| paper | published | ours |
|---|---|---|
| Q-BERT (1909.05840), 2/3 bit, BERT-base | parameters 13x smaller, at most 2.3 points lost | {qbert} |
| BiBERT (2203.06390), BERT-base | 31.2x smaller, 56.3x fewer FLOPs; GLUE 83.9 to 63.2 | {bibert} |
| Pre-trained Distillation (1908.08962) | distilled > fine-tuned > distilled from random | {distilled} |
"""

READING = "## Reading"  # what stands below this line of the page is written by hand, and kept
LIMITS = {
    "steps": "trainings of at most {} steps",
    "student_steps": "{} of a student, distilled and then fine-tuned",
    "most": "{} examples of dev and of test",
    "max_length": "inputs cut at {} tokens",
}


def write(folder: Path, found: list[dict[str, Any]]) -> None:
    """Write compression.md and compression.json; what is below the page's "Reading" stays."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "compression.md"
    kept = page.read_text("utf-8").partition(READING)[2] if page.exists() else ""
    files.write_json(folder / "compression.json", found)
    parts = [
        "# Compression",
        "",
        "Scores on test, times 100, mean and standard deviation of the seeds where a method learns; lost "
        "against the model itself; size of weights and graphs; speed against plain transformers in fp32, the "
        "geometric mean over batches and lengths.",
    ]
    for subject in found:
        parts += ["", *of_subject(subject)]
    parts += ["", "## Published ratios beside ours", "", published(found).rstrip()]
    if kept:
        parts += ["", READING + kept.rstrip()]
    files.write_bytes(page, ("\n".join(parts) + "\n").encode())


def conditions(subject: dict[str, Any]) -> str:
    """What the trainings and the scores of a subject were limited to."""
    told = [f"{subject['seeds']} seeds", f"{subject['threads']} thread(s) of {subject['machine']}"]
    for key, words in LIMITS.items():
        if subject.get(key):
            told.append(words.format(subject[key]))
    return "; ".join(told) + "."


def of_subject(subject: dict[str, Any]) -> list[str]:
    rows, base = subject["rows"], subject["rows"][0]
    shapes = [(one["batch"], one["length"]) for one in base["latency"]]
    heads = ["method", subject["metric"], "lost", "same decision", "MB", "smaller", "speed"]
    heads += [f"{batch} x {length}, ms p50 / p95" for batch, length in shapes]
    lines = [f"## {subject['task']} ({subject['kind']})", "", conditions(subject), ""]
    lines += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in rows:
        spread = f" ± {row['std']:.2f}" if row["std"] is not None else ""
        cells = [row["name"], f"{row['score']:.2f}{spread}", f"{row['drop']:.2f}", f"{row['agreement']:.1%}"]
        cells += [f"{row['bytes'] / 1e6:.2f}", f"{base['bytes'] / row['bytes']:.1f}x"]
        cells.append("" if row["speed"] is None else f"{row['speed']:.2f}x")
        cells += [f"{one['p50_ms']:.2f} / {one['p95_ms']:.2f}" for one in row["latency"]] or [""] * len(
            shapes
        )
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def published(found: list[dict[str, Any]]) -> str:
    return PUBLISHED.format(
        qbert=ours(found, "2-3bit+aware"),
        bibert=ours(found, "binary"),
        distilled=ours(found, "distilled") + "; order: distillation.md",
    )


def ours(found: list[dict[str, Any]], name: str) -> str:
    told = []
    for subject in found:
        for row in subject["rows"]:
            if row["name"] == name:
                ratio = subject["rows"][0]["bytes"] / row["bytes"]
                flops = f", {row['flops_ratio']:.1f}x fewer FLOPs" if row.get("flops_ratio") else ""
                told.append(f"{subject['task']}: {ratio:.1f}x smaller{flops}, {row['drop']:.2f} lost")
    return "; ".join(told) or "not run"


if __name__ == "__main__":
    *sources, target = map(Path, sys.argv[1:])
    write(target, [subject for source in sources for subject in files.read_json(source)])
