"""Results of earlier sittings in one file, small enough to commit: the comparison goes on from them.

Each line of the file is a run or a calibration, named as its folder is, thus by all that decides it.
Weights are not kept; a run whose weights are needed after all is made again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runs import Study, alone

from wellread import files

Found = dict[tuple[str, str], dict[str, Any]]


def restore(study: Study, path: Path) -> int:
    """Write what the file knows into the study's folder, where that has nothing of the kind.

    Args:
        study: what is compared.
        path: of the file; it need not be there.

    Returns:
        The number of its lines.
    """
    lines = read(path)
    for (kind, name), facts in lines.items():
        if kind == "calibration":
            _write(study.out / "calibration" / name, facts)
            continue
        folder = study.out / "runs" / name
        if (folder / "pretrain.json").exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        for found, score in facts["measures"].items():
            _write(folder / found, score)
        if "failed" in facts:
            _write(folder / "failed.json", facts["failed"])
        else:
            files.write_bytes(folder / "timing.jsonl", (json.dumps(facts["timing"]) + "\n").encode())
            _write(folder / "pretrain.json", facts["pretrain"])
    return len(lines)


def save(study: Study, path: Path) -> None:
    """Add to the file what the study's folder has, in an order that does not depend on who found it first."""
    with alone(study, "kept"):
        lines = read(path) | gather(study.out)
        told = [{kind: name, **facts} for (kind, name), facts in sorted(lines.items())]
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(path, "".join(json.dumps(one, sort_keys=True) + "\n" for one in told).encode())


def read(path: Path) -> Found:
    """The lines by kind, "run" or "calibration", and name; none where there is no file."""
    found: Found = {}
    for line in path.read_text("utf-8").splitlines() if path.exists() else []:
        facts = json.loads(line)
        kind = "run" if "run" in facts else "calibration"
        found[kind, facts.pop(kind)] = facts
    return found


def gather(out: Path) -> Found:
    """What a study's folder has: calibrations, finished runs and those that diverged."""
    found: Found = {}
    for path in out.glob("calibration/*.json"):
        found["calibration", path.name] = files.read_json(path)
    for folder in out.glob("runs/*"):
        measures = {path.name: files.read_json(path) for path in sorted(folder.glob("*-*-*.json"))}
        if (folder / "failed.json").exists():
            found["run", folder.name] = {"failed": files.read_json(folder / "failed.json"), "measures": {}}
        elif (folder / "pretrain.json").exists():
            facts = files.read_json(folder / "pretrain.json")
            before = (facts.get("start") or {}).get("flops")
            kept = {key: facts[key] for key in ("loss", "tokens", "flops")}
            found["run", folder.name] = {
                "pretrain": kept | ({"start": {"flops": before}} if before else {}),
                "timing": json.loads((folder / "timing.jsonl").read_text("utf-8").splitlines()[-1]),
                "measures": measures,
            }
    return found


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        files.write_json(path, value)
