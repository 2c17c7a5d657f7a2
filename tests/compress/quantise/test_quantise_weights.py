"""Which weights of the four layouts are quantised, and that codes give them back."""

import pytest
import torch
import toy
from torch import nn
from transformers.pytorch_utils import Conv1D

from wellread.compress.quantise import weights
from wellread.compress.quantise.quantise import quantise_weights
from wellread.compress.quantise.settings import QuantiseSettings
from wellread.errors import UserError
from wellread.models import build, heads

LABELS = ("a", "b", "c")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return toy.make_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def classifier(layout, tokenizer):
    return heads.task_model(toy.model(layout), tokenizer, "classify", LABELS, 0.0, 0).eval()


@pytest.mark.parametrize("layout", toy.LAYOUTS)
def test_every_matrix_but_the_labels_has_a_scheme(layout, tokenizer):
    model = classifier(layout, tokenizer)
    schemes = weights.plan(model, QuantiseSettings(bits=3, groups=8, embedding_bits=5))
    expected = {
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D, nn.Embedding)) and name not in ("classifier", "score")
    }
    assert schemes.keys() == expected
    layers = {name for name in schemes if any(f".{number}." in name for number in (0, 1))}
    assert {schemes[name].bits for name in layers} == {3}
    assert {schemes[name].bits for name in schemes.keys() - layers} == {5}
    fused = {"modernbert": ("Wqkv", 3), "gpt2": ("c_attn", 3)}.get(layout)
    for name, scheme in schemes.items():
        if fused and fused[0] in name:
            assert scheme.parts == fused[1]
        assert scheme.transposed == (layout == "gpt2" and name in layers)
    model = quantise_weights(model, QuantiseSettings(bits=3, groups=8, embedding_bits=5)).model
    for name in layers:  # at most 2^3 levels in a row of the matrix
        rows = model.get_parameter(name)
        rows = rows.T if schemes[name].transposed else rows
        assert max(len(row.unique()) for row in rows) <= 8


@pytest.mark.parametrize("layout", toy.LAYOUTS)
@pytest.mark.parametrize(
    "changes", [{"bits": 4}, {"method": "nf4"}, {"method": "fp4", "double": True}, {"method": "int8"}]
)
def test_models_hold_the_values_of_their_codes(layout, changes, tokenizer):
    plain, model = classifier(layout, tokenizer), classifier(layout, tokenizer)
    quantised = quantise_weights(model, QuantiseSettings(groups="head", **changes))
    assert quantised.model is model
    for name, weight in plain.named_parameters():
        now = model.get_parameter(name)
        if name not in quantised.codes:
            assert torch.equal(now, weight)
            continue
        assert now.shape == weight.shape and not torch.equal(now, weight)
        assert torch.equal(now, weights.decode(quantised.codes[name]))
        assert float((now - weight).norm() / weight.norm()) < 0.2


def test_int8_is_rows_over_127(tokenizer):
    weight = torch.randn(10, 16, generator=torch.Generator().manual_seed(0))
    found = weights.encode(weight, weights.Scheme("uniform", 8, groups=10, symmetric=True))
    scale = weight.abs().amax(1, keepdim=True) / 127
    assert torch.equal(found.codes.int() - 127, torch.round(weight / scale).int())
    assert torch.equal(found.tables["step"], scale[:, 0])


@pytest.mark.parametrize(("double", "bits"), [(False, 4.5), (True, 4.127)])
def test_bytes_of_a_code_book_are_the_published_bits(double, bits):
    scheme = weights.Scheme("nf4", 4, double=double)
    found = weights.encode(torch.randn(512, 512, generator=torch.Generator().manual_seed(0)), scheme)
    assert found.bytes * 8 / 512**2 == pytest.approx(bits, abs=5e-4)
    shapes = weights.table_shapes((512, 512), scheme)
    assert {key: (table.dtype, tuple(table.shape)) for key, table in found.tables.items()} == shapes


def test_a_tied_decoder_keeps_its_tie_and_is_quantised_once(tokenizer):
    model = build.build(toy.model("llama"), tokenizer, "clm", 0)
    quantised = quantise_weights(model, QuantiseSettings(method="nf4"))
    assert "lm_head.weight" not in quantised.codes
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert torch.equal(model.lm_head.weight, weights.decode(quantised.codes["model.embed_tokens.weight"]))


def test_bits_by_layer(tokenizer):
    model = classifier("bert", tokenizer)
    schemes = weights.plan(model, QuantiseSettings(layer_bits=(2, 7)))
    assert {s.bits for name, s in schemes.items() if ".layer.0." in name} == {2}
    assert {s.bits for name, s in schemes.items() if ".layer.1." in name} == {7}
    with pytest.raises(UserError, match="3 numbers for a model of 2 layers"):
        weights.plan(model, QuantiseSettings(layer_bits=(2, 7, 2)))


def test_broken_weights_and_settings_are_refused(tokenizer):
    model = classifier("bert", tokenizer)
    with torch.no_grad():
        model.get_parameter("bert.encoder.layer.0.output.dense.weight")[0, 0] = torch.nan
    with pytest.raises(UserError, match="not a number"):
        quantise_weights(model, QuantiseSettings())
    with pytest.raises(ValueError, match="layer_bits needs"):
        QuantiseSettings(method="nf4", layer_bits=(2,))
    with pytest.raises(ValueError, match="double needs"):
        QuantiseSettings(double=True)
