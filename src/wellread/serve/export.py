"""Copy a model to where its user wants it: a plain `transformers` folder that needs no Wellread."""

from __future__ import annotations

import shutil
from pathlib import Path

from wellread import files
from wellread.errors import ArtefactError, UserError
from wellread.finetune.light import stored
from wellread.models import build

# What a stock checkpoint is made of; anything else in the folder stays behind.
PATTERNS = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "model.safetensors.index.json",
    "tokenizer*.json",
    "answers.json",
    "special_tokens_map.json",
    "vocab.*",
    "merges.txt",
    "README.md",
)


def export(
    folder: str | Path,
    to: str | Path,
    *,
    force: bool = False,
    card: str | None = None,
    half: bool = False,
) -> Path:
    """Copy a model folder, whole or not at all, with a manifest of hashes beside the files.

    Args:
        folder: a model folder; checked against its manifest if it has one.
        to: the folder to make.
        force: replace an earlier export.
        card: the model card, written as README.md.
        half: store float32 weights as float16, in half the bytes; they are read back as float32.

    Returns:
        ``to``.

    Raises:
        ArtefactError: there is no model in ``folder``, or a damaged or unsafe one.
        UserError: ``to`` has something in it, or cannot be written.
    """
    folder, to = Path(folder), Path(to)
    build.load_config(folder)
    if (folder / files.MANIFEST).exists():
        files.check(folder)
    if stored.is_light(folder):
        method = files.read_json(folder / stored.FACTS)["settings"]["method"]
        raise ArtefactError(
            f"a plain transformers folder cannot hold what {method!r} added",
            where=str(folder),
            fix='predict with Wellread, or fine-tune with light.method "lora", "bitfit" or "full"',
        )
    if to.resolve() == folder.resolve() or folder.resolve() in to.resolve().parents:
        raise UserError("the model's own folder", where=str(to), fix="choose another folder with --to")
    try:
        if to.exists() and not to.is_dir():
            raise UserError("a file stands there", where=str(to), fix="choose another folder with --to")
        if to.is_dir() and any(to.iterdir()) and not force:
            raise UserError(
                "the folder is not empty", where=str(to), fix="choose another; --force replaces an export"
            )
        if to.is_dir() and any(to.iterdir()) and files.read_manifest(to) is None:
            raise UserError(
                "the folder holds something else than an export",
                where=str(to),
                fix="choose another folder with --to; --force replaces exports only",
            )
        with files.new_folder(to) as partial:
            for path in sorted({path for pattern in PATTERNS for path in folder.glob(pattern)}):
                if half and path.suffix == ".safetensors":
                    _halve(path, partial / path.name)
                else:
                    shutil.copyfile(path, partial / path.name)
            if card is not None:
                (partial / "README.md").write_text(card, "utf-8")
    except OSError as error:
        raise UserError(
            f"cannot be written ({error.strerror})", where=str(to), fix="choose another folder with --to"
        ) from None
    return to


def _halve(source: Path, target: Path) -> None:
    """Write a safetensors file with its float32 tensors as float16; config.json keeps saying float32."""
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(source)
    half = {
        name: tensor.half() if tensor.dtype == torch.float32 else tensor for name, tensor in tensors.items()
    }
    wide = next((name for name, tensor in half.items() if not tensor.isfinite().all()), None)
    if wide is not None:
        raise ArtefactError(
            f"{wide} has values that half precision cannot hold",
            where=str(source),
            fix="export without --half",
        )
    save_file(half, target, metadata={"format": "pt"})
    target.chmod(0o644)  # save_file writes for the user alone
