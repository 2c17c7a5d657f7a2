"""Exported for sentence-transformers, a model gives the means that Wellread pools."""

import json
from pathlib import Path

import numpy as np
import pytest
import toy

from wellread import files
from wellread.errors import UserError
from wellread.evaluate.rivals import encoder
from wellread.models import build
from wellread.serve.engines.formats import check_formats
from wellread.serve.sentences import export_sentences
from wellread.tokens import tokenizer as tokenizers

TEXTS = ["aspirin in patients", "a longer text about rats and aspirin and rats", "rats"]


@pytest.fixture(scope="module", params=["modernbert", "bert"])
def exported(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    toy.make_tokenizer(folder / "tokenizer")
    loaded = tokenizers.load(folder / "tokenizer")
    settings = toy.model().model_copy(update={"layout": request.param})
    build.save(build.build(settings, loaded, "mlm", 0), loaded, folder / "model")
    return export_sentences(folder / "model", folder / "out", card="card")


def test_the_folder_says_how_to_pool(exported):
    modules = json.loads((exported / "modules.json").read_text())
    assert [one["type"].rpartition(".")[2] for one in modules] == ["Transformer", "Pooling"]
    pooling = json.loads((exported / modules[1]["path"] / "config.json").read_text())
    assert [key for key, value in pooling.items() if value is True] == [
        "include_prompt",
        "pooling_mode_mean_tokens",
    ]
    assert pooling["word_embedding_dimension"] == build.load_config(exported).hidden_size
    assert (exported / "README.md").read_text() == "card"
    files.check(exported)


def test_it_stands_alone():
    with pytest.raises(UserError, match="stands alone"):
        check_formats(["sentence-transformers", "transformers"])
    assert check_formats(["sentence-transformers"]) == ("sentence-transformers",)


def test_sentence_transformers_gives_our_means(exported):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    model = sentence_transformers.SentenceTransformer(str(exported), device="cpu", local_files_only=True)
    assert model.max_seq_length == build.load_config(exported).max_position_embeddings
    found = model.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(found, encoder.Encoder(Path(exported)).texts(TEXTS), atol=2e-6)
