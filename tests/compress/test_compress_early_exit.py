"""Early exit: the walk, the rules, training, the dial, the folder."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from wellread.compress import early_exit, exits
from wellread.compress.early_exit import ExitSettings, choose, dial
from wellread.compress.exits import Rule
from wellread.compress.subject import Subject, load_model, logits, open_subject
from wellread.errors import RecipeError
from wellread.finetune.data import prepare
from wellread.models import build, packed
from wellread.serve.predict import Predictor
from wellread.settings import ModelSettings

LAYERS = 4
KINDS = ("classify", "multilabel", "regress")


@pytest.fixture(scope="module")
def deep(fine_tuned, tmp_path_factory):
    """A function (kind, layout) -> subject: a model of four layers, with random weights where not given."""
    from wellread.finetune.loop import finetune
    from wellread.models import heads

    def make(kind, layout, *, learnt=False) -> Subject:
        folder, task, settings, _ = fine_tuned(kind, layout)
        tokenizer = open_subject(folder, task, settings).tokenizer
        shape = {"layers": LAYERS, "hidden": 32, "heads": 2, "max_length": 64, "local_attention": 16}
        start = ModelSettings(layout=layout, global_every=2, init_std=0.15, **shape)
        if learnt:
            data = prepare(task, task.splits["train"], tokenizer, 64, settings)
            model = finetune(data, task.splits["train"], start, tokenizer, settings, 0).model
        else:
            model = heads.task_model(start, tokenizer, kind, task.labels, 0.0, 0)
        target = tmp_path_factory.mktemp("deep") / "model"
        build.save(model, tokenizer, target)
        return open_subject(target, task, settings)

    return make


def with_exits(subject):
    model = load_model(subject)
    exits.equip(model, 0)
    return model.eval()


@pytest.mark.parametrize("layout", early_exit.LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_nobody_leaving_is_the_whole_model(kind, layout, deep):
    subject = deep(kind, layout)
    model, encoded = with_exits(subject), subject.data.splits["dev"].encoded
    whole = logits(load_model(subject), subject)
    for rule in (Rule(), Rule(criterion="patience", patience=LAYERS - 1, tolerance=1e9)):
        np.testing.assert_array_equal(exits.logits(model, encoded, kind, rule), whole)
    np.testing.assert_array_equal(exits.all_logits(model, encoded)[:, -1], whole)


@pytest.mark.parametrize("layout", early_exit.LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_leaving_changes_nothing_for_those_who_stay(kind, layout, deep):
    """A batch that shrinks gives each sequence the logits that its head gives in the full batch."""
    subject = deep(kind, layout)
    model, encoded = with_exits(subject), subject.data.splits["dev"].encoded
    heads = exits.all_logits(model, encoded)
    if kind == "regress":
        change = np.median(np.abs(heads[:, 1] - heads[:, 0]))
        rule = Rule(criterion="patience", patience=1, tolerance=float(change))
    else:
        rule = Rule(threshold=float(exits.entropy(kind, torch.from_numpy(heads[:, 1])).median()))
    left = exits.leaves(kind, rule, torch.from_numpy(heads)).numpy()
    assert len(set(left)) > 1
    found = exits.logits(model, encoded, kind, rule)
    np.testing.assert_allclose(found, heads[np.arange(len(left)), left], atol=1e-5)


def test_fewer_tokens_go_through_the_upper_layers(deep):
    subject = deep("classify", "modernbert")
    model, encoded = with_exits(subject), subject.data.splits["dev"].encoded
    heads = torch.from_numpy(exits.all_logits(model, encoded))
    rule = Rule(threshold=float(exits.entropy("classify", heads[:, 0]).median()))
    seen = [0] * LAYERS
    for number, layer in enumerate(model.model.layers):

        def hook(_, given, number=number):
            seen[number] += given[0].shape[1]

        layer.register_forward_pre_hook(hook)
    exits.logits(model, encoded, "classify", rule)
    left = exits.leaves("classify", rule, heads).numpy()
    expected = [int(encoded.lengths[left >= layer].sum()) for layer in range(LAYERS)]
    assert seen == expected
    assert seen[1] < seen[0]


def test_patience_counts_agreements_in_a_row():
    """Answers a b b a a a: once in a row at the third head, twice at the last but one of six."""
    answers = torch.tensor([[0, 1, 1, 0, 0, 0]])
    heads = torch.nn.functional.one_hot(answers, 2).float()
    for patience, expected in ((1, 2), (2, 5), (3, 5)):
        assert exits.leaves("classify", Rule(criterion="patience", patience=patience), heads) == expected
    longer = torch.cat([heads, heads[:, -1:]], dim=1)
    assert exits.leaves("classify", Rule(criterion="patience", patience=2), longer) == 5


def test_entropy_in_nats():
    even = torch.zeros(1, 4)
    assert float(exits.entropy("classify", even)) == pytest.approx(np.log(4))
    assert float(exits.entropy("multilabel", torch.tensor([[9.0, 0.0]]))) == pytest.approx(np.log(2))
    assert float(exits.entropy("classify", torch.tensor([[60.0, 0.0]]))) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", ["classify", "regress"])
def test_frozen_training_leaves_the_model_alone(kind, deep):
    subject = deep(kind, "bert")
    model = early_exit.train(subject, ExitSettings(epochs=1), 0)
    before, after = load_model(subject).state_dict(), model.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    fresh = with_exits(subject).exits.state_dict()
    assert any(not torch.equal(after[f"exits.{name}"], weight) for name, weight in fresh.items())


def test_trained_exits_are_worth_something(deep):
    """Half of the layers at nearly the whole model's score, on an easy task."""
    subject = deep("classify", "bert", learnt=True)
    model = early_exit.train(subject, ExitSettings(epochs=3, learning_rate=3e-3), 0)
    points = dial(model, subject)
    assert points[0].speedup == 1
    assert points[0].layers == LAYERS
    assert points[-1].speedup == LAYERS
    assert [p.speedup for p in points] == sorted(p.speedup for p in points)
    chosen = choose(points, "macro_f1", speedup=1.5)
    assert chosen.speedup >= 1.5
    assert chosen.scores["macro_f1"] >= points[0].scores["macro_f1"] - 0.15
    assert choose(points, "macro_f1", drop=1.0).speedup == LAYERS
    with pytest.raises(RecipeError, match="as fast"):
        choose(points, "macro_f1", speedup=LAYERS + 1)


def test_joint_training_and_the_scale_of_a_regression(deep):
    """Heads of a regression answer in the task's own units, around 40 to 50."""
    subject = deep("regress", "modernbert")
    model = early_exit.train(subject, ExitSettings(body="joint", epochs=3), 0)
    means = exits.all_logits(model, subject.data.splits["dev"].encoded).mean((0, 2))
    assert means.shape == (LAYERS,)
    # The model's own head has no bias and starts here from random weights: it is not there yet.
    assert ((means[:-1] > 35) & (means[:-1] < 55)).all()
    points = dial(model, subject, "patience", points=4)
    assert points[0].speedup == 1
    assert max(point.speedup for point in points) > 1


def test_the_folder_is_the_whole_model_for_others(deep, tmp_path):
    subject = deep("classify", "modernbert")
    model, encoded = with_exits(subject), subject.data.splits["dev"].encoded
    heads = torch.from_numpy(exits.all_logits(model, encoded))
    rule = Rule(threshold=float(exits.entropy("classify", heads[:, 0]).median()))
    early_exit.save(model, subject.tokenizer, tmp_path, rule)
    stock = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert set(stock.state_dict()) == {name for name in model.state_dict() if not name.startswith("exits.")}
    np.testing.assert_array_equal(
        logits(packed.enable(stock).eval(), subject), logits(load_model(subject), subject)
    )
    predictor = Predictor.load(tmp_path)
    found = predictor.head.logits(predictor.model, encoded)
    np.testing.assert_array_equal(found, exits.logits(model, encoded, "classify", rule))
    (answer,) = predictor.predict([subject.task.splits["dev"][0].text])
    assert answer["label"] in subject.task.labels


def test_what_cannot_exit_is_refused(fine_tuned, deep, tmp_path):
    for kind, layout, what in (("tag", "bert", "tags"), ("classify", "gpt2", "decoder")):
        folder, task, settings, _ = fine_tuned(kind, layout)
        with pytest.raises(RecipeError, match=what):
            early_exit.train(open_subject(folder, task, settings), ExitSettings(), 0)
    subject = deep("regress", "bert")
    model = with_exits(subject)
    with pytest.raises(RecipeError, match="no entropy"):
        early_exit.save(model, subject.tokenizer, tmp_path, Rule(threshold=0.1))
    with pytest.raises(RecipeError, match="no entropy"):
        dial(model, subject)
