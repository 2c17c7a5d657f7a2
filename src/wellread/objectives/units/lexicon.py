"""Terms of a list: the field's own vocabulary (MeSH headings, gene names, drugs) is masked more often.

Only the terms themselves are units of this kind; mix it with others, so that the words between terms stay
learnt.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wellread.errors import DataError
from wellread.objectives.masking import Text, Units
from wellread.objectives.units import words
from wellread.objectives.units.phrases import Phrases, grams, hash_words, longest
from wellread.settings import MESH
from wellread.tokens import store
from wellread.tokens import tokenizer as tokenizers

KEY = "pretrain.masking.lexicon"
LONGEST = 10  # words; longer terms are left out


def units(text: Text, phrases: Phrases) -> Units:
    """The terms in the text, the longest where they overlap."""
    return words.runs(text, *longest(text, phrases))


def read_terms(given: str) -> list[str]:
    """The terms of a list, each once, in order.

    Args:
        given: "mesh", or a UTF-8 text file with one term a line; lines that begin with # are passed over.

    Raises:
        DataError: the file is missing, is not UTF-8, or holds no term.
        UserError: MeSH's names are not here and cannot be fetched.
    """
    if given == MESH:
        from wellread.tasks import mesh

        return sorted(mesh.load_categories())
    path = Path(given)
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError("not UTF-8", where=f"{KEY} ({path})", fix="save the list as UTF-8") from None
    except OSError as error:
        raise DataError(
            f"the list cannot be read ({error.strerror})",
            where=f"{KEY} ({path})",
            fix='give a text file with one term a line, or "mesh"',
        ) from None
    terms = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not terms:
        raise DataError(
            "the list holds no term", where=f"{KEY} ({path})", fix="write one term a line into it"
        )
    return list(dict.fromkeys(terms))


def spellings(term: str) -> list[str]:
    """How a term may stand in a text: as it is, in small letters, after a space, and turned round.

    "Arthritis, Rheumatoid" is how MeSH sorts "rheumatoid arthritis".
    """
    parts = term.split(", ")
    turned = [f"{parts[1]} {parts[0]}"] if len(parts) == 2 else []
    plain = dict.fromkeys(form for one in (term, *turned) for form in (one, one.lower()))
    return [before + form for form in plain for before in ("", " ")]


def encode(terms: list[str], tokenizer: Path, scratch: Path) -> dict[int, np.ndarray]:
    """Terms as phrases, cut into pieces and words as the corpus is.

    Terms of more than LONGEST words, and those with a piece that the tokenizer does not know, are left out.

    Args:
        terms: as they were read.
        tokenizer: its folder.
        scratch: an empty folder for a store of the terms.
    """
    forms = [form for term in terms for form in spellings(term)]
    named = ((str(number), form) for number, form in enumerate(forms))
    store.build(named, tokenizer, scratch, processes=1, quiet=True)
    opened = store.Store.open(scratch)
    ids, starts = opened.gather(np.arange(opened.n_tokens))
    offsets = np.asarray(opened.offsets)
    sizes = np.diff(offsets)
    starts[offsets[:-1][sizes > 0]] = True
    begins = np.flatnonzero(starts)
    term = np.repeat(np.arange(len(forms)), sizes)
    unknown = ids == tokenizers.load(tokenizer).unk_token_id
    bad = np.bincount(term, weights=unknown, minlength=len(forms)) > 0
    count = np.bincount(term[begins], minlength=len(forms))
    first = np.cumsum(count) - count
    return {
        n: np.unique(here[first[wanted]])
        for n, here in grams(hash_words(ids, begins), LONGEST)
        if len(wanted := np.flatnonzero((count == n) & ~bad))
    }
