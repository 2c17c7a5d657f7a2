"""The report's view of the corpus and of the tokenizer."""

from __future__ import annotations

from typing import Any

from wellread.report import charts, numbers
from wellread.report.figures import Figure
from wellread.report.gather import RunFacts

TOP = 8  # rows of a list before the rest is summed up
GROUPS = {
    "dropped": "Documents left out",
    "languages": "Languages, as stated",
    "sections": "Sections by role",
    "sources": "Sources",
    "licences": "Licences, as stated",
}
DUPLICATES = {
    "duplicate (ids)": "duplicate, same id",
    "duplicate (exact)": "duplicate, same text",
    "duplicate (near)": "near duplicate",
}


def corpus(facts: RunFacts) -> dict[str, Any] | None:
    """Figures, lists and charts of the corpus report, or None without one."""
    known = facts.corpus
    if not known:
        return None
    groups = []
    for key, title in GROUPS.items():
        counts = known.get(key) or {}
        if key == "dropped":
            named = {shown: counts.get(name, 0) for name, shown in DUPLICATES.items()}
            counts = {**{name: n for name, n in counts.items() if name not in DUPLICATES}, **named}
        if any(counts.values()):
            groups.append({"name": title, "rows": shares(counts)})
    return {
        "tiles": _tiles(facts, known),
        "sentences": _held_back(facts),
        "groups": groups,
        "lengths": _lengths(known.get("lengths") or []),
        "years": _years(known.get("years") or {}),
    }


def _tiles(facts: RunFacts, known: dict[str, Any]) -> list[tuple[str, str]]:
    found = [
        (numbers.short(known.get("documents_read", 0)), "documents read"),
        (numbers.short(known.get("kept", 0)), "documents kept"),
        (numbers.short(known.get("words", 0)), "words"),
    ]
    if "median" in known.get("words_per_document", {}):
        found.append((numbers.whole(known["words_per_document"]["median"]), "words in the median document"))
    if facts.documents.get("train"):
        found.append((numbers.short(facts.documents["train"]), "documents chosen for pre-training"))
    if facts.documents.get("valid"):
        found.append((numbers.short(facts.documents["valid"]), "held out for the validation loss"))
    return found


def _held_back(facts: RunFacts) -> list[str]:
    """Which documents were kept out of pre-training because of the tests."""
    known = facts.leakage or {}
    excluded = (known.get("documents") or {}).get("excluded", 0)
    overlapping = known.get("overlapping_documents", 0)
    sentences = []
    if excluded:
        sentences.append(
            f"{numbers.plural(excluded, 'document')} behind or overlapping with dev and test examples "
            "left out of pre-training."
        )
    if overlapping and known.get("allowed"):
        sentences.append(
            f"{numbers.plural(overlapping, 'document')} overlapping with test examples kept on request."
        )
    short = sum(count for splits in known.get("unchecked", {}).values() for count in splits.values())
    if short:
        sentences.append(
            f"{numbers.plural(short, 'text')} of dev and test have under eight words: too few to look for."
        )
    return sentences


def shares(counts: dict[str, int]) -> list[dict[str, Any]]:
    """The largest counts, each with its share of the largest; the rest as one row."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown, rest = ordered[:TOP], ordered[TOP:]
    if len(rest) == 1:
        shown, rest = ordered, []
    if rest:
        shown = [*shown, (f"{len(rest)} others", sum(count for _, count in rest))]
    most = max((count for _, count in shown), default=0) or 1
    return [{"name": name, "count": count, "share": count / most} for name, count in shown]


def _lengths(bins: list[dict[str, Any]]) -> Figure | None:
    filled = [place for place, one in enumerate(bins) if one["documents"]]
    if not filled:
        return None
    kept = bins[filled[0] : filled[-1] + 1]
    bars = [(numbers.whole(one["from"]), one["documents"]) for one in kept]
    hints = [
        f"{one['from']} to {one['to'] - 1} words" if one["to"] else f"{one['from']} words or more"
        for one in kept
    ]
    picture = charts.histogram(
        "Length of documents",
        "; ".join(f"{hint}: {count:,}" for hint, (_, count) in zip(hints, bars, strict=True)),
        "words, from",
        bars,
    )
    return Figure(picture, "Documents by length in words. The steps are of unequal width.")


def _years(counts: dict[str, int]) -> Figure | None:
    years = {int(year): count for year, count in counts.items() if year.isdigit()}
    if len(years) < 3:
        return None
    span = range(min(years), max(years) + 1)
    bars = [(str(year), years.get(year, 0)) for year in span] if len(span) <= 120 else _decades(years)
    picture = charts.histogram(
        "Year of publication", f"{span[0]} to {span[-1]}, {len(years)} years", "year of publication", bars
    )
    unknown = sum(count for year, count in counts.items() if not year.isdigit())
    return Figure(
        picture, "Documents by year." + (f" {numbers.whole(unknown)} state none." if unknown else "")
    )


def _decades(years: dict[int, int]) -> list[tuple[str, int]]:
    """By decade, for long spans."""
    decades: dict[int, int] = {}
    for year, count in sorted(years.items()):
        decades[year // 10 * 10] = decades.get(year // 10 * 10, 0) + count
    return [(str(decade), count) for decade, count in decades.items()]


def fertility(facts: RunFacts) -> dict[str, Any] | None:
    """How the run's vocabulary and a general one cut words, or None without a report on it."""
    known = facts.fertility
    if not known or not known.get("own"):
        return None
    named = {"this run": known["own"], "general English": known.get("general")}
    shown = {name: measures for name, measures in named.items() if measures}
    kinds = {"wordpiece": "WordPiece", "bpe": "byte-level BPE"}
    made = "given" if facts.recipe.tokenizer.path else "learnt from the pre-training documents"
    return {
        "words": f"{kinds[facts.recipe.tokenizer.kind]} pieces, {made}.",
        "note": known.get("note") or "",
        "names": list(shown),
        "rows": _measures(list(shown.values())),
        "terms": [
            {"term": term, "pieces": [measures["terms"].get(term, []) for measures in shown.values()]}
            for term in known["own"].get("terms", {})
        ],
    }


def _measures(shown: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def share(value: float | None) -> str:
        return "–" if value is None else numbers.percent(value)

    def plain(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    return [
        {"name": "Vocabulary", "values": [numbers.whole(one["vocab_size"]) for one in shown]},
        {"name": "Tokens per word", "values": [plain(one["tokens_per_word"]) for one in shown]},
        {"name": "Words kept whole", "values": [share(one["whole_words"]) for one in shown]},
        {"name": "Words with an unknown piece", "values": [share(one["unknown_words"]) for one in shown]},
        {"name": "Words measured (held out)", "values": [numbers.whole(one["words"]) for one in shown]},
    ]
