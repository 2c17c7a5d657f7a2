"""Input as users have it: each case is read rightly, or refused with file and line, cause and fix.

Every case goes through the whole corpus stage, so that it is also seen that nothing is left half-written.
"""

import bz2
import gzip
import io
import json
import lzma
import os
import socket
import subprocess
import sys
import tarfile
import textwrap

import pytest
import zstandard

from wellread.corpus import documents
from wellread.corpus.prepare import prepare
from wellread.errors import DataError, UserError
from wellread.settings import CorpusSettings

LINE = json.dumps({"id": "a", "text": "Some words of a first document."}) + "\n"
PUBMED = (
    "<PubmedArticleSet>\n<PubmedArticle><MedlineCitation><PMID>1</PMID><Article><ArticleTitle>Some title"
    "</ArticleTitle></Article></MedlineCitation></PubmedArticle>\n</PubmedArticleSet>"
)


def run(tmp_path, *sources):
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    settings = CorpusSettings(sources=sources, min_words=1, near_duplicates=0.0)
    report = prepare(settings, tmp_path, out, quiet=True)
    return report, list(documents.read(out / "documents.jsonl.zst"))


def parquet(columns):
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream)
    return stream.getvalue()


def tar():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        info = tarfile.TarInfo("a.jsonl")
        info.size = len(LINE)
        archive.addfile(info, io.BytesIO(LINE.encode()))
    return stream.getvalue()


LONG = "".join(json.dumps({"text": f"document {number} of many"}) + "\n" for number in range(20_000)).encode()

# name of the file, its bytes, where (after the path), words of the cause, words of the fix
REFUSED = {
    "latin-1": (
        "a.txt",
        "caf\u00e9 au lait".encode("latin-1"),
        ":1",
        "Latin-1",
        "iconv -f ISO-8859-1 -t UTF-8",
    ),
    "windows-1252": ("a.txt", b"fine\nit\x92s", ":2", "Windows-1252", "iconv -f WINDOWS-1252 -t UTF-8"),
    "latin-1 packed": ("a.txt.gz", gzip.compress(b"\xe9t\xe9"), ":1", "0xe9", "gzip -dc"),
    "utf-16 unmarked": (
        "a.txt",
        "Some words of text".encode("utf-16-le"),
        ":1",
        "UTF-16LE",
        "iconv -f UTF-16LE",
    ),
    "utf-16be unmarked": (
        "a.txt",
        "Some words of text".encode("utf-16-be"),
        ":1",
        "UTF-16BE",
        "iconv -f UTF-16BE",
    ),
    "utf-16 broken": ("a.txt", b"\xff\xfea\0b\0\x00\xd8a\0", "", "not valid UTF-16", "again"),
    "surrogate bytes": ("a.txt", b"fine\nlone \xed\xa0\x80", ":2", "not valid UTF-8", "iconv"),
    "gzip cut": ("a.jsonl.gz", gzip.compress(LONG)[:-2000], "", "cut off", "fetch or make the file again"),
    "xz cut": ("a.jsonl.xz", lzma.compress(LONG)[:-2000], "", "cut off", "again"),
    "bzip2 cut": ("a.jsonl.bz2", bz2.compress(LONG)[:-2000], "", "cut off", "again"),
    "zstd cut": ("a.jsonl.zst", zstandard.compress(LONG)[:-2000], "", "cut off", "again"),
    "gzip damaged": ("a.jsonl.gz", gzip.compress(LINE.encode())[:-8] + b"\0" * 8, "", "damaged", "again"),
    "gzip header only": ("a.jsonl.gz", gzip.compress(LINE.encode())[:5], "", "cut off", "again"),
    "not gzip": ("a.jsonl.gz", b"\x00\x01\xfe\xff" * 9, "", "named as a gzip file", "again"),
    "empty": ("a.jsonl", b"", "", "empty", "corpus.sources"),
    "empty packed": ("a.txt.xz", lzma.compress(b""), "", "empty", "corpus.sources"),
    "blank": ("a.txt", b" \n\n\t\n", "", "empty", "corpus.sources"),
    "broken XML": ("a.xml", PUBMED.replace("</Article>", "").encode(), ":2", "broken XML", "xmllint"),
    "XML cut": ("a.xml", PUBMED[:-30].encode(), ":2", "broken XML", "again"),
    "XML bad byte": (
        "a.xml",
        PUBMED.replace("title", "\udce9").encode("utf-8", "surrogateescape"),
        ":2",
        "XML",
        "",
    ),
    "XML control": ("a.xml", PUBMED.replace("Some title", "a\x01b").encode(), ":2", "broken XML", "xmllint"),
    "not XML": ("a.xml", b"Just words.", ":1", "does not begin as XML", "JSONL"),
    "HTML as XML": ("a.xml.gz", b"<html><body>404</body></html>", ":1", "<html>", "JSONL"),
    "other XML": ("a.xml", b"<rss><item/></rss>", ":1", "<rss>", "JSONL"),
    "no PMID": ("a.xml", PUBMED.replace("<PMID>1</PMID>", "").encode(), ":2", "without PMID", "again"),
    "JSON cut": ("a.jsonl", (LINE + '{"text": "x').encode(), ":2", "not valid JSON", "one whole JSON object"),
    "JSON list": ("a.jsonl", (LINE + '["text"]\n').encode(), ":2", "not a list", '{"id": ..., "text": ...}'),
    "JSON string": ("a.jsonl", b'"text"', ":1", "not a string", '"text"'),
    "JSON null": ("a.jsonl", b"null", ":1", "not null", '"text"'),
    "JSON pretty": ("a.json", b'[\n {"text": "x"}\n]', ":1", "not valid JSON", "on each line"),
    "JSON deep": ("a.jsonl", b'{"text": ' + b"[" * 200_000, ":1", "nested too deeply", "flatten"),
    "JSON digits": ("a.jsonl", b'{"text": "x", "n": ' + b"9" * 5000 + b"}", ":1", "too many digits", ""),
    "keys missing": (
        "a.jsonl",
        b'{"body": "x", "key": 1}',
        ":1",
        "the keys are 'body', 'key'",
        "corpus.text_field",
    ),
    "text a number": (
        "a.jsonl",
        (LINE + '{"text": 12}').encode(),
        ":2",
        "'text' must be a string, not a num",
        "",
    ),
    "text a list": ("a.jsonl", b'{"text": ["x"]}', ":1", "not a list", "correct"),
    "title true": ("a.jsonl", b'{"text": "x", "title": true}', ":1", "'title' must be a string", "correct"),
    "id an object": ("a.jsonl", b'{"text": "x", "id": {}}', ":1", "'id' must be a string, not an object", ""),
    "id a fraction": (
        "a.jsonl",
        b'{"text": "x", "id": 1.5}',
        ":1",
        "'id' must be a string, not a number",
        "",
    ),
    "mesh mixed": ("a.jsonl", b'{"text": "x", "mesh": ["a", {}]}', ":1", "'mesh' must be", "correct"),
    "keywords mixed": ("a.jsonl", b'{"text": "x", "keywords": ["a", 1]}', ":1", "list of strings", "correct"),
    "sections wrong": (
        "a.jsonl",
        b'{"sections": [{"heading": "x"}]}',
        ":1",
        "{heading, label, text}",
        "correct",
    ),
    "CSV column": ("a.csv", b"id,body\n1,x\n", ":2", "the keys are 'id', 'body'", "corpus.text_field"),
    "CSV width": ("a.csv", b"id,text\n1,x\n2,y,z\n", ":3", "3 values, the header 2", "quote"),
    "CSV quote": ("a.csv", b'id,text\n1,"x\n2,y\n', ":2", "broken row", "closing quote"),
    "CSV same names": ("a.csv", b"text,text\nx,y\n", ":1", "same name", "rename"),
    "CSV blank header": ("a.csv", b"\ntext\nx\n", ":1", "no header", "column names"),
    "Parquet column": (
        "a.parquet",
        parquet({"body": ["x"]}),
        "",
        "the columns are 'body'",
        "corpus.text_field",
    ),
    "Parquet numbers": ("a.parquet", parquet({"text": [1, 2]}), ":1", "not a number", ""),
    "Parquet lists": ("a.parquet", parquet({"text": [None, ["x"]]}), ":2", "not a list", ""),
    "Parquet cut": ("a.parquet", parquet({"text": ["x"]})[:-20], "", "damaged Parquet", "again"),
    "not Parquet": ("a.parquet", b"text", "", "not Parquet", "again"),
    "PDF": ("a.txt", b"%PDF-1.4", "", "PDF", "convert"),
    "Word": ("a.docx", b"PK\x03\x04\x14", "", "Office", "convert"),
    "tar": ("a.tar.gz", tar(), "", "tar", "unpack"),
    "picture": ("a.dat", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff\xee", "", "binary", "corpus.sources"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_place_cause_and_fix(tmp_path, case):
    name, data, place, cause, fix = REFUSED[case]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError) as caught:
        run(tmp_path, name)
    assert caught.value.where == f"{tmp_path / name}{place}"
    assert cause in caught.value.what
    assert fix in caught.value.fix
    assert caught.value.fix
    assert caught.value.exit_code == 2
    assert list((tmp_path / "out").iterdir()) == []


# name of the file, its bytes, the texts that are read
READ = {
    "BOM": ("a.jsonl", b"\xef\xbb\xbf" + LINE.encode(), ["Some words of a first document."]),
    "BOM in CSV": ("a.csv", b"\xef\xbb\xbftext\nx y\n", ["x y"]),
    "UTF-16": ("a.jsonl", LINE.encode("utf-16"), ["Some words of a first document."]),
    "UTF-16 big": ("a.txt", b"\xfe\xff" + "caf\u00e9\n\nzwei".encode("utf-16-be"), ["caf\u00e9", "zwei"]),
    "UTF-32": ("a.txt", "caf\u00e9 caf\u00e9".encode("utf-32"), ["caf\u00e9 caf\u00e9"]),
    "NUL": ("a.txt", b"nul\0l and void of all meaning", ["null and void of all meaning"]),
    "NUL in JSON": ("a.jsonl", b'{"text": "a\\u0000b c\x00d"}', ["ab cd"]),
    "NUL in CSV": ("a.csv", b"text\na\0b cd ef gh ij\n", ["ab cd ef gh ij"]),
    "lone surrogate": ("a.jsonl", b'{"text": "a \\ud800 b", "id": "\\udfff"}', ["a \ufffd b"]),
    "CR only": ("a.jsonl", b'{"text": "a"}\r{"text": "b"}\r', ["a", "b"]),
    "CR only text": ("a.txt", b"one\rtwo\r\rthree", ["one\ntwo", "three"]),
    "CRLF": ("a.csv", b'text\r\n"a\r\nb"\r\nc\r\n', ["a\nb", "c"]),
    "no last end": ("a.csv", b"text\nx", ["x"]),
    "wrong suffix": ("a.jsonl.gz", LINE.encode(), ["Some words of a first document."]),
    "no suffix": ("data", lzma.compress(LINE.encode()), ["Some words of a first document."]),
    "two suffixes": ("a.xml.zst", zstandard.compress(PUBMED.encode()), ["Some title"]),
    "XML in Latin-1": (
        "a.xml",
        b'<?xml version="1.0" encoding="iso-8859-1"?>'
        + PUBMED.replace("title", "\u00e9t\u00e9").encode("latin-1"),
        ["Some \u00e9t\u00e9"],
    ),
    "line separator": ("a.jsonl", '{"text": "a\u2028b"}\n'.encode(), ["a\nb"]),
    "NaN": ("a.jsonl", b'{"text": "x", "year": NaN, "id": NaN}', ["x"]),
    "null values": ("a.jsonl", b'{"text": "x", "title": null, "mesh": null, "keywords": null}', ["x"]),
    "Parquet nulls": ("a.parquet", parquet({"text": ["x", None], "id": ["a", None]}), ["x"]),
    "quotes in lines of tabs": (
        "a.tsv",
        b'text\n"one\nsay "two"\n"Three" is said\nfour"\n',
        ['"one', 'say "two"', '"Three" is said', 'four"'],
    ),
    "quoted tab": ("a.tsv", b'text\tid\n"a\tb"\t1\n', ["a b"]),
    "odd year": ("a.jsonl", b'{"text": "x", "year": "circa 1900"}', ["x"]),
}


@pytest.mark.parametrize("case", READ)
def test_read_rightly(tmp_path, case):
    name, data, texts = READ[case]
    (tmp_path / name).write_bytes(data)
    report, kept = run(tmp_path, name)
    assert [document.text for document in kept] == texts
    assert report["kept"] == len(texts)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", b"id,text\n"),
        ("a.jsonl", b'{"text": ""}\n{"text": null}'),
        ("a.xml", b"<PubmedArticleSet/>"),
    ],
    ids=["header only", "empty texts", "no records"],
)
def test_a_file_without_documents(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match="no document is left") as caught:
        run(tmp_path, name)
    assert caught.value.where == "corpus.sources"
    assert list((tmp_path / "out").iterdir()) == []


def test_an_id_given_twice_keeps_the_first_and_is_counted(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": 1, "text": "first"}\n{"id": "1", "text": "second"}')
    report, kept = run(tmp_path, "a.jsonl")
    assert [document.text for document in kept] == ["first"]
    assert report["duplicates"]["ids"] == 1


def _link_to_itself(path):
    path.symlink_to(path.name)


def _link_to_nothing(path):
    path.symlink_to("nothing")


def _socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize("make", [_link_to_itself, _link_to_nothing, _socket, os.mkfifo])
@pytest.mark.parametrize("within", ["alone", "folder"])
def test_what_is_no_file(tmp_path, make, within, monkeypatch):
    folder = tmp_path / "f"
    folder.mkdir()
    monkeypatch.chdir(folder)
    make(folder / "a.txt") if make is not _socket else _socket(folder.joinpath("a.txt").relative_to(folder))
    with pytest.raises(DataError) as caught:
        run(tmp_path, "f/a.txt" if within == "alone" else "f")
    assert caught.value.where == str(folder / "a.txt")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "a.txt").chmod(0)
    with pytest.raises(DataError, match="cannot be read"):
        run(tmp_path, "a.txt")


def test_folders_that_are_linked_in_a_circle(tmp_path):
    (tmp_path / "f" / "g").mkdir(parents=True)
    (tmp_path / "f" / "g" / "back").symlink_to(tmp_path / "f")
    (tmp_path / "f" / "a.txt").write_text("one document")
    report, kept = run(tmp_path, "f")
    assert len(kept) == 1
    assert len(report["files"]) == 1


def test_a_file_name_that_is_no_unicode(tmp_path):
    name = os.fsdecode(b"caf\xe9.txt")
    (tmp_path / name).write_text("one document")
    report, kept = run(tmp_path, "*.txt")
    assert kept[0].id == "caf\\xe9.txt#1"
    assert report["kept"] == 1


def test_a_row_of_a_table_without_end(tmp_path, monkeypatch):
    """A quote that is never closed does not take the whole file into memory."""
    from wellread.corpus.readers import table

    monkeypatch.setattr(table, "MAX_LINE_BYTES", 1000)
    (tmp_path / "a.csv").write_text('text\nfine\n"never closed\n' + "more\n" * 1000)
    with pytest.raises(DataError, match="broken row") as caught:
        run(tmp_path, "a.csv")
    assert caught.value.where == f"{tmp_path / 'a.csv'}:3"


GIGABYTE = """
    import os, resource, sys
    from pathlib import Path
    from wellread.corpus.readers import detect
    from wellread.errors import DataError
    import lxml.etree, zstandard
    resource.setrlimit(resource.RLIMIT_AS, (2 * 10**9, 2 * 10**9))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        for document in detect.read(Path(sys.argv[1])):
            pass
    except DataError as error:
        print(error)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize(
    ("name", "head", "place"),
    [
        ("a.jsonl.zst", b'{"text": "fine"}\n{"text": "', ":2"),
        ("a.txt.zst", b"fine\n\n", ":3"),
        ("a.csv.zst", b"text\nfine\n", ":3"),
        ("a.xml.zst", b"<PubmedArticleSet>\n<PubmedArticle><MedlineCitation>", ":2"),
        ("a.txt", b"fine\n", ":2"),
    ],
)
def test_one_line_of_a_gigabyte_in_bounded_memory(tmp_path, name, head, place):
    path = tmp_path / name
    with open(path, "wb") as raw:
        if name.endswith(".zst"):
            with zstandard.ZstdCompressor(level=1).stream_writer(raw, closefd=False) as stream:
                stream.write(head)
                for _ in range(1024):
                    stream.write(b"a" * (1 << 20))
        else:  # a hole in the file: a gigabyte of NULs that takes no place on the disk
            raw.write(head)
            raw.truncate(1 << 30)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(GIGABYTE), str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    *told, megabytes = done.stdout.splitlines()
    assert told[0].startswith(f"{path}{place}: ")
    assert told[1].startswith("Fix: ")
    assert "64 MB" in told[0] or "broken XML" in told[0]
    assert int(megabytes) < 600


def test_errors_of_a_worker_process_keep_their_parts():
    import pickle

    error = DataError("what", where="a:1", fix="do")
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, UserError)
    assert (copy.what, copy.where, copy.fix) == ("what", "a:1", "do")
