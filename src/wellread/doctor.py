"""What this machine has, and what would go wrong on it: ``wellread doctor``."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import typer

from wellread.commands.options import Json
from wellread.progress import say

GIGABYTE = 1 << 30
# Oldest versions that the code was tried with; constraints.txt holds the exact ones.
NEEDED = {
    "torch": (2, 13),
    "transformers": (5, 23),
    "tokenizers": (0, 23),
    "safetensors": (0, 8),
    "numpy": (2, 0),
    "scikit-learn": (1, 9),
    "pydantic": (2, 14),
    "lxml": (6, 0),
    "pyarrow": (26, 0),
    "rensa": (0, 5),
}


def doctor(as_json: Json = False) -> None:
    """Look at this machine: versions, cores, memory, disk, GPU, corpora."""
    found = examine()
    print(json.dumps(found, indent=1) if as_json else to_text(found))
    if any(check["state"] == "bad" for check in found):
        raise typer.Exit(2)
    say("Next: `wellread run quickstart`.")


def examine() -> list[dict[str, Any]]:
    """Every check as {"check", "state" ("good" | "note" | "bad"), "found", "fix"}."""
    return [*_software(), *_machine(), *_folders(), *_corpora()]


def to_text(checks: list[dict[str, Any]]) -> str:
    """The checks for people, one a line."""
    marks = {"good": "ok  ", "note": "note", "bad": "BAD "}
    lines = []
    for check in checks:
        lines.append(f"{marks[check['state']]}  {check['check']:22} {check['found']}")
        if check["fix"]:
            lines.append(f"      {'':22} Fix: {check['fix']}")
    return "\n".join(lines)


def _check(name: str, state: str, found: str, fix: str = "") -> dict[str, Any]:
    return {"check": name, "state": state, "found": found, "fix": fix}


def _software() -> list[dict[str, Any]]:
    checks = []
    good = sys.version_info >= (3, 11)
    checks.append(
        _check(
            "python", "good" if good else "bad", platform.python_version(), "" if good else "install 3.11+"
        )
    )
    for name, oldest in NEEDED.items():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            checks.append(_check(name, "bad", "missing", "run `make install`"))
            continue
        numbers = tuple(int(part) for part in version.split("+")[0].split(".")[:2] if part.isdigit())
        good = numbers >= oldest
        wanted = ".".join(map(str, oldest))
        checks.append(
            _check(name, "good" if good else "bad", version, "" if good else f"install {wanted} or newer")
        )
    compiler = next((found for name in ("c++", "g++", "clang++") if (found := shutil.which(name))), None)
    checks.append(_check("C++ compiler", "good" if compiler else "note", compiler or "none (optional)"))
    return checks


def _machine() -> list[dict[str, Any]]:
    import psutil
    import torch

    from wellread.precision import fast_bfloat16
    from wellread.workers import cores

    narrow = ", fast bfloat16" if fast_bfloat16("cpu") else ""
    memory = psutil.virtual_memory()
    enough = memory.available > 3 * GIGABYTE
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none (optional)"
    return [
        _check("cores", "good", f"{cores()} ({torch.backends.cpu.get_cpu_capability()}{narrow})"),
        _check(
            "memory",
            "good" if enough else "note",
            f"{memory.available / GIGABYTE:.1f} of {memory.total / GIGABYTE:.1f} GiB free",
            "" if enough else "the quickstart needs about 2 GiB; close other programs",
        ),
        _kernels(),
        _check("GPU", "good" if torch.cuda.is_available() else "note", gpu),
    ]


def _kernels() -> dict[str, Any]:
    from wellread.sparsity.kernels import build

    if build.load() is None:
        fix = "install a C++ compiler (g++); without it sparse layers save no time"
        return _check("sparse kernels", "note", "none", fix)
    return _check("sparse kernels", "good", build.instructions())


def _folders() -> list[dict[str, Any]]:
    from wellread.corpus.registry import home

    checks = []
    for name, folder in (("working folder", Path.cwd()), ("cache", home())):
        place = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(place).free
        writable = os.access(place, os.W_OK)
        state = "bad" if not writable else "good" if free > 2 * GIGABYTE else "note"
        fix = "" if state == "good" else "make room" if writable else "choose a folder you may write to"
        checks.append(_check(name, state, f"{folder}, {free / GIGABYTE:.1f} GiB free", fix))
    return checks


def _corpora() -> list[dict[str, Any]]:
    from wellread.corpus import registry

    checks = []
    for entry in registry.list_known():
        here = registry.path(entry["name"]) is not None
        fix = "" if here else f"`wellread data get {entry['name']}`"
        checks.append(
            _check(entry["name"], "good" if here else "note", "here" if here else "not fetched", fix)
        )
    return checks
