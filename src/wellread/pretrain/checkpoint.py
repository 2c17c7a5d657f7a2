"""Checkpoints: written like a database commit, verified when loaded, the last two kept.

``checkpoints/step-NNNNNNNN/`` holds state.safetensors (weights and optimiser), state.json (counters and how
far the logs are written) and the manifest with the SHA-256 of both.  Whatever moment a process dies at, the
newest folder that agrees with its manifest is a state to go on from.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from wellread import files
from wellread.errors import UserError
from wellread.progress import say

KEPT = 2


def save(
    folder: Path,
    step: int,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
    kept: int | None = None,
) -> None:
    """Commit a checkpoint and drop all but the last two.

    Args:
        folder: the folder of all checkpoints.
        step: optimiser steps done.
        tensors: weights and optimiser state, by name; copied to the CPU.
        state: what else there is, as JSON values.
        kept: a step whose checkpoint is not dropped either.

    Raises:
        UserError: the disk is full; the checkpoints before this one stay as they were.
    """
    final = _path(folder, step)
    try:
        with files.new_folder(final, step=step) as partial:
            save_tensors(partial / "state.safetensors", tensors)
            files.write_json(partial / "state.json", dict(state))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"no room on the disk for the checkpoint of step {step}",
            where=str(folder),
            fix="make room and run the same command again; it goes on from the checkpoint before",
        ) from None
    for old in _newest_first(folder)[KEPT:]:
        if kept is None or old != _path(folder, kept):
            shutil.rmtree(old, ignore_errors=True)


def exists(folder: Path, step: int) -> bool:
    """Whether there is a checkpoint of a step."""
    return _path(folder, step).is_dir()


def drop_after(folder: Path, step: int) -> None:
    """Remove the checkpoints of later steps."""
    for path in _newest_first(folder):
        if path > _path(folder, step):
            shutil.rmtree(path)


def load_newest(folder: Path, quiet: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The newest intact checkpoint, or None; clears away unfinished and damaged ones.

    Says (on standard error) when a checkpoint is damaged and an older one, or the start, takes its place.
    """
    for rest in (*folder.glob("step-*.partial"), *folder.glob("step-*.old")):
        shutil.rmtree(rest)
    for path in _newest_first(folder):
        found = files.problems(path)
        if not found:
            return load_file(path / "state.safetensors"), files.read_json(path / "state.json")
        if not quiet:
            say(f"a checkpoint is damaged and left out: {found[0]}")
        shutil.rmtree(path)
    return None


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file; a full disk is an ``OSError``, as for any other file."""
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(on_cpu, path)
    except SafetensorError as error:
        for number in (errno.ENOSPC, errno.EDQUOT):
            if f"os error {number}" in str(error):
                raise OSError(number, "No space left on device", str(path)) from None
        raise


def _path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}"


def _newest_first(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("step-*") if path.suffix == ""), reverse=True)
