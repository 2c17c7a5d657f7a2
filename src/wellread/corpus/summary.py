"""What a corpus report says of the kept documents, counted as they pass."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

LENGTH_EDGES = (0, 20, 50, 100, 150, 200, 250, 300, 400, 500, 1000, 2000, 5000, 10000)
LICENCE_CHARACTERS = 80
# Different values counted by name; what comes later is counted together.
_MAX_VALUES = 10_000
_COPYRIGHT_MARKS = re.compile(r"copyright|\(c\)|©|\b[12]\d{3}\b", re.IGNORECASE)


class Summary:
    """Counts over documents, in memory that does not grow with their number."""

    def __init__(self) -> None:
        self.documents = self.words = self.characters = self.replacements = 0
        self._lengths: Counter[int] = Counter()
        self._values: dict[str, Counter[str]] = {
            name: Counter() for name in ("languages", "sections", "sources", "licences", "years")
        }

    def add(self, document: dict[str, Any]) -> None:
        """Count a document as :func:`wellread.corpus.documents.to_json` writes it."""
        texts = [document["title"], *(section["text"] for section in document["sections"])]
        words = sum(len(text.split()) for text in texts)
        self.documents += 1
        self.words += words
        self.characters += sum(map(len, texts)) + sum(map(bool, texts)) - 1
        self.replacements += sum(text.count("\ufffd") for text in texts)
        self._lengths[words] += 1
        self._count("languages", document["language"] or "not stated")
        self._count("sources", document["source"])
        self._count("licences", licence_group(document["licence"]))
        self._count("years", str(document["year"] or "not stated"))
        for section in document["sections"]:
            self._count("sections", section["label"] or "none")

    def report(self) -> dict[str, Any]:
        """All counts, each sorted so that equal corpora give equal bytes."""
        values = {name: _sorted(counter) for name, counter in self._values.items()}
        values["licences"] = dict(list(values["licences"].items())[:20])
        values["years"] = dict(sorted(values["years"].items()))
        return {
            "words": self.words,
            "characters": self.characters,
            "replacement_characters": self.replacements,
            "words_per_document": self._spread(),
            "lengths": self._histogram(),
            **values,
        }

    def _count(self, name: str, value: str) -> None:
        counter = self._values[name]
        counter[value if value in counter or len(counter) < _MAX_VALUES else "(others)"] += 1

    def _spread(self) -> dict[str, float]:
        """Quantiles as the smallest length that so many documents do not exceed."""
        shares = {"min": 0.0, "p5": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}
        spread: dict[str, float] = {}
        seen = 0
        for length, count in sorted(self._lengths.items()):
            seen += count
            for name, share in shares.items():
                if name not in spread and seen >= share * self.documents:
                    spread[name] = length
        return {**spread, "mean": round(self.words / max(self.documents, 1), 2)}

    def _histogram(self) -> list[dict[str, Any]]:
        """Documents by words: ``from`` <= words < ``to``."""
        bins: list[dict[str, Any]] = [
            {"from": low, "to": high, "documents": 0}
            for low, high in zip(LENGTH_EDGES, (*LENGTH_EDGES[1:], None), strict=True)
        ]
        for length, count in self._lengths.items():
            place = max(number for number, edge in enumerate(LENGTH_EDGES) if edge <= length)
            bins[place]["documents"] += count
        return bins


def licence_group(licence: str) -> str:
    """A licence or copyright line without years and copyright signs, at most 80 characters."""
    plain = " ".join(_COPYRIGHT_MARKS.sub(" ", licence).split()).strip(" .,;:-")
    return plain[:LICENCE_CHARACTERS] or ("copyright line without a name" if licence else "not stated")


def _sorted(counter: Counter[str]) -> dict[str, int]:
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))
