import hashlib
import json

import numpy as np
import pytest
import torch
from forked import together
from torch import nn

from wellread.errors import RecipeError
from wellread.pretrain import loop, parallel, shares
from wellread.pretrain.parallel import SOLO, Group, Reducer
from wellread.pretrain.state import Done
from wellread.pretrain.step import take_step
from wellread.pretrain.trainer import make_trainer
from wellread.tokens import tokenizer
from wellread.tokens.mixture import mix
from wellread.tokens.packing import plan
from wellread.tokens.store import Store

STEPS = 50


def records(folder, name="log.jsonl"):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def curves(folder):
    """Training and validation losses, and what else must agree."""
    log, validation = records(folder), records(folder, "validation.jsonl")
    losses = [record["loss"] for record in log] + [record["loss"] for record in validation]
    exact = [(record["step"], record["tokens"], record["flops"]) for record in log + validation]
    return losses, exact


def run(group, language, folder, model, settings):
    language.pretrain(folder, model, group=group, **settings)


@pytest.mark.parametrize(
    ("size", "model", "settings"),
    [
        (2, {}, {}),
        (3, {}, {"sparsity": {"level": 0.75}, "accumulate": 2}),
        (2, {}, {"sparsity": {"level": 0.75, "pattern": "block4", "dynamic": "rigl", "update_every": 5}}),
        (2, {}, {"sparsity": {"level": 0.75, "pattern": "block4", "dynamic": "set", "update_every": 5}}),
        (3, {}, {"sparsity": {"level": 0.75, "dynamic": "rigl", "update_every": 5}}),
        (2, {"layout": "bert"}, {"optimizer": "muon", "precision": "fp32"}),
        (2, {}, {"pairs": "sop"}),
        (2, {}, {"besides": {"replaced-tokens": 50.0}}),
        (3, {}, {"masking": {"units": {"ngram": 1.0}, "explicit": True, "ngrams": 400}, "accumulate": 2}),
    ],
)
def test_curves_agree_with_one_process(size, model, settings, language, tmp_path):
    settings = {"tokens": STEPS * 470, "batch_tokens": 512, "learning_rate": 5e-3} | settings
    language.pretrain(tmp_path / "one", model, **settings)
    together(size, run, language, tmp_path / "many", model, settings)
    (one, facts), (many, same_facts) = curves(tmp_path / "one"), curves(tmp_path / "many")
    assert len(facts) >= STEPS and facts == same_facts
    assert many == pytest.approx(one, rel=1e-6)
    assert not (tmp_path / "many" / "checkpoints").exists()


def test_a_decoder_too(causal_language, tmp_path):
    settings = {"tokens": 10_000}
    causal_language.pretrain(tmp_path / "one", {"layout": "llama"}, **settings)
    together(2, run, causal_language, tmp_path / "many", {"layout": "llama"}, settings)
    (one, facts), (many, same_facts) = curves(tmp_path / "one"), curves(tmp_path / "many")
    assert facts == same_facts and many == pytest.approx(one, rel=1e-6)
    bits = [records(tmp_path / name, "validation.jsonl")[-1]["bits_per_byte"] for name in ("one", "many")]
    assert bits[0] == pytest.approx(bits[1], rel=1e-6)


# -- the same bits ---------------------------------------------------------------------------------


def stopping(group, language, folder, settings, step):
    """As :func:`run`, but every process stops inside this step."""
    real = loop.take_step

    def cut(trainer, batch, epoch, done, lengths):
        if done.step == step:
            raise InterruptedError
        return real(trainer, batch, epoch, done, lengths)

    loop.take_step = cut
    with pytest.raises(InterruptedError):
        language.pretrain(folder, group=group, **settings)


def test_the_same_number_of_processes_gives_the_same_bits_also_when_interrupted(language, tmp_path, digests):
    settings = {"sparsity": {"level": 0.5}, "accumulate": 2, "checkpoint_seconds": 1e-9}
    together(2, run, language, tmp_path / "whole", {"dropout": 0.1}, settings)
    together(2, run, language, tmp_path / "again", {"dropout": 0.1}, settings)
    assert digests(tmp_path / "whole") == digests(tmp_path / "again")

    together(2, run, language, tmp_path / "plain", {}, settings)
    together(2, stopping, language, tmp_path / "cut", settings, 7)
    assert sorted((tmp_path / "cut" / "checkpoints").iterdir())[-1].name == "step-00000007"
    together(2, run, language, tmp_path / "cut", {}, settings)
    assert digests(tmp_path / "cut") == digests(tmp_path / "plain")


@pytest.mark.parametrize("sizes", [(2, 1), (1, 2), (2, 3)])
def test_a_run_goes_on_with_another_number_of_processes(sizes, language, tmp_path):
    settings = {"checkpoint_seconds": 1e-9}
    language.pretrain(tmp_path / "whole", **settings)
    before, after = sizes
    together(before, stopping, language, tmp_path / "cut", settings, 6)
    if after == 1:
        language.pretrain(tmp_path / "cut", **settings)
    else:
        together(after, run, language, tmp_path / "cut", {}, settings)
    (whole, facts), (cut, same_facts) = curves(tmp_path / "whole"), curves(tmp_path / "cut")
    assert facts == same_facts and cut == pytest.approx(whole, rel=1e-6)


# -- single steps ----------------------------------------------------------------------------------


def make(language, folder, group, tiny):
    model, settings = tiny
    loaded = tokenizer.load(language.tokenizer)
    with group.main_first():
        packing = plan(Store.open(language.tokens / "train"), 64, 512, 2, 0, folder)
    return packing, make_trainer(model, settings, loaded, 10, 0, group)


def fingerprint(trainer):
    digest = hashlib.sha256()
    for parameter in trainer.model.parameters():
        digest.update(parameter.detach().numpy().tobytes())
    return digest.hexdigest()


def few_steps(group, language, folder, tiny, idle, replay=0.0):
    """Three steps; in the second, only rank 0 reads anything if ``idle``."""
    packing, trainer = make(language, folder, group, tiny)
    if replay:
        packing = mix(packing, packing, replay)
    costs = shares.costs(trainer.model_settings, 300, 0.0, 0.3)
    done, losses = Done(), []
    for step in range(3):
        batch, lengths = shares.share(packing, step, costs, group)
        if idle and step == 1:
            mine = packing.samples(step) if group.main else np.empty(0, np.int64)
            batch = packing.assemble(mine)
        losses.append(take_step(trainer, batch, 0, done, lengths)["loss"])
    return losses, fingerprint(trainer)


@pytest.mark.parametrize(("idle", "replay"), [(False, 0.0), (True, 0.0), (True, 0.4)])
def test_all_ranks_have_the_same_bits(idle, replay, language, tmp_path, tiny):
    answers = together(3, few_steps, language, tmp_path, tiny, idle, replay)
    assert answers[0] == answers[1] == answers[2]
    alone, _ = few_steps(SOLO, language, tmp_path, tiny, idle, replay)
    assert answers[0][0] == pytest.approx(alone, rel=1e-6)


def what_is_read(group, language, folder, tiny):
    packing, trainer = make(language, folder, group, tiny)
    costs = shares.costs(trainer.model_settings, 300, 0.0, 0.3)
    found = []
    for step in range(4):
        batch, lengths = shares.share(packing, step, costs, group)
        prediction = trainer.objective(batch, 0, 0.0)
        masked = {
            (int(sample), position)
            for sample, position in zip(*where(batch, prediction.positions), strict=True)
        }
        found.append((batch.sample_ids.tolist(), masked, lengths))
    return found


def where(batch, positions):
    """Sample and place within it of each position of a batch."""
    owner = torch.searchsorted(batch.cu_seqlens[1:].long(), positions, right=True)
    return batch.sample_ids[owner].tolist(), batch.position_ids[positions].tolist()


def test_shares_are_the_batch_of_one_process_and_so_are_masks(language, tmp_path, tiny):
    alone = what_is_read(SOLO, language, tmp_path, tiny)
    ranks = together(2, what_is_read, language, tmp_path, tiny)
    for step, (samples, masked, lengths) in enumerate(alone):
        parts = [rank[step] for rank in ranks]
        assert sorted(parts[0][0] + parts[1][0]) == sorted(samples)
        assert parts[0][1] | parts[1][1] == masked and not parts[0][1] & parts[1][1]
        assert parts[0][2] == parts[1][2] == lengths


def test_steps_with_fewer_samples_than_processes_are_refused(language, tmp_path):
    packing = plan(Store.open(language.tokens / "train"), 64, 64, 2, 0, tmp_path)
    shares.check(packing, Group(0, 1))
    with pytest.raises(RecipeError, match="too few for 9 processes") as caught:
        shares.check(packing, Group(0, 9))
    assert caught.value.where == "pretrain.batch_tokens"


# -- the reducer -----------------------------------------------------------------------------------


class Branches(nn.Module):
    """Some parameters are used by some ranks only, one by none."""

    def __init__(self):
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(torch.full((n,), float(n))) for n in (3, 5, 2, 4)])

    def forward(self, used):
        return sum((number + 1) * self.weights[number].sum() for number in used)


def reduce_branches(group, uses, parts):
    parallel.BUCKET_BYTES = 4  # every parameter travels alone
    model = Branches()
    reducer = Reducer(model.parameters(), group)
    for _ in range(2):  # the reducer is ready again after a step
        for parameter in model.parameters():
            parameter.grad = None
        for part in range(parts):
            if part == parts - 1:
                reducer.arm()
            if uses[group.rank]:
                model(uses[group.rank]).backward()
        reducer.finish()
    return [None if w.grad is None else w.grad.tolist() for w in model.weights]


@pytest.mark.parametrize("parts", [1, 3])
def test_missing_gradients_count_as_zero_and_hold_nobody_up(parts):
    answers = together(3, reduce_branches, [(0, 1), (1,), ()], parts)
    assert answers[0] == answers[1] == answers[2]
    assert answers[0] == [[parts * 1.0] * 3, [parts * 2 * 2.0] * 5, None, None]


def overlap(group):
    """How many buckets had left when the first layer's backward pass began."""
    parallel.BUCKET_BYTES = 4
    layers = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)))
    reducer = Reducer(layers.parameters(), group)
    sent = []
    real = parallel._send
    parallel._send = lambda bucket: (sent.append(bucket), real(bucket))
    hidden = layers[0](torch.ones(2, 4))
    seen = []
    hidden.register_hook(lambda _: seen.append(len(sent)))
    reducer.arm()
    layers[2](layers[1](hidden)).sum().backward()
    reducer.finish()
    return seen, len(sent)


def test_gradients_leave_while_the_backward_pass_runs():
    assert together(2, overlap) == [([4], 6)] * 2


def test_one_process_reduces_nothing(monkeypatch):
    monkeypatch.setattr(parallel.dist, "all_reduce", None)
    layer = nn.Linear(2, 2)
    reducer = Reducer(layer.parameters(), SOLO)
    layer(torch.ones(1, 2)).sum().backward()
    before = layer.weight.grad
    reducer.arm()
    reducer.finish()
    assert layer.weight.grad is before
    assert SOLO.sum(1.5, 2.0) == [1.5, 2.0]
