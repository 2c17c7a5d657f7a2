"""Runs with a teacher in their first part: what stays as it was to the bit, what is read, what is counted."""

import json

import numpy as np
import pytest
from made_language import tiny_model, tiny_settings

from wellread.objectives import distillation
from wellread.pretrain import loop
from wellread.pretrain.data import open_data
from wellread.pretrain.parts import make_objective
from wellread.settings import TeacherSettings
from wellread.sparsity.flops import step_flops
from wellread.tokens import tokenizer

CAUSAL = {"layout": "llama"}


def facts(folder):
    return json.loads((folder / "pretrain.json").read_text())


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def teacher(language, tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher") / "run"
    language.pretrain(folder, {"layers": 1}, tokens=60_000, learning_rate=1e-2)
    return str(folder / "model")


@pytest.fixture(scope="module")
def causal_teacher(causal_language, tmp_path_factory):
    folder = tmp_path_factory.mktemp("causal") / "run"
    causal_language.pretrain(folder, {"layers": 1, **CAUSAL}, tokens=30_000, learning_rate=1e-2)
    return str(folder / "model")


@pytest.mark.parametrize(
    "off", [{"weight": 0.0}, {"share": 0.0}, {"weight": 0.0, "keep": 0.3}, {"share": 0.0, "keep": 0.3}]
)
def test_a_teacher_without_weight_or_share_is_the_plain_run_to_the_bit(
    language, teacher, tmp_path, digests, off
):
    language.pretrain(tmp_path / "plain")
    language.pretrain(tmp_path / "taught", teacher=TeacherSettings(path=teacher, **off))
    plain, taught = digests(tmp_path / "plain"), digests(tmp_path / "taught")
    assert facts(tmp_path / "taught")["teacher_flops"] == 0
    for found in (plain, taught):
        found.pop("pretrain.json")
    assert plain == taught


@pytest.mark.parametrize("causal", [False, True])
def test_the_teacher_counts_while_it_is_heard_and_not_after(
    language, causal_language, teacher, causal_teacher, tmp_path, causal
):
    one, path = (causal_language, causal_teacher) if causal else (language, teacher)
    given = TeacherSettings(path=path, share=0.4, weight=0.667, temperature=0.5, soften="teacher")
    shape = CAUSAL if causal else {}
    one.pretrain(tmp_path / "taught", shape, teacher=given)
    one.pretrain(tmp_path / "plain", shape)
    lines, plain = log(tmp_path / "taught"), log(tmp_path / "plain")
    heard = sum(step / len(lines) < 0.4 for step in range(len(lines)))
    spent = [line["teacher_flops"] for line in lines]
    assert all(later > before for before, later in zip(spent[: heard - 1], spent[1:heard], strict=True))
    assert spent[heard - 1 :] == [spent[-1]] * (len(lines) - heard + 1)
    for line, other in zip(lines, plain, strict=True):
        assert line["flops"] == pytest.approx(other["flops"] + line["teacher_flops"])
    assert lines[0]["loss"] != plain[0]["loss"]
    assert facts(tmp_path / "taught")["teacher_flops"] == spent[-1]


def test_a_forward_pass_is_a_third_of_a_step(language, teacher):
    settings = tiny_settings(teacher=TeacherSettings(path=teacher))
    found = distillation.open_teacher(settings, tokenizer.load(language.tokenizer), tiny_model())
    vocab = found.model.config.vocab_size
    expected = step_flops(tiny_model(layers=1), vocab, [10, 64], 20, 0.0)[0] / 3
    assert found.flops([10, 64], 20) == pytest.approx(expected)


def test_after_its_share_another_teacher_changes_nothing(language, teacher, tmp_path):
    other = str(tmp_path / "other" / "model")
    language.pretrain(tmp_path / "other", {"layers": 1}, tokens=2_000, seed=9)
    loaded = tokenizer.load(language.tokenizer)
    from wellread.tokens.packing import plan
    from wellread.tokens.store import Store

    batch = plan(Store.open(language.tokens / "train"), 64, 512, 2, 0, tmp_path / "bins").batch(0)
    asked = [
        make_objective(tiny_model(), tiny_settings(teacher=TeacherSettings(path=path, share=0.5)), loaded, 0)
        for path in (teacher, other)
    ]
    assert [one(batch, 0, 0.49).soft is None for one in asked] == [False, False]
    assert [one(batch, 0, 0.5).soft is None for one in asked] == [True, True]


def test_the_steps_with_the_teacher_read_what_it_finds_hard_but_learnable(language, teacher, tmp_path):
    from wellread.objectives import salt
    from wellread.tokens.packing import plan
    from wellread.tokens.store import Store

    given = TeacherSettings(path=teacher, share=0.3, keep=0.5, keep_top=20)
    settings, loaded = tiny_settings(teacher=given, tokens=9_000), tokenizer.load(language.tokenizer)
    data = open_data(tiny_model(), settings, loaded, language.tokens, tmp_path, 0)
    first, rest = data.train.legs
    assert first.steps == -(-3 * data.train.steps // 10)
    assert rest.epoch == 1 and rest.whole
    found = distillation.open_teacher(settings, loaded, tiny_model())
    ask = make_objective(tiny_model(), settings, loaded, 0, teacher=found)
    store = Store.open(language.tokens / "train")
    pool = plan(store, 64, 512, 2, 0, tmp_path / "pool")  # the one that was scored
    order = salt.rank(pool, lambda batch: ask(batch, None), found.model, 20)
    chosen = np.load(tmp_path / "chosen.npy")
    assert set(chosen.tolist()) == set(order[: len(chosen)].tolist())
    sizes = np.diff(np.asarray(store.offsets))
    assert sizes[chosen].sum() == pytest.approx(0.5 * sizes[order].sum(), abs=int(sizes.max()))
    assert data.train.spent > 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_chosen_text_is_read_as_long_as_the_teacher_is_heard(
    language, teacher, tmp_path, monkeypatch, precision
):
    """Also where share * steps is not what it seems: 0.07 * 100 > 7."""
    from wellread.objectives import salt
    from wellread.precision import wants_bfloat16

    seen, real = [], salt.rank
    monkeypatch.setattr(salt, "rank", lambda *given: (seen.append(wants_bfloat16()), real(*given))[1])
    given = TeacherSettings(path=teacher, share=0.07, keep=0.5)
    settings, loaded = tiny_settings(teacher=given, tokens=50_430), tokenizer.load(language.tokenizer)
    settings = settings.model_copy(update={"precision": precision})
    train = open_data(tiny_model(), settings, loaded, language.tokens, tmp_path, 0).train
    assert train.steps == 100
    assert train.legs[0].steps == sum(salt.weight(given, step / 100) > 0 for step in range(100)) == 7
    assert seen == [precision == "bf16"]


def test_a_taught_run_cut_short_leaves_the_same_bytes(language, teacher, tmp_path, digests, monkeypatch):
    given = TeacherSettings(path=teacher, share=0.5, keep=0.5, ramp=True)
    language.pretrain(tmp_path / "whole", teacher=given)
    real, count = loop.take_step, iter(range(100))

    def cut(*arguments, **keywords):
        if next(count) == 4:
            raise KeyboardInterrupt
        return real(*arguments, **keywords)

    monkeypatch.setattr(loop, "take_step", cut)
    with pytest.raises(KeyboardInterrupt):
        language.pretrain(tmp_path / "cut", teacher=given, checkpoint_seconds=1e-9)
    monkeypatch.undo()
    language.pretrain(tmp_path / "cut", teacher=given, checkpoint_seconds=1e-9)
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")
