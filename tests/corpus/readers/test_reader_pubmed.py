"""PubMed XML: every field, and records that are odd."""

import gzip

import pytest

from wellread.corpus.documents import MeshHeading, Section
from wellread.corpus.readers import detect, pubmed
from wellread.errors import DataError

RECORD = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE PubmedArticleSet SYSTEM "http://dtd.nlm.nih.gov/ncbi/pubmed/out/pubmed_190101.dtd">
<PubmedArticleSet>
<PubmedArticle><MedlineCitation Status="MEDLINE" Owner="NLM">
  <PMID Version="1">101</PMID>
  <Article PubModel="Print">
    <Journal><JournalIssue><PubDate><MedlineDate>1998 Dec-1999 Jan</MedlineDate></PubDate></JournalIssue>
      <Title>Journal of Examples</Title></Journal>
    <ArticleTitle>Effect of <i>E. coli</i> on
      Na<sup>+</sup> &amp; &alpha;-things.</ArticleTitle>
    <Abstract>
      <AbstractText Label="AIM" NlmCategory="OBJECTIVE">To <b>see</b>.</AbstractText>
      <AbstractText Label="MATERIALS &amp; METHODS" NlmCategory="UNASSIGNED">We looked.</AbstractText>
      <AbstractText Label="TRIAL REGISTRATION">NCT1.</AbstractText>
      <AbstractText Label="RESULTS" NlmCategory="RESULTS"/>
      <AbstractText>Plain.</AbstractText>
      <CopyrightInformation>Copyright 1999 Nobody.</CopyrightInformation>
    </Abstract>
    <Language>ger</Language><Language>eng</Language>
    <PublicationTypeList><PublicationType UI="D016428">Journal Article</PublicationType>
      <PublicationType UI="D016454">Review</PublicationType></PublicationTypeList>
  </Article>
  <MeshHeadingList>
    <MeshHeading><DescriptorName UI="D006801" MajorTopicYN="N">Humans</DescriptorName></MeshHeading>
    <MeshHeading><DescriptorName UI="D1" MajorTopicYN="Y">Heart</DescriptorName></MeshHeading>
    <MeshHeading><DescriptorName UI="D2" MajorTopicYN="N">Liver</DescriptorName>
      <QualifierName UI="Q1" MajorTopicYN="N">blood</QualifierName>
      <QualifierName UI="Q2" MajorTopicYN="Y">surgery</QualifierName></MeshHeading>
  </MeshHeadingList>
  <KeywordList Owner="NOTNLM"><Keyword MajorTopicYN="N">sodium</Keyword><Keyword>ions</Keyword></KeywordList>
</MedlineCitation>
<PubmedData><ArticleIdList><ArticleId IdType="pubmed">999</ArticleId>
  <ArticleId IdType="pmc">PMC7</ArticleId></ArticleIdList></PubmedData>
</PubmedArticle>
<PubmedArticle><MedlineCitation><PMID Version="1">102</PMID>
  <Article><ArticleTitle>[On nothing].</ArticleTitle><Language>fre</Language></Article>
</MedlineCitation></PubmedArticle>
<DeleteCitation><PMID Version="1">7</PMID></DeleteCitation>
</PubmedArticleSet>
"""


def test_every_field(tmp_path):
    path = tmp_path / "pubmed21n0001.xml.gz"
    path.write_bytes(gzip.compress(RECORD.encode()))
    first, second = detect.read(path)
    assert first.id == "pmid:101"
    assert first.title == "Effect of E. coli on Na+ & \u03b1-things."
    assert first.sections == (
        Section("AIM", "OBJECTIVE", "To see."),
        Section("MATERIALS & METHODS", "METHODS", "We looked."),
        Section("TRIAL REGISTRATION", "", "NCT1."),
        Section("", "", "Plain."),
    )
    assert first.mesh == (
        MeshHeading("Humans", "D006801", False),
        MeshHeading("Heart", "D1", True),
        MeshHeading("Liver", "D2", True),
    )
    assert first.publication_types == ("Journal Article", "Review")
    assert first.keywords == ("sodium", "ions")
    assert (first.language, first.year, first.licence) == ("eng", 1998, "Copyright 1999 Nobody.")
    assert first.meta == {"journal": "Journal of Examples", "pmcid": "PMC7"}
    assert first.source == "pubmed21n0001.xml.gz"
    assert (second.id, second.title, second.sections) == ("pmid:102", "[On nothing].", ())
    assert (second.language, second.year, second.mesh) == ("fre", None, ())


def test_memory_is_freed_record_by_record(tmp_path):
    """A file of many records is parsed without its tree growing: the parent has no earlier children."""
    path = tmp_path / "many.xml"
    with open(path, "w") as stream:
        stream.write("<PubmedArticleSet>\n")
        for number in range(3000):
            stream.write(
                f"<PubmedArticle><MedlineCitation><PMID>{number}</PMID><Article><ArticleTitle>T"
                "</ArticleTitle></Article></MedlineCitation></PubmedArticle>\n"
            )
        stream.write("</PubmedArticleSet>\n")
    from wellread.corpus.readers.xml import records

    for number, article in enumerate(records(path, ("PubmedArticle",))):
        assert article.findtext("MedlineCitation/PMID") == str(number)
        assert len(list(article.itersiblings(preceding=True))) <= 1
    assert number == 2999


def test_no_entity_is_expanded_and_no_file_is_read(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret words")
    bomb = "".join(f'<!ENTITY l{level} "{f"&l{level - 1};" * 10}">' for level in range(1, 10))
    path = tmp_path / "bomb.xml"
    path.write_text(
        f'<!DOCTYPE PubmedArticleSet [<!ENTITY l0 "lol"><!ENTITY file SYSTEM "file://{secret}">{bomb}]>'
        "<PubmedArticleSet><PubmedArticle><MedlineCitation><PMID>1</PMID><Article>"
        "<ArticleTitle>a &l9; b &file; c</ArticleTitle></Article></MedlineCitation></PubmedArticle>"
        "</PubmedArticleSet>"
    )
    try:
        (document,) = pubmed.read(path)
    except DataError as error:
        assert "secret" not in str(error).replace(str(path), "")
    else:
        assert len(document.title) < 50
        assert "secret words" not in document.title


def test_a_record_without_pmid_is_refused_with_its_line(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(
        "<PubmedArticleSet>\n\n<PubmedArticle><MedlineCitation/></PubmedArticle></PubmedArticleSet>"
    )
    with pytest.raises(DataError) as caught:
        list(pubmed.read(path))
    assert caught.value.where == f"{path}:3"
