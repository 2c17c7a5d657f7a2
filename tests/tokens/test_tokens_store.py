"""The token store: equal to direct tokenisation, whole or refused, opened without a scan."""

import json
import re
import resource
import shutil
import sys
import threading
import unicodedata

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up import made_up_texts
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from wellread import files
from wellread.errors import ArtefactError, DataError
from wellread.tokens import encode
from wellread.tokens import store as store_module
from wellread.tokens.store import Store

TEXT = st.text(st.characters(codec="utf-8"), max_size=60) | st.sampled_from(
    ["", " ", "[MASK] [SEP] <eos>", "漢字 漢", "naïve\u0301", "a\x00b", "🙂🙂", "IL-6", "it's", "\r\n\r\n x"]
)


def reference_starts(text, backend):
    """Word starts from the library's own word numbers, token by token."""
    words = backend.encode(text, add_special_tokens=False).word_ids
    return [place == 0 or words[place - 1] != word for place, word in enumerate(words)]


def backend_of(trained):
    backend = Tokenizer.from_file(str(trained.folder / "tokenizer.json"))
    backend.encode_special_tokens = True
    return backend


@given(texts=st.lists(TEXT, max_size=8), shard=st.sampled_from([8, 16, 24, 1 << 20]))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_store_holds_what_direct_tokenisation_gives(kind, tmp_path, texts, shard):
    built = kind.build(tmp_path / "store", texts, shard_tokens=shard)
    backend = backend_of(kind)
    assert built.n_documents == len(texts) == len(built.document_ids())
    assert built.bytes == sum(len(text.encode()) for text in texts)
    for number, text in enumerate(texts):
        start, stop = built.offsets[number], built.offsets[number + 1]
        assert built.tokens(start, stop).tolist() == kind.direct(text)
        assert built.gather(np.arange(start, stop))[1].tolist() == reference_starts(text, backend)
    assert built.n_tokens == built.offsets[-1]


def test_ranges_across_shards_and_documents(kind, tmp_path):
    texts = made_up_texts(20)
    small = kind.build(tmp_path / "small", texts, shard_tokens=64)
    large = kind.build(tmp_path / "large", texts)
    assert len(small._tokens) > 5 and len(large._tokens) == 1
    assert small.tokens(0, small.n_tokens).tolist() == large.tokens(0, large.n_tokens).tolist()
    random = np.random.default_rng(0)
    index = random.integers(0, small.n_tokens, 500)
    for first, second in zip(small.gather(index), large.gather(index), strict=True):
        assert first.tolist() == second.tolist()
    tokens, starts = small.gather(np.empty(0, np.int64))
    assert tokens.dtype == np.int64 and starts.dtype == bool and not len(tokens)


def test_the_bytes_do_not_depend_on_threads_or_parcels(kind, tmp_path, monkeypatch):
    texts = made_up_texts(60)
    kind.build(tmp_path / "one", texts, processes=1)
    monkeypatch.setattr(encode, "PARCEL_CHARACTERS", 300)
    kind.build(tmp_path / "many", texts, processes=4)
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "many" / path.name).read_bytes(), path.name


def test_a_long_document_comes_in_pieces_and_is_one(kind, tmp_path, monkeypatch):
    text = " ".join(made_up_texts(30))
    whole = kind.build(tmp_path / "whole", ["before", text, "after"])
    monkeypatch.setattr(encode, "PARCEL_CHARACTERS", 100)
    pieces = list(encode._pieces(text))
    assert "".join(pieces) == text and len(pieces) > 10
    cut = kind.build(tmp_path / "cut", ["before", text, "after"])
    assert cut.sha256 == whole.sha256


def test_wordpiece_words_start_where_no_hashes_are(trained, tmp_path):
    texts = made_up_texts(20)
    built = trained["wordpiece"].build(tmp_path / "store", texts)
    pieces = {number: piece for piece, number in backend_of(trained["wordpiece"]).get_vocab().items()}
    tokens, starts = built.gather(np.arange(built.n_tokens))
    for token, start in zip(tokens.tolist(), starts.tolist(), strict=True):
        assert start == (not pieces[token].startswith("##"))


def test_bpe_words_never_begin_within_a_run_of_letters(trained, tmp_path):
    """Decoding from word start to word start gives back words whole."""
    text = made_up_texts(1, seed=3)[0]
    built = trained["bpe"].build(tmp_path / "store", [text])
    backend = backend_of(trained["bpe"])
    tokens, starts = built.gather(np.arange(built.n_tokens))
    begins = [*np.flatnonzero(starts).tolist(), len(tokens)]
    words = [
        backend.decode(tokens[begin:end].tolist()) for begin, end in zip(begins[:-1], begins[1:], strict=True)
    ]
    assert "".join(words) == text
    runs = [word.strip() for word in words if any(letter.isalpha() for letter in word)]
    assert runs == re.findall(r"[^\W\d_]+", text)


def unsplit_tokenizer(folder):
    """A tokenizer like those of Llama 2: no splitter, spaces written as a visible character."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    learner = Tokenizer(models.BPE(unk_token="<unk>"))
    learner.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>", "<pad>"], show_progress=False)
    learner.train_from_iterator(made_up_texts(100), trainer)
    backend.model = learner.model
    backend.decoder = decoders.Metaspace()
    folder.mkdir()
    backend.save(str(folder / "tokenizer.json"))
    return backend


def test_words_are_found_by_offsets_where_the_tokenizer_does_not_split(tmp_path):
    backend = unsplit_tokenizer(tmp_path / "tokenizer")
    text = "hepatology, (cardiitis) neural IL-6"
    store_module.build(
        [("a", text), ("b", "")], tmp_path / "tokenizer", tmp_path / "store", processes=1, quiet=True
    )
    built = Store.open(tmp_path / "store")
    assert built.prefix == built.suffix == ()
    encoding = backend.encode(text)
    assert len(set(encoding.word_ids)) == 1
    starts = built.gather(np.arange(built.n_tokens))[1]
    assert len(starts) == len(encoding.ids)
    begun = {match.start() for match in re.finditer(r"\w+|[^\w\s]", text)}
    expected = sum(any(place in begun for place in range(*span)) for span in encoding.offsets)
    assert starts.sum() == expected
    for start, (begin, end) in zip(starts.tolist(), encoding.offsets, strict=True):
        assert start == any(place in begun for place in range(begin, end))


def test_special_tokens_in_the_text_are_text(kind, tmp_path):
    specials = backend_of(kind).get_added_tokens_decoder()
    text = " ".join(token.content for token in specials.values())
    built = kind.build(tmp_path / "store", [text])
    found = set(built.tokens(0, built.n_tokens).tolist())
    assert len(found) > 5 and len(specials) >= 4
    assert found.isdisjoint(set(specials) - {1})  # 1: letters that the little vocabulary lacks
    assert (built.prefix, built.suffix) == ((2,), (3,))


def test_large_vocabularies_take_four_bytes(tmp_path):
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    vocab = {f"w{number}": number for number in range(70_000)} | {"a": 70_000}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="w0"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.save(str(folder / "tokenizer.json"))
    text = "w1 w69999 w65536 w65535"
    store_module.build([("a", text)], folder, tmp_path / "store", processes=1, quiet=True)
    built = Store.open(tmp_path / "store")
    assert built._tokens[0].dtype == np.dtype("<u4")
    assert built.tokens(0, 4).tolist() == [1, 69999, 65536, 65535]


def test_an_empty_store_opens(kind, tmp_path):
    built = kind.build(tmp_path / "store", [])
    assert (built.n_tokens, built.n_documents, built.document_ids()) == (0, 0, [])
    assert len(built.tokens(0, 0)) == 0


def test_leftovers_of_an_interrupted_build_are_replaced(kind, tmp_path):
    kind.build(tmp_path / "store", made_up_texts(30), shard_tokens=64)

    def interrupted():
        yield "doc:0", "first"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store_module.build(interrupted(), kind.folder, tmp_path / "store", processes=2, quiet=True)
    with pytest.raises(ArtefactError, match=r"store\.json"):
        Store.open(tmp_path / "store")
    again = kind.build(tmp_path / "store", ["first", "second"])
    fresh = kind.build(tmp_path / "fresh", ["first", "second"])
    assert again.sha256 == fresh.sha256
    assert {path.name for path in again.folder.iterdir()} == {path.name for path in fresh.folder.iterdir()}


def test_an_error_ends_the_threads(kind, tmp_path):
    before = threading.active_count()
    with pytest.raises(DataError, match=r"doc:1.*surrogate"):
        kind.build(tmp_path / "store", ["fine", "broken \ud800", *made_up_texts(50)])
    assert threading.active_count() == before
    assert not (tmp_path / "store" / "store.json").exists()


def test_errors_never_show_the_text(kind, tmp_path):
    with pytest.raises(DataError) as caught:
        kind.build(tmp_path / "store", ["confidential \udfff"])
    assert "confidential" not in str(caught.value)


def test_ids_keep_their_order_and_letters(kind, tmp_path):
    names = ["pmid:1", "Grüße#2", "", "a b\tc", "x\u2028y"]
    store_module.build(
        [(name, "text") for name in names], kind.folder, tmp_path / "store", processes=1, quiet=True
    )
    assert Store.open(tmp_path / "store").document_ids() == names
    with pytest.raises(DataError, match="line break"):
        store_module.build([("a\nb", "text")], kind.folder, tmp_path / "bad", processes=1, quiet=True)


def test_store_json_states_the_hashes(kind, tmp_path):
    built = kind.build(tmp_path / "store", made_up_texts(30), shard_tokens=128)
    facts = json.loads((built.folder / "store.json").read_bytes())
    assert facts["tokenizer_sha256"] == files.sha256_file(kind.folder / "tokenizer.json")
    assert facts["ids_sha256"] == files.sha256_file(built.folder / "ids.txt")
    assert facts["offsets_sha256"] == files.sha256_file(built.folder / "offsets.npy")
    for number, shard in enumerate(facts["shards"]):
        assert shard["tokens_sha256"] == files.sha256_file(built.folder / f"tokens-{number:05d}.bin")
        assert shard["words_sha256"] == files.sha256_file(built.folder / f"words-{number:05d}.bin")


def cut_file(name, by=1):
    def damage(folder):
        path = folder / name
        path.write_bytes(path.read_bytes()[:-by])

    return damage


def remove(name):
    return lambda folder: (folder / name).unlink()


def change(**facts):
    def damage(folder):
        path = folder / "store.json"
        path.write_text(json.dumps({**json.loads(path.read_bytes()), **facts}))

    return damage


def drop(key):
    def damage(folder):
        path = folder / "store.json"
        facts = json.loads(path.read_bytes())
        del facts[key]
        path.write_text(json.dumps(facts))

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        cut_file("tokens-00000.bin"),
        cut_file("words-00001.bin"),
        cut_file("offsets.npy"),
        cut_file("store.json", by=9),
        remove("tokens-00001.bin"),
        remove("words-00000.bin"),
        remove("offsets.npy"),
        remove("ids.txt"),
        remove("store.json"),
        change(version=99),
        change(tokens=7),
        change(documents=2),
        change(documents="many"),
        change(dtype="uint32"),
        change(dtype="rubbish"),
        change(shards=[]),
        change(shards={"a": 1}),
        drop("prefix"),
        drop("shard_tokens"),
    ],
)
def test_a_damaged_store_is_refused(trained, tmp_path, damage):
    built = trained["wordpiece"].build(tmp_path / "store", made_up_texts(30), shard_tokens=512)
    assert len(built._tokens) > 1
    damage(built.folder)
    with pytest.raises(ArtefactError, match="store"):
        Store.open(built.folder)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(ArtefactError, match="no tokenizer"):
        store_module.build([("a", "b")], tmp_path, tmp_path / "store", processes=1, quiet=True)


@pytest.mark.skipif(sys.platform != "linux", reason="needs sparse files and ru_maxrss in KiB")
def test_opening_a_thousand_million_tokens_reads_none_of_them(trained, tmp_path):
    """The shards are sparse files of 2.1 GB; reading them would fill the memory and take page faults."""
    built = trained["wordpiece"].build(tmp_path / "store", ["hepatology cardioma"])
    facts = json.loads((built.folder / "store.json").read_bytes())
    size = store_module.SHARD_TOKENS
    facts["shards"] = [{"tokens": size, "tokens_sha256": "", "words_sha256": ""}] * 8
    facts["tokens"] = 8 * size
    facts["documents"] = 8
    np.save(built.folder / "offsets.npy", np.arange(9, dtype=np.int64) * size)
    for number in range(8):
        for name, length in ((f"tokens-{number:05d}.bin", 2 * size), (f"words-{number:05d}.bin", size // 8)):
            with open(built.folder / name, "wb") as stream:
                stream.truncate(length)
    (built.folder / "store.json").write_text(json.dumps(facts))

    before = resource.getrusage(resource.RUSAGE_SELF)
    opened = Store.open(built.folder)
    tokens = opened.tokens(8 * size - 5, 8 * size)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert opened.n_tokens > 10**9 and tokens.tolist() == [0] * 5
    assert after.ru_maxrss - before.ru_maxrss < 64 * 1024
    assert after.ru_minflt + after.ru_majflt - before.ru_minflt - before.ru_majflt < 2_000
    shutil.rmtree(built.folder)


def test_accents_that_are_stripped_keep_words_whole(trained, tmp_path):
    """Decomposed accents vanish in the lower-casing tokenizer, and no word is split by them."""
    composed, decomposed = "naïv Ödem", unicodedata.normalize("NFD", "naïv Ödem")
    built = trained["wordpiece"].build(tmp_path / "store", [composed, decomposed])
    middle = int(built.offsets[1])
    assert built.tokens(0, middle).tolist() == built.tokens(middle, built.n_tokens).tolist()
    starts = built.gather(np.arange(built.n_tokens))[1]
    assert starts[:middle].tolist() == starts[middle:].tolist() and starts[:middle].sum() == 2
