"""Parts that leave the architecture: exactness against masks, in plain transformers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import toy
from transformers import AutoModelForSequenceClassification

from wellread.compress.prune import masks, structured, taylor
from wellread.compress.prune.settings import StructuredSettings
from wellread.compress.subject import load_model, logits, open_subject, scores
from wellread.errors import RecipeError
from wellread.finetune.objective import Objective
from wellread.models import build
from wellread.sparsity.linear import STACKS

LAYOUTS = toy.LAYOUTS


def opened(fine_tuned, layout, kind="classify"):
    folder, task, settings, _ = fine_tuned(kind, layout)
    return open_subject(folder, task, settings)


def stack(model):
    return model.base_model.get_submodule(STACKS[model.config.model_type])


def plain(model, subject, tmp_path):
    """Logits on the first dev texts in plain transformers, one by one, from the saved folder."""
    build.save(model, subject.tokenizer, tmp_path)
    stock = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    encoded = subject.data.splits["dev"].encoded
    rows = []
    for begin, end in zip(encoded.offsets[:8], encoded.offsets[1:9], strict=True):
        ids = torch.from_numpy(encoded.input_ids[begin:end])[None]
        with torch.inference_mode():
            rows.append(stock(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].numpy())
    return np.stack(rows), stock


@pytest.mark.parametrize("layout", LAYOUTS)
def test_without_neurons_as_with_masked_ones(layout, fine_tuned, tmp_path):
    """Every layer loses as many, each its own."""
    subject = opened(fine_tuned, layout)
    model = load_model(subject)
    width = structured.inner_width(model.config)
    kept = [torch.randperm(width)[: width // 2].sort().values for _ in range(2)]
    for layer, neurons in zip(stack(model), kept, strict=True):
        taker = layer.get_submodule(structured.INNER[layout][2])
        gone = torch.ones(width, dtype=torch.bool)
        gone[neurons] = False
        with torch.no_grad():
            taker.weight[(gone, slice(None)) if layout == "gpt2" else (slice(None), gone)] = 0
    masked = logits(model, subject)
    small = structured.remove_neurons(model, kept)
    np.testing.assert_allclose(logits(small, subject), masked, atol=1e-5)
    found, stock = plain(small, subject, tmp_path)
    np.testing.assert_allclose(found, masked[:8], atol=1e-5)
    assert structured.inner_width(stock.config) == width // 2


@pytest.mark.parametrize("layout", LAYOUTS)
def test_without_a_layer_as_with_one_passed_over(layout, fine_tuned, tmp_path):
    subject = opened(fine_tuned, layout)
    model = load_model(subject)
    small = structured.remove_layers(model, [0])
    stack(model)[1].forward = lambda hidden, *_, **__: hidden
    skipped = logits(model, subject)
    np.testing.assert_allclose(logits(small, subject), skipped, atol=1e-5)
    found, stock = plain(small, subject, tmp_path)
    np.testing.assert_allclose(found, skipped[:8], atol=1e-5)
    assert stock.config.num_hidden_layers == 1


def test_local_layers_stay_local(fine_tuned, tmp_path):
    """Of global, local, global the last is kept in the second place, and is still global."""
    folder, *_ = fine_tuned("classify", "modernbert")
    config = build.load_config(folder)
    config.num_hidden_layers, config.layer_types = (
        3,
        ["full_attention", "sliding_attention", "full_attention"],
    )
    with build.seeded(0):
        model = build.MODELS["classify"].from_config(config)
    small = structured.remove_layers(model, [0, 2])
    assert small.config.layer_types == ["full_attention", "full_attention"]
    small.save_pretrained(tmp_path)
    assert build.load(tmp_path, "classify").model.layers[1].attn.sliding_window is None


def test_llama_without_heads_as_with_masked_ones(fine_tuned, tmp_path):
    subject = opened(fine_tuned, "llama")
    model = load_model(subject)
    size, kept = model.config.head_dim, [torch.tensor([1]), torch.tensor([0])]
    for layer, heads in zip(stack(model), kept, strict=True):
        for head in range(2):
            if head not in heads:
                with torch.no_grad():
                    layer.self_attn.o_proj.weight[:, head * size : (head + 1) * size] = 0
    masked = logits(model, subject)
    small = structured.remove_heads(model, kept)
    np.testing.assert_allclose(logits(small, subject), masked, atol=1e-5)
    found, stock = plain(small, subject, tmp_path)
    np.testing.assert_allclose(found, masked[:8], atol=1e-5)
    assert (stock.config.num_attention_heads, stock.config.head_dim) == (1, size)


def test_grouped_heads_go_with_their_keys():
    """Two queries read each key: both go with it."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    from wellread.models import packed
    from wellread.tokens.batch import pack

    config = LlamaConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=8, num_key_value_heads=4,
        intermediate_size=32, pad_token_id=0, num_labels=3,
    )  # fmt: skip
    model = packed.enable(LlamaForSequenceClassification(config)).eval()
    heads = [torch.tensor([0, 3])]
    with torch.no_grad():
        model.model.layers[0].self_attn.o_proj.weight[:, 8:24] = 0
    batch = pack([[3, 4, 5, 6], [7, 8, 9]])
    small = structured.remove_heads(model, heads)
    assert (small.config.num_attention_heads, small.config.num_key_value_heads) == (4, 2)
    with torch.inference_mode():
        torch.testing.assert_close(
            packed.hidden_states(small, batch), packed.hidden_states(model, batch), atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize(("layout", "kind"), [(layout, "classify") for layout in LAYOUTS] + [("bert", "tag")])
def test_importance_is_the_derivative_of_a_gate(layout, kind, fine_tuned):
    """Against differences of the loss when a gate is opened and closed a little."""
    subject = opened(fine_tuned, layout, kind)
    model = load_model(subject)
    found = taylor.importance(model, subject, 1, 5)
    (index,) = taylor._batches(subject, 1, 5)
    split, goal = subject.data.splits["train"], Objective(subject.task.kind)

    def loss():
        with torch.no_grad():
            return float(subject.data.head.loss(model, split, index, goal, 0))

    attention, inner = taylor.OUTPUTS[layout]
    size = model.config.hidden_size // model.config.num_attention_heads
    gates = {"heads": (attention, size), "neurons": (inner, 1)}
    for part, (path, width) in gates.items():
        weight = stack(model)[1].get_submodule(path).weight
        weight = weight if layout == "gpt2" else weight.T
        number = int(getattr(found, part)[1].argmax())
        rows = slice(number * width, (number + 1) * width)
        losses, before = [], weight.detach().clone()
        for gate in (1.02, 0.98):
            with torch.no_grad():
                weight[rows] = before[rows] * gate
            losses.append(loss())
        weight.detach().copy_(before)
        expected = abs(losses[0] - losses[1]) / 0.04
        assert float(getattr(found, part)[1, number]) == pytest.approx(expected, rel=0.05, abs=1e-4)
    assert found.layers.shape == (2,)
    assert (found.layers > 0).all()


def test_dead_neurons_go_first_and_nothing_changes(fine_tuned):
    """Neurons whose outputs are zero have no importance: without them the model is the same."""
    subject = opened(fine_tuned, "modernbert")
    model = load_model(subject)
    for layer in stack(model):
        with torch.no_grad():
            layer.mlp.Wo.weight[:, ::2] = 0
    found = taylor.importance(model, subject, 50, 0)
    kept = list(structured._largest(found.neurons, structured.inner_width(model.config) // 2))
    small = structured.remove_neurons(model, kept)
    assert [neurons.remainder(2).tolist() for neurons in kept] == [[1] * len(kept[0])] * 2
    np.testing.assert_allclose(logits(small, subject), logits(model, subject), atol=1e-5)


def test_pruning_all_at_once(fine_tuned):
    subject = opened(fine_tuned, "llama")
    settings = StructuredSettings(layers=1, ffn=0.5, heads=0.5, multiple=16, sample=40, epochs=4)
    model = structured.prune(subject, settings, 0)
    config = model.config
    assert (config.num_hidden_layers, config.num_attention_heads, config.intermediate_size) == (1, 1, 48)
    assert scores(model, subject)["macro_f1"] > 0.5
    before, after = (
        sum(matrix.weight.numel() for matrix in masks.matrices(one).values())
        for one in (load_model(subject), model)
    )
    assert after == pytest.approx(before / 4, rel=0.01)


@pytest.mark.parametrize("order", ["taylor", "top"])
def test_which_layers_stay(order, fine_tuned):
    config = build.load_config(fine_tuned("classify", "bert")[0])
    importance = torch.tensor([0.3, 0.1, 0.2, 0.4])
    kept = structured.kept_layers(config, importance, StructuredSettings(layers=2, order=order))
    assert kept == ([0, 3] if order == "taylor" else [0, 1])
    config.model_type = "modernbert"
    lowest_first = torch.tensor([0.0, 0.1, 0.2, 0.4])
    kept = structured.kept_layers(config, lowest_first, StructuredSettings(layers=1, order=order))
    assert kept == ([0, 2, 3] if order == "taylor" else [0, 1, 2])


@pytest.mark.parametrize(
    ("layout", "changes", "what"),
    [
        ("bert", {}, "nothing"),
        ("modernbert", {"layers": 2}, "can"),
        ("bert", {"heads": 0.5}, "ties the heads"),
        ("modernbert", {"heads": 0.5}, "ties the heads"),
    ],
)
def test_what_cannot_go_is_refused(layout, changes, what, fine_tuned):
    with pytest.raises(RecipeError, match=what):
        structured.prune(opened(fine_tuned, layout), StructuredSettings(**changes), 0)
