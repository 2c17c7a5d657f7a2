import os

import pytest
import toy

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(autouse=True)
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy") / "wordpiece"
    toy.make_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder):
    from wellread.tokens import tokenizer

    return tokenizer.load(tokenizer_folder)


@pytest.fixture(scope="session")
def bpe(tmp_path_factory):
    return toy.make_tokenizer(tmp_path_factory.mktemp("toy") / "bpe", causal=True, kind="bpe")
