"""A small made-up language: a Markov chain over made-up words, tokenised once for all tests here."""

import os

import pytest
import torch
from made_language import build_language, tiny_model, tiny_settings

from wellread import files


@pytest.fixture(scope="session")
def language(tmp_path_factory):
    return build_language(tmp_path_factory.mktemp("language"), causal=False)


@pytest.fixture(scope="session")
def causal_language(tmp_path_factory):
    return build_language(tmp_path_factory.mktemp("causal"), causal=True)


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(int(os.environ.get("WELLREAD_TEST_THREADS", "1")))
    yield
    torch.set_num_threads(before)


@pytest.fixture
def digests():
    """SHA-256 of all results of a folder but the clock's."""

    def of(folder):
        return {
            path.relative_to(folder).as_posix(): files.sha256_file(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name not in files.NOT_IDENTITY
        }

    return of


@pytest.fixture
def tiny():
    """The settings of a tiny model and its training."""
    return tiny_model(), tiny_settings()
