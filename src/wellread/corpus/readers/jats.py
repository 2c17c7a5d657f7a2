"""Full-text articles in JATS, the XML of PubMed Central and of most biomedical publishers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wellread.corpus.documents import Document, Section
from wellread.corpus.languages import language_code
from wellread.corpus.readers.roles import section
from wellread.corpus.readers.xml import records, text_of

_XML_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_HREF = "{http://www.w3.org/1999/xlink}href"
# Not part of the running text.
_LEFT_OUT = {
    *("title", "label", "fig", "table-wrap", "fig-group", "table-wrap-group", "supplementary-material"),
    *(
        "ref-list",
        "fn-group",
        "fn",
        "disp-formula",
        "graphic",
        "media",
        "sec-meta",
        "object-id",
        "alternatives",
    ),
}


def read(path: Path, name: str = "") -> Iterator[Document]:
    """Stream the articles of a JATS file: title, the sections of abstract and body, licence, ids.

    Ids are "pmc:PMC123", else "pmid:123", else "FILE#N".  Figures, tables, formulas, notes and references
    are left out.

    Args:
        path: a JATS file, compressed or not, with one article or many (``articles``, ``pmc-articleset``).
        name: the source that ids and documents state; default the file's name.

    Raises:
        DataError: broken XML.
    """
    source = name or Path(path).name
    for number, article in enumerate(records(path, ("{*}article",)), 1):
        yield _document(article, f"{source}#{number}", source)


def _document(article: Any, made_id: str, source: str) -> Document:
    ids = {
        found.get("pub-id-type", ""): text_of(found)
        for found in article.iterfind("{*}front/{*}article-meta/{*}article-id")
    }
    meta = article.find("{*}front/{*}article-meta")
    pmc = ids.get("pmcid") or ids.get("pmc") or ""
    pmid = ids.get("pmid", "")
    abstract = _abstract(meta)
    body = article.find("{*}body")
    sections = [
        *(_sections(abstract, "") if abstract is not None else ()),
        *(_sections(body, "") if body is not None else ()),
    ]
    return Document(
        id=f"pmc:PMC{pmc.removeprefix('PMC')}" if pmc else f"pmid:{pmid}" if pmid else made_id,
        title=text_of(meta.find("{*}title-group/{*}article-title")) if meta is not None else "",
        sections=tuple(sections),
        source=source,
        language=language_code(article.get(_XML_LANGUAGE, "")),
        licence=_licence(meta),
        year=_year(meta),
        publication_types=(article.get("article-type"),) if article.get("article-type") else (),
        keywords=tuple(text_of(word) for word in article.iterfind(".//{*}kwd-group/{*}kwd")),
        meta={
            "journal": text_of(article.find(".//{*}journal-meta//{*}journal-title")),
            **({"pmid": pmid} if pmc and pmid else {}),
        },
    )


def _abstract(meta: Any) -> Any:
    """The abstract proper, before graphical ones and summaries for laymen."""
    if meta is None:
        return None
    found = meta.findall("{*}abstract")
    plain = [part for part in found if not part.get("abstract-type")]
    return (plain or found or [None])[0]


def _sections(parent: Any, heading: str) -> Iterator[Section]:
    """The text of ``parent`` and of its ``sec`` elements; a subsection is a section with its own heading."""
    paragraphs: list[str] = []
    for child in parent:
        if not isinstance(child.tag, str):
            continue
        tag = child.tag.rpartition("}")[2]
        if tag == "sec":
            if paragraphs:
                yield section(heading, "\n".join(paragraphs))
                paragraphs = []
            yield from _sections(child, text_of(child.find("{*}title")) or heading)
        elif tag not in _LEFT_OUT:
            text = _running_text(child)
            if text:
                paragraphs.append(text)
    if paragraphs:
        yield section(heading, "\n".join(paragraphs))


def _running_text(element: Any) -> str:
    """The text of a paragraph or list without the figures and tables that float in it."""
    for child in list(element.iter()):
        if isinstance(child.tag, str) and child.tag.rpartition("}")[2] in _LEFT_OUT - {"title", "label"}:
            tail, child.tail = child.tail, None
            child.clear()
            child.tail = f" {tail or ''}"
        elif (
            isinstance(child.tag, str)
            and child is not element
            and child.tag.rpartition("}")[2] in ("p", "list-item")
        ):
            child.tail = f" {child.tail or ''}"
    return text_of(element)


def _licence(meta: Any) -> str:
    permissions = meta.find("{*}permissions") if meta is not None else None
    if permissions is None:
        return ""
    found = permissions.find("{*}license")
    if found is not None:
        address = found.get(_HREF) or next(
            (
                link.get(_HREF)
                for link in found.iter("{*}ext-link")
                if "creativecommons" in (link.get(_HREF) or "")
            ),
            "",
        )
        return address or found.get("license-type") or text_of(found)
    return text_of(permissions.find("{*}copyright-statement"))


def _year(meta: Any) -> int | None:
    if meta is None:
        return None
    years = [text_of(year) for year in meta.iterfind("{*}pub-date/{*}year")]
    numbers = [int(year) for year in years if year.isdecimal() and year.isascii() and len(year) == 4]
    return min(numbers, default=None)
