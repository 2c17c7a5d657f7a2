"""Tokenizers: the same bytes on every run, standard files, safe loading."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter

import pytest
from made_up import made_up_texts
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from wellread.errors import ArtefactError, DataError, RecipeError
from wellread.settings import TokenizerSettings
from wellread.tokens import tokenizer

TRAIN = """
import sys, unicodedata
from pathlib import Path
from wellread.settings import TokenizerSettings
from wellread.tokens import tokenizer
texts = Path(sys.argv[1]).read_text("utf-8").split("\\x1e")
for kind in ("wordpiece", "bpe"):
    settings = TokenizerSettings(kind=kind, vocab_size=900, min_frequency=1)
    tokenizer.train(texts, settings, Path(sys.argv[2]) / kind, causal=False, max_length=64, quiet=True)
"""


def train(texts, folder, causal=False, quiet=True, **settings):
    values = TokenizerSettings(**{"vocab_size": 400, **settings})
    return tokenizer.train(texts, values, folder, causal=causal, max_length=64, quiet=quiet)


def test_two_processes_give_the_same_bytes(tmp_path):
    """Ties between merges, many in little text, must not depend on hash keys or threads."""
    texts = tmp_path / "texts"
    texts.write_text("\x1e".join(made_up_texts(30)), "utf-8")
    for name, threads, hash_seed in (("one", "1", "1"), ("two", "2", "2"), ("three", "2", "3")):
        subprocess.run(
            [sys.executable, "-c", TRAIN, str(texts), str(tmp_path / name)],
            check=True,
            env={**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": hash_seed},
        )
    for path in sorted((tmp_path / "one").rglob("*.json")):
        relative = path.relative_to(tmp_path / "one")
        assert path.read_bytes() == (tmp_path / "two" / relative).read_bytes(), relative
        assert path.read_bytes() == (tmp_path / "three" / relative).read_bytes(), relative


def test_bpe_is_what_training_on_the_running_text_gives(tmp_path):
    texts = made_up_texts(100)
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        min_frequency=2,
        special_tokens=list(tokenizer.CAUSAL_SPECIALS.values()),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    plain.train_from_iterator(texts, trainer)
    train(texts, tmp_path, causal=True, kind="bpe")
    ours = json.loads((tmp_path / "tokenizer.json").read_bytes())["model"]
    theirs = json.loads(plain.to_str())["model"]
    assert ours["vocab"] == theirs["vocab"]
    assert ours["merges"] == theirs["merges"]


def test_encoder_layout_of_special_tokens(trained):
    loaded = tokenizer.load(trained["wordpiece"].folder)
    found = loaded("Hepatitis", "cardiology")
    assert set(found) == {"input_ids", "attention_mask"}
    tokens = loaded.convert_ids_to_tokens(found["input_ids"])
    assert tokens[0] == "[CLS]" and tokens[-1] == "[SEP]" and tokens.count("[SEP]") == 2
    assert loaded.convert_ids_to_tokens(list(range(5))) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert loaded.decode(found["input_ids"], skip_special_tokens=True) == "hepatitis cardiology"
    assert loaded.model_max_length == 64 and loaded.padding_side == "right"
    assert loaded.num_special_tokens_to_add(pair=False) == 2
    assert "[MASK]" in loaded.tokenize("a [MASK] b")


def test_causal_layout_of_special_tokens(trained):
    loaded = tokenizer.load(trained["bpe"].folder)
    tokens = loaded.convert_ids_to_tokens(loaded("Hepatitis", "cardiology")["input_ids"])
    assert tokens[0] == "<bos>" and tokens[-1] == "<eos>" and tokens.count("<eos>") == 2
    assert loaded.convert_ids_to_tokens(list(range(4))) == ["<pad>", "<unk>", "<bos>", "<eos>"]
    assert loaded.mask_token is None and loaded.cls_token is None
    text = "Any bytes: ±5 °C, 漢字, \x00 and 🙂\n\n  at all."
    assert loaded.decode(loaded(text, add_special_tokens=False)["input_ids"]) == text


@pytest.mark.parametrize("causal", [True, False])
def test_wordpiece_serves_decoders_and_bpe_serves_encoders(tmp_path, causal):
    kind = "wordpiece" if causal else "bpe"
    loaded = train(made_up_texts(50), tmp_path, causal=causal, kind=kind)
    first, last = ("<bos>", "<eos>") if causal else ("[CLS]", "[SEP]")
    tokens = loaded.convert_ids_to_tokens(loaded("hepatoma")["input_ids"])
    assert (tokens[0], tokens[-1]) == (first, last)
    assert loaded.unk_token not in tokens


def test_case_and_accents(tmp_path):
    lower = train(made_up_texts(50), tmp_path / "lower")
    cased = train(made_up_texts(50), tmp_path / "cased", lowercase=False)
    assert lower.tokenize("Ödemitis Naïvic") == lower.tokenize("odemitis naivic")
    assert cased.tokenize("Ödem")[0].startswith("Ö")
    assert cased.tokenize("Ödem") != cased.tokenize("odem")


def test_every_character_of_the_text_is_known(tmp_path):
    texts = made_up_texts(100)
    loaded = train(texts, tmp_path)
    assert all(loaded.unk_token not in loaded.tokenize(text) for text in texts)


def test_rare_characters_do_not_fill_the_vocabulary(tmp_path):
    """1,000 Chinese characters seen once each must leave room for words."""
    rare = "".join(chr(0x4E00 + number) for number in range(1000))
    loaded = train([*made_up_texts(100), rare], tmp_path, min_frequency=1)
    sizes = [len(token.removeprefix("##")) for token in loaded.get_vocab()]
    assert sizes.count(1) <= 2 * 128 and sum(size > 4 for size in sizes) > 50
    assert loaded.tokenize(rare[-1]) == ["[UNK]"] != loaded.tokenize("hepat")


def test_small_text_gives_a_smaller_vocabulary_and_says_so(tmp_path, capsys):
    loaded = train(["one two two"], tmp_path, quiet=False, vocab_size=5000)
    assert len(loaded) < 100
    assert f"gives {len(loaded)} pieces, not the 5000" in capsys.readouterr().err


def test_no_text_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no word"):
        train(["", " \n\t "], tmp_path)
    assert not list(tmp_path.iterdir())


def test_counting_words_forgets_the_rare_ones_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(tokenizer, "MAX_WORDS", 10)
    texts = [f" often rare{number}" for number in range(100)]
    words = tokenizer.count_words(texts, quiet=True)
    assert words[" often"] == 100 and len(words) <= 10


def test_counted_words_are_fed_as_often_as_seen():
    seen = Counter()

    class Recorder:
        def train_from_iterator(self, lines, trainer):
            for line in lines:
                seen.update(line.split(" "))

    words = Counter({"a": 25_000, "b": 1, "c": 9_999, "d": 10_000})
    tokenizer._learn(Recorder(), None, words)
    assert seen == words


def test_saved_tokenizer_loads_without_wellread(kind, tmp_path):
    """In another process, offline, with plain transformers."""
    script = (
        "import sys, socket\n"
        "socket.socket.connect = None\n"
        "from transformers import AutoTokenizer\n"
        "loaded = AutoTokenizer.from_pretrained(sys.argv[1])\n"
        "assert not any(name.startswith('wellread') for name in sys.modules)\n"
        "print(loaded('Cardiology (12.5%)')['input_ids'])\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(kind.folder)],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**environment, "HF_HUB_OFFLINE": "1"},
    )
    assert json.loads(done.stdout) == tokenizer.load(kind.folder)("Cardiology (12.5%)")["input_ids"]


def test_a_given_tokenizer_is_copied_without_the_rest_of_its_folder(kind, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    shutil.copytree(kind.folder, source)
    (source / "model.safetensors").write_bytes(b"weights")
    settings = TokenizerSettings(path=str(source))
    loaded = tokenizer.train(iter(()), settings, target, causal=False, max_length=64)
    assert loaded("hepatoma")["input_ids"] == tokenizer.load(kind.folder)("hepatoma")["input_ids"]
    assert sorted(path.name for path in target.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]


def test_a_given_tokenizer_is_extended_by_the_words_that_save_most(trained, tmp_path):
    old = tokenizer.load(trained["wordpiece"].folder)
    settings = TokenizerSettings(path=str(trained["wordpiece"].folder), add_words=2)
    texts = ["Glioblastomatosis (xyloglucanase) of livers.", "glioblastomatosis xyloglucanase once"]
    for name in ("one", "two"):
        new = tokenizer.train(iter(texts), settings, tmp_path / name, causal=False, max_length=64, quiet=True)
    assert len(new) == len(old) + 2
    assert new.tokenize("Glioblastomatosis, xyloglucanase") == ["glioblastomatosis", ",", "xyloglucanase"]
    plain = "hepatoma of xyloglucanases (12.5%)"
    assert new(plain)["input_ids"] == old(plain)["input_ids"]
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


@pytest.mark.parametrize(
    "model", [models.Unigram([("[UNK]", 0.0), ("a", -1.0)], 0), models.WordPiece({"[UNK]": 0})]
)
def test_a_tokenizer_that_splits_no_words_is_not_extended_by_words(model, tmp_path):
    names = {"unk_token": "[UNK]", "pad_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), **names).save_pretrained(tmp_path / "given")
    settings = TokenizerSettings(path=str(tmp_path / "given"), add_words=2)
    with pytest.raises(RecipeError, match="WordPiece") as caught:
        tokenizer.train(["a b"], settings, tmp_path / "t", causal=False, max_length=64, quiet=True)
    assert caught.value.where == "tokenizer.add_words"


def damage_none(folder):
    (folder / "tokenizer.json").unlink()


def damage_json(folder):
    (folder / "tokenizer.json").write_text('{"version": ')


def damage_model(folder):
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')


def damage_list(folder):
    (folder / "tokenizer_config.json").write_text("[]")


def damage_code(folder):
    (folder / "tokenization_mine.py").write_text("raise SystemExit('ran')")


def damage_auto_map(folder):
    values = json.loads((folder / "tokenizer_config.json").read_bytes())
    values["auto_map"] = {"AutoTokenizer": ["mine.Mine", None]}
    (folder / "tokenizer_config.json").write_text(json.dumps(values))


@pytest.mark.parametrize(
    "damage", [damage_none, damage_json, damage_model, damage_list, damage_code, damage_auto_map]
)
def test_damaged_and_unsafe_folders_are_refused(trained, tmp_path, damage):
    folder = tmp_path / "tokenizer"
    shutil.copytree(trained["wordpiece"].folder, folder)
    damage(folder)
    with pytest.raises(ArtefactError, match="tokenizer"):
        tokenizer.load(folder)
    with pytest.raises(ArtefactError, match="tokenizer.path"):
        tokenizer.train(
            ["x"], TokenizerSettings(path=str(folder)), tmp_path / "out", causal=False, max_length=64
        )
    assert not (tmp_path / "out").exists()
