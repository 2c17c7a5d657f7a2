"""PubMed citations as NLM publishes them (``pubmedYYnNNNN.xml.gz``, a ``PubmedArticleSet``)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wellread.corpus.documents import Document, MeshHeading, Section
from wellread.corpus.readers.roles import section
from wellread.corpus.readers.xml import records, text_of, year_in
from wellread.errors import DataError


def read(path: Path, name: str = "") -> Iterator[Document]:
    """Stream the citations of a file; ids are "pmid:123".  Deletions (``DeleteCitation``) are passed over.

    Args:
        path: an XML file, compressed or not.
        name: what the documents state as their source; default the file's name.

    Raises:
        DataError: broken XML, or a citation without PMID.
    """
    source = name or Path(path).name
    for article in records(path, ("PubmedArticle",)):
        citation = article.find("MedlineCitation")
        pmid = text_of(citation.find("PMID")) if citation is not None else ""
        if not pmid:
            raise DataError(
                "a PubmedArticle without PMID",
                where=f"{path}:{article.sourceline}",
                fix="fetch the file again from NLM, or drop the record",
            )
        pmc = text_of(article.find("PubmedData/ArticleIdList/ArticleId[@IdType='pmc']"))
        yield _document(citation, pmid, pmc, source)


def _document(citation: Any, pmid: str, pmc: str, source: str) -> Document:
    article = citation.find("Article")
    if article is None:
        return Document(f"pmid:{pmid}", "", (), source)
    abstract = article.find("Abstract")
    return Document(
        id=f"pmid:{pmid}",
        title=text_of(article.find("ArticleTitle")),
        sections=_sections(abstract) if abstract is not None else (),
        source=source,
        language=_language([text_of(language) for language in article.findall("Language")]),
        licence=text_of(abstract.find("CopyrightInformation")) if abstract is not None else "",
        year=_year(article),
        mesh=tuple(_mesh(heading) for heading in citation.iterfind("MeshHeadingList/MeshHeading")),
        publication_types=tuple(
            text_of(kind) for kind in article.iterfind("PublicationTypeList/PublicationType")
        ),
        keywords=tuple(text_of(keyword) for keyword in citation.iterfind("KeywordList/Keyword")),
        meta={"journal": text_of(article.find("Journal/Title")), **({"pmcid": pmc} if pmc else {})},
    )


def _sections(abstract: Any) -> tuple[Section, ...]:
    found = []
    for part in abstract.iterfind("AbstractText"):
        text = text_of(part)
        if text:
            found.append(section(part.get("Label", ""), text, part.get("NlmCategory", "")))
    return tuple(found)


def _language(languages: list[str]) -> str:
    """English if the article is (also) in English, else the first language stated."""
    return "eng" if "eng" in languages else languages[0] if languages else ""


def _year(article: Any) -> int | None:
    date = article.find("Journal/JournalIssue/PubDate")
    found = year_in(" ".join(date.itertext())) if date is not None else None
    return found or year_in(text_of(article.find("ArticleDate/Year")))


def _mesh(heading: Any) -> MeshHeading:
    descriptor = heading.find("DescriptorName")
    major = any(part.get("MajorTopicYN") == "Y" for part in heading)
    return MeshHeading(text_of(descriptor), descriptor.get("UI", ""), major)
