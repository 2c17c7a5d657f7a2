"""A trial: made once, read again, told where it diverged."""

import pytest

from wellread import files
from wellread.corpus import documents
from wellread.corpus.documents import Document
from wellread.errors import RecipeError
from wellread.pretrain.trial import trial
from wellread.settings import ModelSettings, PretrainSettings
from wellread.tokens.store import Store


def tiny_model(**changes):
    return ModelSettings(**({"layers": 1, "hidden": 32, "heads": 2, "max_length": 64} | changes))


def tiny_settings(**changes):
    return PretrainSettings(**({"tokens": 6_000, "batch_tokens": 512, "objective": "mlm"} | changes))


def test_a_trial_is_made_once_and_read_afterwards(language, tmp_path):
    prepared = tmp_path / "stages"
    prepared.mkdir()
    (prepared / "tokens").symlink_to(language.tokens)
    (prepared / "tokenizer").symlink_to(language.tokenizer)
    made = trial(tiny_model(), tiny_settings(), prepared, tmp_path / "one", 0, quiet=True)
    before = (tmp_path / "one" / "model" / "model.safetensors").stat().st_mtime_ns
    again = trial(tiny_model(), tiny_settings(), prepared, tmp_path / "one", 0, quiet=True)
    assert made == again and made.loss > 0 and made.flops > 0 and made.source_flops == 0
    assert (tmp_path / "one" / "model" / "model.safetensors").stat().st_mtime_ns == before

    child = tiny_model(start=str(tmp_path / "one" / "model"))
    grown = trial(child, tiny_settings(), prepared, tmp_path / "two", 0, quiet=True)
    assert grown.source_flops == made.flops

    wild = tiny_settings(optimizer="muon", learning_rate=1.0, muon_learning_rate=1.0)
    wild = wild.model_copy(update={"learning_rate": 1e30, "eps": 1e-30})
    assert trial(tiny_model(), wild, prepared, tmp_path / "wild", 0, quiet=True) is None
    assert (tmp_path / "wild" / "failed.json").exists()
    assert trial(tiny_model(), wild, prepared, tmp_path / "wild", 0, quiet=True) is None


def test_categories_of_the_documents_are_read_from_the_corpus(language, tmp_path):
    prepared = tmp_path / "stages"
    (prepared / "corpus").mkdir(parents=True)
    (prepared / "tokens").symlink_to(language.tokens)
    (prepared / "tokenizer").symlink_to(language.tokenizer)
    names = Store.open(language.tokens / "train").document_ids()
    every = [Document(name, "title", (), meta={"journal": "ab"[n % 2]}) for n, name in enumerate(names)]
    documents.write(prepared / "corpus" / "documents.jsonl.zst", every)
    settings = tiny_settings(besides={"categories": 1.0}, categories="journal")
    made = trial(tiny_model(), settings, prepared, tmp_path / "one", 0, quiet=True)
    assert made.loss > 0
    assert files.read_json(tmp_path / "one" / "categories.json")["without"] == 0


def test_what_is_no_divergence_is_raised(language, tmp_path):
    prepared = tmp_path / "stages"
    prepared.mkdir()
    (prepared / "tokens").symlink_to(language.tokens)
    (prepared / "tokenizer").symlink_to(language.tokenizer)
    averaged = tiny_settings(ema_decay=0.999)
    with pytest.raises(RecipeError):
        trial(tiny_model(), averaged, prepared, tmp_path / "odd", 0, quiet=True)
