"""Split the prose of abstracts into sentences."""

from __future__ import annotations

import re

# Words after which a full stop does not end a sentence, though a capital or a digit follows (lower case,
# without their last stop).  Units and "i.v." are not among them: a capital after those begins a sentence.
_ABBREVIATIONS = """
    e.g i.e vs v cf al fig figs eq eqs ref refs nos vol ca approx resp dr prof mr mrs ms st subsp var inc ltd
    corp dept univ viz ph.d m.d u.s u.k aff ed eds pp cv ser ver
"""
# After these a single capital closes a clause ("vitamin D. We"); elsewhere it is an initial ("S. aureus").
_BEFORE_LETTER = """
    vitamin type hepatitis group grade class factor influenza immunoglobulin cytochrome protein arm part
    panel category stage coenzyme phase cyclosporin amphotericin toxin and or virus experiment study
    cohort
"""
_NO_END = frozenset(_ABBREVIATIONS.split())
_CLOSES = frozenset(_BEFORE_LETTER.split())
_BOUNDARY = re.compile(r"[.!?]+[\"'”’)\]]*(?=\s)")
_OPENING = "\"'“‘([{*<"


def split_sentences(text: str) -> list[str]:
    """The sentences of ``text``, stripped; white space inside is kept.

    A sentence ends at ``.``, ``!`` or ``?`` (and closing quotes or brackets) before white space when the next
    one begins with a capital, a digit or an opening bracket, unless the stop belongs to an abbreviation, an
    initial or an open bracket.  A line break ends one too.
    """
    return [sentence for line in text.splitlines() for sentence in _in_line(line)]


def _in_line(line: str) -> list[str]:
    found, start = [], 0
    for match in _BOUNDARY.finditer(line):
        if _ends(line, start, match.start(), match.end()):
            found.append(line[start : match.end()].strip())
            start = match.end()
    found.append(line[start:].strip())
    return [sentence for sentence in found if sentence]


def _ends(line: str, start: int, stop: int, end: int) -> bool:
    """Whether the mark at ``stop`` (closed at ``end``) ends the sentence that began at ``start``."""
    following = line[end:].lstrip()
    if not following:
        return False
    head = following.lstrip(_OPENING)[:1]
    if not (head.isupper() or head.isdigit() or (following[0] in "([" and not head.islower())):
        # Gene names and units begin sentences in lower case (mTOR, p53, mRNA).
        word = following.split(None, 1)[0]
        if not (
            len(word) > 1 and word[0].islower() and any(part.isupper() or part.isdigit() for part in word[1:])
        ):
            return False
    if line[stop] != ".":
        return True
    before = line[start:stop]
    word = before.rsplit(None, 1)[-1] if before.split() else ""
    word = word.lstrip(_OPENING).lower()
    if word in _NO_END or (word == "no" and head.isdigit()):
        return False
    if len(word) == 1 and word.isalpha() and before.rstrip()[-1:].isupper():
        previous = before.rsplit(None, 2)[-2].lower() if len(before.split()) > 1 else ""
        return previous in _CLOSES
    opened = before.count("(") - before.count(")")
    return opened <= 0 or len(before) > 1000
