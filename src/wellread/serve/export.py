"""Copy a model to where its user wants it: a plain `transformers` folder that needs no Wellread."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from wellread import files
from wellread.errors import ArtefactError, UserError
from wellread.finetune.head import NOTES
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
# What only Wellread reads, by the file that says so.
OURS = {
    "quantised.json": "quantised weights",
    "binary.json": "binary weights",
    "exits.json": "early exits",
    "pruned.safetensors": "weights without their zeros",
}
# What an engine's folder takes over: all but the weights.
BESIDE = ("config.json", "tokenizer*.json", "special_tokens_map.json", "vocab.*", "merges.txt")


def export(
    folder: str | Path,
    to: str | Path,
    *,
    force: bool = False,
    card: str | None = None,
    half: bool = False,
    beside: Mapping[str, bytes] | None = None,
) -> Path:
    """Copy a model folder, whole or not at all, with a manifest of hashes beside the files.

    Args:
        folder: a model folder; checked against its manifest, or its stage's, if there is one.
        to: the folder to make.
        force: replace an earlier export.
        card: the model card, written as README.md.
        half: store float32 weights as float16, in half the bytes; they are read back as float32.
        beside: further files, by their places in the folder.

    Returns:
        ``to``.

    Raises:
        ArtefactError: there is no model in ``folder``, or a damaged or unsafe one.
        UserError: ``to`` has something in it, or cannot be written.
    """
    folder, to = Path(folder), Path(to)
    build.load_config(folder)
    files.check_part(folder)
    if stored.is_light(folder):
        method = files.read_json(folder / stored.FACTS)["settings"]["method"]
        raise ArtefactError(
            f"a plain transformers folder cannot hold what {method!r} added",
            where=str(folder),
            fix='predict with Wellread, or fine-tune with light.method "lora", "bitfit" or "full"',
        )
    refuse_ours(folder)
    check_place(folder, to, force=force)
    with writing(to), files.new_folder(to) as partial:
        copy_files(folder, partial, PATTERNS, half=half)
        if card is not None:
            (partial / "README.md").write_text(card, "utf-8")
        for name, content in (beside or {}).items():
            (partial / name).parent.mkdir(exist_ok=True)
            (partial / name).write_bytes(content)
    return to


def head_of(folder: Path) -> str:
    """The head by which a fine-tuned model answers where it is none of transformers' own, else ""."""
    notes = Path(folder) / NOTES
    return str(files.read_json(notes).get("head", "")) if notes.exists() else ""


def refuse_ours(folder: Path) -> None:
    """Refuse a folder of which other programs could read nothing, or not all.

    Raises:
        ArtefactError: with what it holds.
    """
    for name, what in OURS.items():
        if (folder / name).exists():
            raise ArtefactError(
                f"only Wellread reads {what}",
                where=str(folder),
                fix="predict with Wellread, copy the folder, or export the model that it was made from",
            )


@contextlib.contextmanager
def writing(to: Path) -> Iterator[None]:
    """Tell the user of what the disk refuses.

    Raises:
        UserError: instead of an OSError within the block.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot be written ({error.strerror})", where=str(to), fix="choose another folder with --to"
        ) from None


def check_place(folder: Path, to: Path, *, force: bool) -> None:
    """Refuse to export into the model's own folder, or over something else than an earlier export.

    Raises:
        UserError: with another place to choose.
    """
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
    except OSError as error:
        raise UserError(
            f"cannot be read ({error.strerror})", where=str(to), fix="choose another folder with --to"
        ) from None


def copy_files(folder: Path, to: Path, patterns: tuple[str, ...], *, half: bool = False) -> None:
    """Copy the files of a model folder that match, weights in half precision if that is asked for."""
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern)}):
        if half and path.suffix == ".safetensors":
            _halve(path, to / path.name)
        else:
            shutil.copyfile(path, to / path.name)


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
