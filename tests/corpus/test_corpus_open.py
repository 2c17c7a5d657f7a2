"""Streams and lines: every compression, every line end, every encoding that is read."""

import bz2
import gzip
import lzma

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from wellread.corpus import open as opening
from wellread.errors import DataError

PACK = {
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
    ".zst": zstandard.ZstdCompressor().compress,
    "": bytes,
}


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("named", ["right", "wrong"])
def test_content_decides_the_compression(tmp_path, suffix, named):
    data = b"first\nsecond\n" * 100_000
    path = tmp_path / ("a.txt" + (suffix if named == "right" else ".txt"))
    path.write_bytes(PACK[suffix](data))
    with opening.open_bytes(path) as stream:
        assert stream.read() == data


@pytest.mark.parametrize("suffix", PACK)
def test_archives_in_several_parts_are_read_to_the_end(tmp_path, suffix):
    path = tmp_path / ("a.txt" + suffix)
    path.write_bytes(PACK[suffix](b"one\n") + PACK[suffix](b"two\n"))
    assert list(opening.lines(path)) == [(1, "one"), (2, "two")]


@pytest.mark.parametrize("suffix", [suffix for suffix in PACK if suffix])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_a_cut_archive_is_refused_after_its_sound_part(tmp_path, suffix, share):
    lines = "\n".join(str(number * 7919 % 10_007) for number in range(200_000))
    whole = PACK[suffix](lines.encode())
    path = tmp_path / ("a.txt" + suffix)
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError) as caught:
        list(opening.lines(path))
    assert caught.value.where == str(path)
    assert "cut off" in caught.value.what


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst", ".bz2"])
def test_a_changed_byte_is_noticed(tmp_path, suffix):
    lines = "\n".join(str(number * 7919 % 10_007) for number in range(50_000)).encode()
    pack = zstandard.ZstdCompressor(write_checksum=True).compress if suffix == ".zst" else PACK[suffix]
    data = bytearray(pack(lines))
    data[len(data) // 2] ^= 0xFF
    path = tmp_path / ("a.txt" + suffix)
    path.write_bytes(data)
    with pytest.raises(DataError, match="damaged"):
        list(opening.lines(path))


def reference_lines(text: str) -> list[str]:
    found = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return found[:-1] if found[-1] == "" else found


@given(
    text=st.text(st.sampled_from("ab\r\n\u00e9\u2028\x0b\U0001f600\0"), max_size=60),
    chunk=st.integers(1, 7),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
)
def test_lines_equal_the_plain_reference_for_every_chunking(tmp_path_factory, text, chunk, encoding):
    path = tmp_path_factory.mktemp("lines") / "a.txt"
    # The last letters keep a short text from looking like UTF-16 without its mark.
    path.write_bytes(("abcdefghij\n" + text).encode(encoding))
    before, opening.CHUNK_BYTES = opening.CHUNK_BYTES, chunk + (10 if encoding.endswith(("16", "32")) else 10)
    try:
        found = list(opening.lines(path))
    finally:
        opening.CHUNK_BYTES = before
    expected = reference_lines("abcdefghij\n" + text)
    assert found == list(enumerate(expected, 1))


def test_the_limit_of_a_line_is_exact(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"ok\n" + b"x" * 100 + b"\nok\n")
    assert len(list(opening.lines(path, max_line_bytes=100))) == 3
    with pytest.raises(DataError) as caught:
        list(opening.lines(path, max_line_bytes=99))
    assert caught.value.where == f"{path}:2"
    assert "99 bytes" in caught.value.what


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("a.jsonl", ".jsonl"), ("a.JSONL.GZ", ".jsonl"), ("b.xml.zst", ".xml"), ("c.gz", ""), ("d", "")],
)
def test_plain_suffix(tmp_path, name, suffix):
    assert opening.plain_suffix(tmp_path / name) == suffix
