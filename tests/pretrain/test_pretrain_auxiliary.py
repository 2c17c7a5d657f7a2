"""Auxiliary losses: nothing changes at weight 0, they learn, resume exactly, and leave a stock model."""

import json

import numpy as np
import pytest
import torch
from made_language import tiny_model
from test_pretrain_resume import CutError, cut_at
from torch import nn
from transformers import AutoModelForMaskedLM

from wellread.objectives import contrastive
from wellread.pretrain import auxiliary, loop
from wellread.settings import PretrainSettings
from wellread.tokens import tokenizer


def length_of_sample(weight):
    """Predict from the first state how long a sample is: a loss with a module of its own."""

    def make(model_settings, *_):
        torch.manual_seed(0)
        layer = nn.Linear(model_settings.hidden, 1)

        def loss(model, seen):
            first = seen.hidden[seen.batch.cu_seqlens[:-1].long()]
            lengths = torch.tensor(seen.batch.lengths, dtype=torch.float32) / 32
            errors = model.auxiliary["length"](first)[:, 0] - lengths
            return errors.square().sum() / seen.step.samples

        return (auxiliary.Auxiliary("length", weight, loss, layer, passes=0.25),)

    return make


def test_without_weight_the_language_model_is_the_same(language, tmp_path, monkeypatch, digests):
    language.pretrain(tmp_path / "plain")
    monkeypatch.setattr(auxiliary, "make", length_of_sample(0.0))
    language.pretrain(tmp_path / "zero")
    plain, zero = digests(tmp_path / "plain"), digests(tmp_path / "zero")
    assert plain["model/model.safetensors"] == zero["model/model.safetensors"]
    AutoModelForMaskedLM.from_pretrained(tmp_path / "zero" / "model")


def test_it_learns_and_is_logged(language, tmp_path, monkeypatch):
    monkeypatch.setattr(auxiliary, "make", length_of_sample(1.0))
    language.pretrain(tmp_path / "run", accumulate=2)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["auxiliary"]["length"] < lines[0]["auxiliary"]["length"]


def test_an_interrupted_run_ends_with_the_same_bits(language, tmp_path, monkeypatch, digests):
    monkeypatch.setattr(auxiliary, "make", length_of_sample(1.0))
    language.pretrain(tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(CutError):
        cut_at(patch, loop, "take_step", 4)
        language.pretrain(tmp_path / "cut", checkpoint_seconds=1e-9)
    language.pretrain(tmp_path / "cut", checkpoint_seconds=1e-9)
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")


@pytest.mark.parametrize("kind", ["sop", "nsp"])
def test_pairs_resume_exactly_and_leave_a_stock_model(kind, language, tmp_path, monkeypatch, digests):
    settings = {"pairs": kind, "masking": {"units": {"token": 0.5, "span": 0.5}, "rate_end": 0.15}}
    language.pretrain(tmp_path / "whole", **settings)
    with monkeypatch.context() as patch, pytest.raises(CutError):
        cut_at(patch, loop, "take_step", 4)
        language.pretrain(tmp_path / "cut", checkpoint_seconds=1e-9, **settings)
    language.pretrain(tmp_path / "cut", checkpoint_seconds=1e-9, **settings)
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")
    lines = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert all(0 < line["auxiliary"]["pairs"] < 2 for line in lines)
    AutoModelForMaskedLM.from_pretrained(tmp_path / "whole" / "model")


BESIDE = {
    "contrastive": {"besides": {"contrastive": 1.0}},
    "replaced-tokens": {"besides": {"replaced-tokens": 20.0}},
    "categories": {"besides": {"categories": 1.0}, "categories": "journal"},
    "ngrams": {"masking": {"units": {"ngram": 1.0}, "explicit": True}, "tokens": 24_000},
    "all": {
        "besides": {"contrastive": 0.5, "categories": 0.5, "replaced-tokens": 20.0},
        "categories": "journal",
        "sparsity": {"level": 0.5},
        "accumulate": 2,
        "ema_decay": 0.5,
    },
}


def with_labels(folder):
    folder.mkdir()
    np.save(folder / "categories.npy", np.arange(270, dtype=np.int32) % 3 - 1)
    return folder


@pytest.mark.parametrize("name", BESIDE)
def test_what_is_learnt_besides_resumes_exactly_and_leaves_a_stock_model(
    name, language, tmp_path, monkeypatch, digests
):
    settings = BESIDE[name]
    language.pretrain(with_labels(tmp_path / "whole"), **settings)
    with monkeypatch.context() as patch, pytest.raises(CutError):
        cut_at(patch, loop, "take_step", 4)
        language.pretrain(with_labels(tmp_path / "cut"), checkpoint_seconds=1e-9, **settings)
    language.pretrain(tmp_path / "cut", checkpoint_seconds=1e-9, **settings)
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")
    lines = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    besides = settings.get("besides", {"ngrams": 1.0})
    assert set(lines[0]["auxiliary"]) == set(besides)
    for one in besides:
        assert 0 < lines[-1]["auxiliary"][one] < lines[0]["auxiliary"][one]
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "whole" / "model")
    assert not [key for key in model.state_dict() if "auxiliary" in key]


def test_extra_passes_of_a_sparse_model_are_accounted_as_such(language, tmp_path):
    found = {}
    for name, besides in (("plain", {}), ("one", {"contrastive": 1.0})):
        language.pretrain(tmp_path / name, besides=besides, sparsity={"level": 0.75})
        found[name] = json.loads((tmp_path / name / "pretrain.json").read_text())["flops"]
    level = json.loads((tmp_path / "one" / "sparsity.json").read_text())["level"]
    vocab = len(tokenizer.load(language.tokenizer))
    shares = contrastive.passes(tiny_model(), vocab, PretrainSettings().mask_rate, level)
    for kind, share in zip(("dense", "accounted"), shares, strict=True):
        assert found["one"][kind] / found["plain"][kind] == pytest.approx(1 + share)


def test_extra_passes_are_counted_and_a_weight_of_zero_changes_nothing(language, tmp_path, digests):
    flops = {}
    for name, besides in (("plain", {}), ("zero", {"contrastive": 0.0}), ("one", {"contrastive": 1.0})):
        language.pretrain(tmp_path / name, besides=besides)
        flops[name] = json.loads((tmp_path / name / "pretrain.json").read_text())["flops"]["dense"]
    plain, zero = digests(tmp_path / "plain"), digests(tmp_path / "zero")
    assert plain["model/model.safetensors"] == zero["model/model.safetensors"]
    assert flops["zero"] == flops["plain"] and 1.3 < flops["one"] / flops["plain"] < 2
