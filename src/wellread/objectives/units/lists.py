"""The lists that some kinds of units need: learnt from the corpus or read once, then kept beside the run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wellread import files
from wellread.errors import ArtefactError, DataError
from wellread.objectives.units import lexicon, ngrams, phrases, pmi, tf_idf
from wellread.objectives.units.phrases import Phrases, Words
from wellread.progress import say
from wellread.settings import MaskingSettings
from wellread.tokens.store import Store

VERSION = 1
MOST_TOKENS = 1 << 24  # of the corpus, from which phrases and frequencies are learnt
CHECKED_TOKENS = 1 << 21  # in which terms are looked for
FEWEST_PHRASES = 100
UNITS_KEY = "pretrain.masking.units"


@dataclass(frozen=True)
class Lists:
    """What is listed; empty where no kind of unit asks for it.

    Attributes:
        phrases: those of PMI masking.
        terms: those of the lexicon.
        ngrams: those of the t-statistic.
        rarity: of the corpus' words.
        categories: (documents,) category of each document of the store, -1 for none.
    """

    phrases: Phrases = field(default_factory=dict)
    terms: Phrases = field(default_factory=dict)
    ngrams: Phrases = field(default_factory=dict)
    rarity: tf_idf.Rarity = field(
        default_factory=lambda: tf_idf.Rarity(np.empty(0, np.uint64), np.empty(0), 0.0)
    )
    categories: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))


NONE = Lists()


def prepare(
    settings: MaskingSettings,
    store: Store,
    tokenizer: Path,
    folder: Path,
    *,
    quiet: bool = False,
    least: int = pmi.LEAST,
) -> Lists:
    """Make the lists that the settings ask for, or read those made before.

    Args:
        settings: which kinds of units there are, and where the lexicon is.
        store: the corpus.
        tokenizer: its tokenizer's folder.
        folder: where the lists are kept.
        quiet: say nothing.
        least: occurrences that make a phrase.

    Raises:
        DataError: the lexicon is missing or empty, none of its terms stands in the corpus, or the corpus is
            too small to learn phrases from.
    """
    wanted = settings.lists
    if not wanted:
        return NONE
    terms = lexicon.read_terms(str(settings.lexicon)) if "lexicon" in wanted else []
    facts = {
        "version": VERSION,
        "store_sha256": store.sha256,
        "lists": sorted(wanted),
        "terms_sha256": files.sha256_bytes(files.canonical_json(terms)),
        "pmi_coverage": settings.pmi_coverage,
        "least": least,
        "ngrams": settings.ngrams,
    }
    saved = _load(folder, facts)
    if saved is not None:
        return saved
    folder.mkdir(parents=True, exist_ok=True)
    if not quiet:
        say(f"masking: making lists ({', '.join(sorted(wanted))})")
    corpus = phrases.sample(store, CHECKED_TOKENS if wanted == {"lexicon"} else MOST_TOKENS)
    found: dict[str, np.ndarray] = {}
    if "pmi" in wanted:
        found |= _arrays("phrases", _phrases(corpus, settings.pmi_coverage, least, quiet))
    if "ngram" in wanted:
        found |= _arrays("ngrams", _ngrams(corpus, settings.ngrams, least, quiet))
    if "lexicon" in wanted:
        listed = lexicon.encode(terms, tokenizer, folder / "terms")
        _check_terms(len(terms), listed, corpus, quiet)
        found |= _arrays("terms", listed)
    if "tf-idf" in wanted:
        rarity = tf_idf.learn(corpus)
        found |= {"words": rarity.hashes, "idf": rarity.idf, "unseen": np.array(rarity.unseen)}
    (folder / "lists.json").unlink(missing_ok=True)
    np.savez(folder / "lists.npz", **found)  # type: ignore[arg-type]
    sha256 = files.sha256_file(folder / "lists.npz")
    files.write_json(folder / "lists.json", {**facts, "sha256": sha256})
    return _of(found)


def _phrases(corpus: Words, coverage: float, least: int, quiet: bool) -> dict[int, np.ndarray]:
    counted = pmi.count(corpus, least)
    total = sum(len(counted[n].hashes) for n in pmi.SHARES)
    if total < FEWEST_PHRASES:
        raise DataError(
            f"the corpus is too small to learn phrases from: {total} occur {least} times or more, "
            f"{FEWEST_PHRASES} are needed",
            where=f"{UNITS_KEY}.pmi",
            fix="leave pmi out (span needs no list), or give a larger corpus",
        )
    listed, covered = pmi.learn(corpus, counted, coverage)
    if not quiet:
        total = sum(len(hashes) for hashes in listed.values())
        say(f"masking: {total:,} phrases cover {covered:.1%} of the words")
    return listed


def _ngrams(corpus: Words, size: int, least: int, quiet: bool) -> dict[int, np.ndarray]:
    listed = ngrams.learn(corpus, pmi.count(corpus, least, max(ngrams.SHARES)), size)
    total = sum(map(len, listed.values()))
    if total < FEWEST_PHRASES:
        raise DataError(
            f"the corpus is too small to learn n-grams from: {total} occur {least} times or more and oftener "
            f"than by chance, {FEWEST_PHRASES} are needed",
            where=f"{UNITS_KEY}.ngram",
            fix="leave ngram out (span needs no list), or give a larger corpus",
        )
    if not quiet:
        say(f"masking: {total:,} n-grams")
    return listed


def _check_terms(terms: int, listed: Phrases, corpus: Words, quiet: bool) -> None:
    covered = np.zeros(len(corpus.hashes), bool)
    first, size = phrases.find(corpus.hashes, corpus.document, listed)
    for inner in range(max(listed, default=0)):
        covered[(first + inner)[size > inner]] = True
    if not len(first):
        raise DataError(
            f"none of the {terms} terms stands in the {len(covered):,} words of the corpus looked at, as the "
            "tokenizer cuts them",
            where=lexicon.KEY,
            fix="give a list in the corpus' language and spelling, one term a line, or leave the unit out",
        )
    if not quiet:
        say(f"masking: the lexicon's terms cover {covered.mean():.1%} of the words")


def _arrays(name: str, listed: Phrases) -> dict[str, np.ndarray]:
    return {f"{name}-{n}": hashes for n, hashes in listed.items() if len(hashes)}


def _load(folder: Path, facts: dict[str, Any]) -> Lists | None:
    try:
        saved = files.read_json(folder / "lists.json")
        if saved != {**facts, "sha256": files.sha256_file(folder / "lists.npz")}:
            return None
        with np.load(folder / "lists.npz", allow_pickle=False) as arrays:
            return _of(dict(arrays))
    except (ArtefactError, OSError, ValueError):
        return None


def _of(arrays: dict[str, np.ndarray]) -> Lists:
    def listed(name: str) -> dict[int, np.ndarray]:
        return {int(key.split("-")[1]): arrays[key] for key in arrays if key.startswith(f"{name}-")}

    rarity = NONE.rarity
    if "words" in arrays:
        rarity = tf_idf.Rarity(arrays["words"], arrays["idf"], float(arrays["unseen"]))
    return Lists(listed("phrases"), listed("terms"), listed("ngrams"), rarity)
