import numpy as np
import pytest

from wellread.errors import DataError
from wellread.objectives.units import lists
from wellread.settings import MaskingSettings
from wellread.tokens.store import Store


@pytest.fixture
def prepare(phrased, tmp_path, monkeypatch):
    monkeypatch.setattr(lists, "FEWEST_PHRASES", 10)

    def made(**settings):
        return lists.prepare(
            MaskingSettings(**settings),
            Store.open(phrased / "store"),
            phrased / "tokenizer",
            tmp_path / "lists",
            quiet=True,
        )

    return made


def terms(tmp_path, *lines):
    path = tmp_path / "terms.txt"
    path.write_text("\n".join(lines))
    return {"units": {"token": 0.5, "lexicon": 0.5}, "lexicon": str(path)}


def flat(found):
    arrays = [found.rarity.hashes, found.rarity.idf]
    for listed in (found.phrases, found.terms):
        arrays += [listed[n] for n in sorted(listed) if len(listed[n])]
    return [array.tolist() for array in arrays]


def test_nothing_is_learnt_that_is_not_asked_for(prepare, tmp_path):
    assert prepare(units={"token": 1, "span": 1, "pmi": 0}) is lists.NONE
    assert not (tmp_path / "lists").exists()


def test_lists_are_kept_and_made_again_when_anything_changes(prepare, tmp_path, monkeypatch):
    given = terms(tmp_path, "myocardial infarction")
    given["units"] = {"pmi": 1, "lexicon": 1, "tf-idf": 1}
    first = prepare(**given)
    assert len(first.rarity.hashes) and sum(map(len, first.terms.values())) and first.phrases
    with monkeypatch.context() as patch:
        patch.setattr(lists.phrases, "sample", lambda *_: pytest.fail("learnt again"))
        assert flat(prepare(**given)) == flat(first)
    terms(tmp_path, "myocardial infarction", "rheumatoid arthritis")
    more = prepare(**given)
    assert sum(map(len, more.terms.values())) > sum(map(len, first.terms.values()))
    assert sum(map(len, prepare(**given, pmi_coverage=0.2).phrases.values())) < sum(
        map(len, first.phrases.values())
    )
    (tmp_path / "lists" / "lists.npz").write_bytes(b"damaged")
    assert flat(prepare(**given)) == flat(more)


def test_terms_that_never_stand_in_the_corpus_are_refused(prepare, tmp_path):
    with pytest.raises(DataError, match="none of the 2 terms") as caught:
        prepare(**terms(tmp_path, "vein rheumatoid", "deep thrombosis"))
    assert caught.value.where == "pretrain.masking.lexicon" and caught.value.fix


def test_a_corpus_too_small_for_phrases_is_refused(prepare, monkeypatch):
    monkeypatch.setattr(lists, "FEWEST_PHRASES", 10**6)
    with pytest.raises(DataError, match="too small to learn phrases") as caught:
        prepare(units={"pmi": 1})
    assert caught.value.where == "pretrain.masking.units.pmi" and caught.value.fix


def test_known_phrases_are_learnt(prepare, phrased):
    listed = prepare(units={"pmi": 1}, pmi_coverage=0.05).phrases
    opened = Store.open(phrased / "store")
    corpus = lists.phrases.sample(opened, opened.n_tokens)
    found, _ = lists.phrases.find(corpus.hashes, corpus.document, listed)
    assert len(found) >= 150
    assert all(np.all(np.diff(hashes.astype(object)) > 0) for hashes in listed.values())
