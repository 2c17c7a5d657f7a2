"""Text as it should be read: one Unicode form, no invisible characters, encoding damage repaired."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace

from wellread.corpus.documents import Document, MeshHeading, Section

_SURROGATE = re.compile("[\ud800-\udfff]")
# What is left of U+0080-U+009F after the repair, the other control characters but tab and line ends,
# and the characters that Unicode will never assign.
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f\x80-\x9f\ufdd0-\ufdef\ufffe\uffff]")
# Soft hyphen, zero-width space, direction marks, byte order mark, interlinear marks, tags.
_INVISIBLE = re.compile(
    "[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
# Zero-width joiners shape Persian, Indic and emoji text, so between two non-ASCII characters they stay.
_JOINER = re.compile("[\u200c\u200d](?:(?<![^\x00-\x7f][\u200c\u200d])|(?![^\x00-\x7f]))")
_LINE_END = re.compile("[\r\x0b\x0c\u2028\u2029]")
_SPACE = re.compile("[\t\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_SPACES = re.compile(" {2,}")
_SPACE_AT_LINE_END = re.compile("\n | \n ?")
_SPACES_BEFORE_END = re.compile("[ \t]+(?=\n)")
_BLANK_LINES = re.compile("\n{3,}")

# Windows-1252 as bytes; the five bytes that it leaves out stand for themselves, as in most decoders.
_CHARACTERS = {byte: bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in range(0x80, 0x100)}
_BYTES = {character: byte for byte, character in _CHARACTERS.items()} | {
    chr(byte): byte for byte in range(0x80, 0xA0)
}
_WINDOWS = re.compile("[\x80-\x9f]")
_CONTINUATION = "[" + re.escape("".join(key for key, byte in _BYTES.items() if byte < 0xC0)) + "]"
# UTF-8 read as Windows-1252.  Only the first bytes of what English biomedical text holds: Latin-1 signs and
# letters (C2, C3), Greek (CE, CF), punctuation and mathematics (E2), ligatures and U+FFFD (EF).  Others, such
# as the Angstrom sign before a dash, occur in sound text.
_MOJIBAKE = re.compile(
    "[\u00c2\u00c3\u00ce\u00cf\u00e2\u00ef]"
    f"(?:(?<=[\u00c2\u00c3\u00ce\u00cf]){_CONTINUATION}|(?<=[\u00e2\u00ef]){_CONTINUATION}{{2}})"
)


def clean_text(text: str, keep_layout: bool = False) -> str:
    r"""Put a text into the one form in which it is stored and trained on.

    NFC; line ends as ``\n`` with at most one blank line; runs of spaces, tabs and non-breaking spaces as
    one space; control and invisible characters removed; lone surrogates as U+FFFD; UTF-8 that was read as
    Windows-1252, or Windows-1252 as Latin-1, repaired.  A clean text stays as it is.

    Args:
        text: as read.
        keep_layout: leave spaces, tabs and blank lines as they are, but for those around the text and at line
            ends: they are part of code.
    """
    if text.isascii() and text.isprintable() and "  " not in text and not keep_layout:
        return text.strip(" ")
    # A pass can bring together what an earlier step of it would have changed.
    while (cleaner := _pass(text, keep_layout)) != text:
        text = cleaner
    return text


def clean(document: Document, keep_layout: bool = False) -> Document:
    """The document with every string cleaned; empty sections are dropped, title and headings are one line."""
    return replace(
        document,
        id=_line(document.id),
        title=_line(document.title),
        sections=tuple(
            Section(_line(section.heading), section.label, text)
            for section in document.sections
            if (text := clean_text(section.text, keep_layout))
        ),
        source=_line(document.source),
        language=_line(document.language),
        licence=_line(document.licence),
        mesh=tuple(
            MeshHeading(_line(heading.name), _line(heading.ui), heading.major) for heading in document.mesh
        ),
        publication_types=tuple(_line(kind) for kind in document.publication_types),
        keywords=tuple(_line(keyword) for keyword in document.keywords),
        meta={
            _line(key): _line(value) if isinstance(value, str) else value
            for key, value in document.meta.items()
        },
    )


def _pass(text: str, keep_layout: bool) -> str:
    text = _SURROGATE.sub("\ufffd", text)
    text = _MOJIBAKE.sub(_repaired, text)
    text = _WINDOWS.sub(lambda match: _CHARACTERS[ord(match[0])], text)
    text = _LINE_END.sub("\n", text.replace("\r\n", "\n"))
    text = _JOINER.sub("", _INVISIBLE.sub("", _CONTROL.sub("", text)))
    text = unicodedata.normalize("NFC", text)
    if keep_layout:
        return _SPACES_BEFORE_END.sub("", text).strip("\n").rstrip()
    text = _SPACES.sub(" ", _SPACE.sub(" ", text))
    text = _SPACE_AT_LINE_END.sub("\n", text)
    return _BLANK_LINES.sub("\n\n", text).strip("\n ")


def _repaired(match: re.Match[str]) -> str:
    try:
        return bytes(_BYTES[character] for character in match[0]).decode("utf-8")
    except UnicodeDecodeError:
        return match[0]


def _line(text: str) -> str:
    return " ".join(clean_text(text).split())
