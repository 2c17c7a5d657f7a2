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
PROMPTS: dict[Way, str] = {
    "rewrite": "Say the following question in other words, with the same meaning. "
    "Reply with the question only.\n\nQuestion: {text}\n\nQuestion in other words:",
    "new": 'Read the following study.\n\n{context}\n\nWrite one research question, different from "{text}", '
    'that this study answers with "{label}". Reply with the question only.\n\nQuestion:',
}
LEAST_WORDS = 4
MOST_TIMES = 3  # as many words as the source's question, at most
_LEAD = re.compile(r"^\W*(?:[\w ]{0,40}question[\w ]{0,40}:|\d+[.)])\s*", re.IGNORECASE)
_QUOTES = "\"'`*“”‘’ \t"


@dataclass(frozen=True)
class Request:
    """One call of the generator.

    Attributes:
        id: of the example that may come of it.
        way: rewrite or new.
        source: the training example behind it.
        prompt: what the generator reads.
    """

    id: str
    way: Way
    source: Example
    prompt: str


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
                # Not str.format: the texts may hold braces.
                prompt = re.sub(r"\{(\w+)\}", lambda match, v=values: v[match[1]], PROMPTS[way])  # type: ignore[misc]
                yield Request(f"{source.id}-{way}-{copy}", way, source, prompt)


def question(answer: str, source: str) -> str | None:
    """The question in a generator's answer, or None where there is none to be trusted.

    It is the first line with words; where the source ends with a question mark, so must it; it has at least
    four words and at most three times as many as the source.

    Args:
        answer: of the generator.
        source: the question that it was asked about.
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
        return text if LEAST_WORDS <= words <= MOST_TIMES * max(len(source.split()), LEAST_WORDS) else None
    return None
