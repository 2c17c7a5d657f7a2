"""A tiny benchmark: small shapes, few documents, a machine that is measured in no time."""

import sys

import pytest
import torch

from wellread import cli
from wellread.bench import data, machine
from wellread.bench.options import Options


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(machine, "SIZES", (32,))
    monkeypatch.setattr(machine, "COPIED_FLOATS", 1 << 10)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # figures are of the CPU
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def command(monkeypatch, capsys):
    """``wellread ARGUMENTS`` in this process: exit code, stdout, stderr."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["wellread", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


@pytest.fixture(scope="session")
def tiny_options():
    return Options(
        parts=("layers", "steps", "memory"),
        linears=((32, 64),),
        linear_tokens=16,
        shape=(1, 32),
        vocabulary=300,
        max_length=512,
        batch_tokens=1024,
        rounds={"layers": 2, "steps": 2, "trainer": 3},
        memory_shape=(1, 32),
        memory_tokens=(512,),
        quiet=True,
    )


@pytest.fixture(scope="session")
def tiny_data(tiny_options, tmp_path_factory):
    """Few documents with the lengths of real abstracts."""
    folder = tmp_path_factory.mktemp("made-up")
    data.make_up(tiny_options.vocabulary, tiny_options.max_length, folder, documents=400)
    return data.load(folder / "tokens", folder / "tokenizer", 512, 1024, folder / "bins", "made-up")
