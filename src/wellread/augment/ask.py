"""What a generator is asked for, and what of its answer is a question.

"rewrite" says a training question in other words; "new" asks for another question about the same context with
the same label (Guo and others, Dr. LLaMA, arXiv 2305.07804).  Either way the label is that of the source, so
the shares of the labels stay what they are, and no one has to trust the generator's own answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from wellread.errors import DataError
from wellread.tasks.task import Example

Way = Literal["rewrite", "new"]
# One worked example each: small generators copy the form more readily than they follow an order.
PROMPTS: dict[Way, str] = {
    "rewrite": "Say each question in other words, with the same meaning.\n\n"
    "Question: Does early mobilisation after hip surgery shorten the stay in hospital?\n"
    "In other words: Do patients leave hospital sooner if they get up soon after a hip operation?\n\n"
    "Question: {text}",
    "new": "Write one more question that a study answers with a given answer.\n\n"
    "Study: 80 patients got up on the first or on the third day after hip surgery. Those who got up early "
    "left two days sooner. Their pain was the same.\n"
    "Question: Does early mobilisation after hip surgery shorten the stay in hospital?\n"
    'Another question, with the answer "no": Does early mobilisation after hip surgery increase pain?\n\n'
    "Study: {context}\nQuestion: {text}",
}
# What the answer begins with; the generator goes on from there.
LEADS: dict[Way, str] = {
    "rewrite": "In other words:",
    "new": 'Another question, with the answer "{label}":',
}
LEAST_WORDS = 4
MOST_TIMES = 3  # as many words as the source's question, at most
_LEAD = re.compile(r"^\W*(?:[\w ]{0,40}question[\w ]{0,40}:|\d+[.)])\s*", re.IGNORECASE)
# Questions that begin so are not answered with yes or no.
_OPEN = ("what", "which", "who", "whom", "whose", "how", "why", "when", "where")
COPIED = 0.25  # share of its three-word runs from which on a text is a copy of the worked example
_QUOTES = "\"'`*“”‘’ \t"


@dataclass(frozen=True)
class Request:
    """One call of the generator.

    Attributes:
        id: of the example that may come of it.
        way: rewrite or new.
        source: the training example behind it.
        prompt: what the generator reads.
        lead: the beginning of its answer.
    """

    id: str
    way: Way
    source: Example
    prompt: str
    lead: str


def requests(
    sources: Sequence[Example], ways: Sequence[Way], copies: int, context_words: int
) -> Iterator[Request]:
    """All requests, in a fixed order.

    Args:
        sources: training examples of a classification task.
        ways: which kinds.
        copies: how many of each kind for each source.
        context_words: so many words of the context are shown for "new".

    Raises:
        DataError: "new" needs a context (``text_pair``), and a source has none.
    """
    for way in ways:
        for copy in range(copies):
            for source in sources:
                if way == "new" and source.text_pair is None:
                    raise DataError(
                        "a new question needs a context, and this task has single texts",
                        where="--way new",
                        fix="use --way rewrite, or give the context as text_pair",
                    )
                context = " ".join((source.text_pair or "").split()[:context_words])
                values = {"text": source.text, "context": context, "label": str(source.label)}
                texts = [_fill(text, values) for text in (PROMPTS[way], LEADS[way])]
                yield Request(f"{source.id}-{way}-{copy}", way, source, *texts)


def _fill(text: str, values: dict[str, str]) -> str:
    """Fill in {names}; unlike str.format it does not mind braces in the values."""
    return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], text)


def question(answer: str, source: str, *, closed: bool = False) -> str | None:
    """The question in a generator's answer, or None where there is none to be trusted.

    It is the first line with words; where the source ends with a question mark, so must it; it has at least
    four words and at most three times as many as the source.

    Args:
        answer: of the generator.
        source: the question that it was asked about.
        closed: whether the answer is yes or no, so that "what", "how" and the like cannot begin it.
    """
    for line in answer.splitlines():
        text = _LEAD.sub("", line.strip(_QUOTES)).strip(_QUOTES)
        if not text:
            continue
        if source.rstrip().endswith("?"):
            text, mark, _ = text.partition("?")
            if not mark:
                return None
            text = f"{text.rstrip()}?"
        words = len(text.split())
        if closed and text.lower().startswith(tuple(f"{word} " for word in _OPEN)):
            return None
        return text if LEAST_WORDS <= words <= MOST_TIMES * max(len(source.split()), LEAST_WORDS) else None
    return None


def copies_example(text: str, request: Request) -> bool:
    """Whether a text repeats the worked example of its prompt instead of speaking of its source."""
    own = _runs(text)
    example = _runs(PROMPTS[request.way]) - _runs(f"{request.source.text} {request.source.text_pair or ''}")
    return len(own & example) >= COPIED * max(1, len(own))


def _runs(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return set(zip(words, words[1:], words[2:], strict=False))
