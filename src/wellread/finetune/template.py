"""Templates: a labelled example as a question whose answer is a word.

The template is filled in line by line; a line of which nothing is filled in is left out.  The words that
answer are the labels themselves, or letters beside a list of the labels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer

from wellread.errors import RecipeError
from wellread.finetune.encode import Question
from wellread.tasks.task import LETTERS, Example, list_options

DEFAULT = "{text}\n{text_pair}\n{options}\nAnswer: {answer}"
TEMPLATE_KEY, WORDS_KEY = "finetune.answer.template", "finetune.answer.words"
_FIELDS = ("text", "text_pair", "options", "answer")
_CUT = ("text", "text_pair")
_SLOT = re.compile(r"\{([^{}]*)\}")


def check(template: str, *, last: bool) -> None:
    """Refuse a template that cannot be filled in.

    Args:
        template: as in the recipe.
        last: whether nothing may follow the answer.

    Raises:
        RecipeError: an unknown field, no {text}, not exactly one {answer}, or something behind it.
    """
    fields = _SLOT.findall(template)
    unknown = [name for name in fields if name not in _FIELDS]
    if unknown:
        what, fix = f"unknown field {{{unknown[0]}}}", f"use {', '.join(f'{{{name}}}' for name in _FIELDS)}"
    elif fields.count("answer") != 1 or "text" not in fields:
        what, fix = "a template needs {text}, and {answer} once", f"for instance {DEFAULT!r}"
    elif last and not template.rstrip().endswith("{answer}"):
        what, fix = "a decoder answers at the end", "let {answer} stand last"
    else:
        return
    raise RecipeError(what, where=TEMPLATE_KEY, fix=fix)


def before_answer(template: str) -> tuple[str, str]:
    """The template's own text right before {answer}: without the white space at its end, and that alone."""
    text = template[: template.index("{answer}")]
    literal = text[max(text.rfind("}"), text.rfind("\n")) + 1 :]
    return literal.rstrip(), literal[len(literal.rstrip()) :]


def fill(template: str, example: Example, options: str, mark: str | None) -> Question:
    """Fill in a template.

    Args:
        template: with the fields.
        example: its label is not looked at.
        options: the list of labels, or "".  An example's own options come before it.
        mark: what stands for the answer; None to end right before it.
    """
    own = list_options(example.options) if example.options else options
    values = {"text": example.text, "text_pair": example.text_pair, "options": own, "answer": mark or ""}
    text, fields, answer = "", [], None
    for line in template.split("\n"):
        pieces = _SLOT.split(line)
        names = pieces[1::2]
        if names and "answer" not in names and not any(values[name] for name in names):
            continue
        text += "\n" if text else ""
        for literal, name in zip(pieces[0::2], [*names, ""], strict=True):
            text += literal
            value = (values[name] or "").strip() if name else ""
            if name == "answer" and mark is not None:
                answer = (len(text), len(text) + len(value))
            elif name in _CUT and value:
                fields.append((len(text), len(text) + len(value)))
            text += value
    return Question(text if mark is not None else text.rstrip(), tuple(fields), answer)


def pieces(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text, without special tokens."""
    engine: Tokenizer = tokenizer.backend_tokenizer
    return engine.encode(text, add_special_tokens=False).ids


def continuation(tokenizer: Any, before: str, text: str) -> list[int]:
    """Token ids of a text as they are behind another one, as far as the tokens of that one stay the same."""
    begun, whole = pieces(tokenizer, before), pieces(tokenizer, before + text)
    return whole[len(begun) :] if whole[: len(begun)] == begun else pieces(tokenizer, text)


def given_words(labels: Sequence[str], given: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """The recipe's words in the order of the labels; () where it gives none.

    Raises:
        RecipeError: a label has no word, or a word no label.
    """
    found = dict(given)
    wrong = sorted(set(found) ^ set(labels))
    if found and wrong:
        what = "has no word" if wrong[0] in labels else "is no label of the task"
        raise RecipeError(
            f"{wrong[0][:60]!r} {what}", where=WORDS_KEY, fix=f"give one for each of {', '.join(labels)}"
        )
    return tuple(found[label] for label in labels) if found else ()


def label_options(labels: Sequence[str], words: Sequence[str]) -> str:
    """The list of the labels where letters stand for them, else ""."""
    letters = LETTERS[: len(labels)]
    return list_options(labels) if tuple(words) == letters and tuple(labels) != letters else ""
