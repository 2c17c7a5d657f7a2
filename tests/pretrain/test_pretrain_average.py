import json

import pytest
import torch
from safetensors.torch import load_file

from wellread import files
from wellread.errors import RecipeError
from wellread.pretrain import average, loop
from wellread.pretrain.trainer import make_trainer
from wellread.settings import PretrainSettings
from wellread.sparsity import linear
from wellread.tokens import tokenizer as tokenizers


def weights(folder):
    return load_file(folder / "model" / "model.safetensors")


def snapshots(language, folder, monkeypatch, **settings):
    """A run, and its weights as they are after each step."""
    seen, take = [], loop.take_step

    def watched(trainer, *arguments):
        record = take(trainer, *arguments)
        seen.append({name: weight.detach().clone() for name, weight in trainer.model.named_parameters()})
        return record

    with monkeypatch.context() as patch:
        patch.setattr(loop, "take_step", watched)
        language.pretrain(folder, **settings)
    return seen


def test_what_is_kept_is_the_closed_form_mean_and_training_is_left_alone(language, tmp_path, monkeypatch):
    plain = snapshots(language, tmp_path / "plain", monkeypatch)
    averaged = snapshots(language, tmp_path / "averaged", monkeypatch, ema_decay=0.75)
    assert all(torch.equal(a[name], b[name]) for a, b in zip(plain, averaged, strict=True) for name in a)
    shares = torch.tensor([0.75**age for age in reversed(range(len(plain)))], dtype=torch.float64)
    kept = weights(tmp_path / "averaged")
    assert kept.keys() <= plain[0].keys()
    for name, weight in kept.items():
        points = torch.stack([point[name].double() for point in plain])
        mean = (points * (shares / shares.sum()).view(-1, *[1] * weight.ndim)).sum(0)
        torch.testing.assert_close(weight.double(), mean, rtol=1e-5, atol=1e-6)
    assert (tmp_path / "plain" / "log.jsonl").read_bytes() == (
        tmp_path / "averaged" / "log.jsonl"
    ).read_bytes()


def test_validation_scores_what_is_kept(language, tmp_path):
    """The last validation is that of the model saved: a run that starts from it validates at step 0."""
    language.pretrain(tmp_path / "a", ema_decay=0.9)
    last = files.read_json(tmp_path / "a" / "pretrain.json")["loss"]
    language.pretrain(tmp_path / "b", model={"start": str(tmp_path / "a" / "model")}, tokens=600)
    first = json.loads((tmp_path / "b" / "validation.jsonl").read_text().splitlines()[0])
    assert first["step"] == 0 and first["loss"] == pytest.approx(last, rel=1e-6)


def test_a_moving_sparse_model_keeps_its_level(language, tmp_path):
    sparsity = {"level": 0.75, "pattern": "block8", "dynamic": "rigl", "update_every": 2}
    language.pretrain(tmp_path / "run", ema_decay=0.8, sparsity=sparsity)
    told = files.read_json(tmp_path / "run" / "sparsity.json")
    assert told["dynamic"]["moved"] > 0
    kept = weights(tmp_path / "run")
    for layer in told["layers"]:
        zeros = float((kept[f"model.{layer['name']}.weight"] == 0).float().mean())
        assert zeros >= layer["level"] - 1e-6


def test_means_move_with_their_weights():
    kept = torch.nn.Parameter(torch.ones(3))
    found = average.begin(torch.nn.ParameterList([kept]), 0.5)
    moments = {id(kept): [torch.zeros(3)]}
    along = average.with_means(found, lambda weight: moments[id(weight)])
    assert len(list(along(kept))) == 1  # no mean before the first step
    average.averaging.update(found, 0)
    assert torch.equal(list(average.with_means(found, lambda w: moments[id(w)])(kept))[1], torch.ones(3))


def test_an_average_longer_than_the_run_is_refused(language, tmp_path):
    average.check(0.0, 1)
    average.check(0.9, 10)
    with pytest.raises(RecipeError, match="1,000 steps") as error:
        average.check(0.999, 100)
    assert error.value.where == "pretrain.ema_decay" and "0.9" in error.value.fix
    with pytest.raises(RecipeError):
        language.pretrain(tmp_path / "run", ema_decay=0.9999)


def test_defaults_are_no_part_of_what_a_run_is_told_by(tiny, language):
    """A run of an earlier version goes on: what it is told by has the keys that it had then."""
    everything = set(PretrainSettings.later)
    assert {"schedule", "ema_decay"} <= everything
    assert set(PretrainSettings(schedule="wsd", ema_decay=0.0).idle()) == everything
    assert set(PretrainSettings(schedule="cosine").idle()) == everything - {"schedule"}
    assert set(PretrainSettings(ema_decay=0.9).idle()) == everything - {"ema_decay"}


def test_sparse_values_have_means(tiny, language):
    settings = tiny[1].model_copy(
        update={"ema_decay": 0.9, "sparsity": tiny[1].sparsity.model_copy(update={"level": 0.5})}
    )
    trainer = make_trainer(tiny[0], settings, tokenizers.load(language.tokenizer), 20, 0)
    values = [layer.values for layer in linear.sparse_layers(trainer.model).values()]
    assert {id(v) for v in values} <= {id(weight) for weight in trainer.average.weights}


def test_before_the_first_step_there_is_no_mean():
    begun, model = average.begin(torch.nn.Linear(2, 2), 0.9), torch.nn.Linear(2, 2)
    assert begun is not None
    assert average.state(begun, model) == {}
    average.load(begun, model, {}, 0)
    assert not begun.means
    average.check(0.9, 0)  # a run of no steps


def test_new_positions_are_told_to_the_mean(language, tmp_path, monkeypatch):
    means = []

    def watched(trainer, *arguments):
        record = take(trainer, *arguments)
        names = [name for name, weight in trainer.model.named_parameters() if weight.requires_grad]
        means.append(dict(zip(names, [mean.clone() for mean in trainer.average.means], strict=True)))
        return record

    take = loop.take_step
    monkeypatch.setattr(loop, "take_step", watched)
    shape = {"layout": "bert", "max_length": 64}
    language.pretrain(
        tmp_path / "run", shape, lengths=((32, 0.5), (64, 0.5)), ema_decay=0.8, learning_rate=1e-4
    )
    (name,) = (name for name in means[-1] if "position_embeddings" in name)
    far = [float((mean[name][32:] - mean[name][:32]).norm() / mean[name][:32].norm()) for mean in means]
    assert far[0] > 1 and far[-1] < 0.5
