"""JATS: title, sections, licence and ids; what is not running text is left out."""

import pytest

from wellread.corpus.documents import Section
from wellread.corpus.readers import detect, jats

ARTICLE = """<article xmlns:xlink="http://www.w3.org/1999/xlink" article-type="research-article"
  xml:lang="en"><front><journal-meta><journal-title>J Ex</journal-title></journal-meta>
<article-meta>
  <article-id pub-id-type="pmid">55</article-id><article-id pub-id-type="pmc">77</article-id>
  <title-group><article-title>A <italic>title</italic><xref ref-type="fn">*</xref></article-title>
  </title-group>
  <pub-date pub-type="ppub"><year>2012</year></pub-date><pub-date pub-type="epub"><year>2011</year></pub-date>
  <permissions><copyright-statement>Copyright 2011 X</copyright-statement>
    <license xlink:href="http://creativecommons.org/licenses/by/4.0/"><license-p>Open.</license-p></license>
  </permissions>
  <abstract><sec><title>Background:</title><p>Why.</p></sec><sec><title>Results:</title><p>What.</p></sec></abstract>
  <abstract abstract-type="graphical"><p>Not this.</p></abstract>
  <kwd-group><kwd>one</kwd><kwd>two</kwd></kwd-group>
</article-meta></front>
<body><p>Opening.</p>
  <sec><title>2. Materials and Methods</title><p>Cells <xref>[1]</xref> grew.</p>
    <fig><caption><p>Not a figure.</p></caption></fig>
    <sec><title>Assay</title><p>Measured<fig><caption><p>floating</p></caption></fig> twice.</p>
      <list><list-item><p>one item</p></list-item><list-item><p>another</p></list-item></list></sec>
    <p>After the subsection.</p>
  </sec>
</body>
<back><ref-list><ref><mixed-citation>Not a reference.</mixed-citation></ref></ref-list></back>
</article>"""

SECTIONS = (
    Section("Background:", "BACKGROUND", "Why."),
    Section("Results:", "RESULTS", "What."),
    Section("", "", "Opening."),
    Section("2. Materials and Methods", "METHODS", "Cells [1] grew."),
    Section("Assay", "", "Measured twice.\none item another"),
    Section("2. Materials and Methods", "METHODS", "After the subsection."),
)


def test_an_article(tmp_path):
    path = tmp_path / "a.nxml"
    path.write_text(ARTICLE)
    (document,) = detect.read(path)
    assert (document.id, document.title, document.meta["pmid"]) == ("pmc:PMC77", "A title*", "55")
    assert document.sections == SECTIONS
    assert document.licence == "http://creativecommons.org/licenses/by/4.0/"
    assert (document.year, document.language, document.keywords) == (2011, "eng", ("one", "two"))
    assert document.meta["journal"] == "J Ex"


@pytest.mark.parametrize("root", ["<articles>{}{}</articles>", "<pmc-articleset>{}{}</pmc-articleset>"])
def test_many_articles_and_a_namespace(tmp_path, root):
    path = tmp_path / "a.xml"
    path.write_text(
        root.format(ARTICLE, ARTICLE.replace("<article ", '<article xmlns="http://jats.nlm.nih.gov" '))
    )
    found = list(detect.read(path))
    assert [document.sections for document in found] == [SECTIONS, SECTIONS]


def test_an_article_without_ids_gets_one_from_its_file(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text("<article><body><p>Text.</p></body></article>")
    (document,) = jats.read(path)
    assert (document.id, document.body) == ("a.xml#1", "Text.")
