"""Several models that answer as one."""

import shutil
from itertools import permutations

import numpy as np
import pytest
import toy

from wellread import files
from wellread.compress.distil import committee
from wellread.compress.distil import teacher as teachers
from wellread.errors import ArtefactError
from wellread.finetune import objective
from wellread.finetune.data import prepare
from wellread.finetune.light import methods as light
from wellread.finetune.light import stored
from wellread.finetune.loop import finetune
from wellread.models import build, heads, packed
from wellread.serve.predict import Predictor
from wellread.settings import LightSettings
from wellread.tokens import tokenizer as tokenizers


def random_logits(members=4, rows=6, labels=3):
    return np.random.default_rng(0).normal(0, 4, (members, rows, labels)).astype(np.float32)


@pytest.mark.parametrize("kind", ["classify", "multilabel", "tag", "regress"])
def test_probabilities_are_averaged(kind):
    values = random_logits()
    expected = np.stack([objective.scores(kind, one) for one in values]).mean(axis=0)
    found = objective.scores(kind, committee.average(kind, values))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(
        committee.average(kind, values, "logits"), values.mean(axis=0), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("kind", ["classify", "multilabel", "regress"])
@pytest.mark.parametrize("way", ["probabilities", "logits"])
def test_equal_members_are_one_and_order_does_not_matter(kind, way):
    values = random_logits()
    same = committee.average(kind, np.stack([values[0]] * 5), way)
    np.testing.assert_allclose(objective.scores(kind, same), objective.scores(kind, values[0]), atol=1e-6)
    found = committee.average(kind, values, way)
    for order in permutations(range(4)):
        np.testing.assert_array_equal(committee.average(kind, values[list(order)], way), found)


def test_sure_members_stay_sure():
    values = np.array([[[80.0, -80.0]], [[90.0, -90.0]]], dtype=np.float32)
    for kind in ("classify", "multilabel"):
        found = committee.average(kind, values)
        assert np.isfinite(found).all()
        np.testing.assert_allclose(objective.scores(kind, found), [[1.0, 0.0]], atol=1e-12)


@pytest.fixture(scope="module")
def members(fine_tuned, tmp_path_factory):
    """Two models of one task: of different seeds, and of different depths."""
    folder, task, settings, _ = fine_tuned("classify", "bert")
    tokenizer = tokenizers.load(folder)
    data = prepare(task, task.splits["train"], tokenizer, 64, settings)
    made = [folder]
    for number, layers in ((1, 2), (2, 1)):
        result = finetune(
            data, task.splits["train"], toy.model("bert", layers=layers), tokenizer, settings, number
        )
        made.append(tmp_path_factory.mktemp("member"))
        build.save(result.model, tokenizer, made[-1])
    return made, task


def test_a_folder_predicts_as_its_members_together(members, tmp_path):
    made, task = members
    committee.make(made, tmp_path / "all")
    texts = [example.text for example in task.splits["dev"]]

    def rows(folder):
        return np.array(
            [list(one["probabilities"].values()) for one in Predictor.load(folder).predict(texts)]
        )

    found = rows(tmp_path / "all")
    np.testing.assert_allclose(found, np.mean([rows(one) for one in made], axis=0), atol=1e-6)
    committee.make([made[0]] * 3, tmp_path / "same")
    np.testing.assert_allclose(rows(tmp_path / "same"), rows(made[0]), atol=1e-6)
    committee.make(made[::-1], tmp_path / "back")
    np.testing.assert_array_equal(rows(tmp_path / "back"), found)


def test_a_member_may_be_of_two_parts(members, tmp_path):
    """What a light-weight method leaves: a stock checkpoint in a folder within, and what was added."""
    made, task = members
    tokenizer, settings = tokenizers.load(made[0]), LightSettings(method="houlsby")
    model = heads.task_model(toy.model("bert"), tokenizer, "classify", task.labels, 0.0, 0)
    light.equip(packed.enable(model).eval(), settings, 0.0, 1)
    stored.save(model, tokenizer, tmp_path / "light", settings)
    committee.make([tmp_path / "light"] * 2, tmp_path / "two")
    texts = [example.text for example in task.splits["dev"][:3]]
    one, two = (list(Predictor.load(tmp_path / name).predict(texts)) for name in ("light", "two"))
    for ours, theirs in zip(two, one, strict=True):
        assert ours["probabilities"] == pytest.approx(theirs["probabilities"], abs=1e-6)


def test_a_committee_tags_words(fine_tuned, tmp_path):
    folder, _, _, _ = fine_tuned("tag", "bert")
    committee.make([folder, folder], tmp_path / "two")
    text = "patients treated with aspirin extract"
    one, two = (next(Predictor.load(place).predict([text])) for place in (folder, tmp_path / "two"))
    assert [span["label"] for span in one["spans"]] == [span["label"] for span in two["spans"]]
    assert two["spans"][0]["probability"] == pytest.approx(one["spans"][0]["probability"], abs=1e-6)


def test_a_committee_can_teach(members, tmp_path):
    made, task = members
    committee.make(made, tmp_path / "all")
    examples = task.splits["dev"]
    rows = teachers.kept_labels(tmp_path / "all", examples, task, tmp_path / "soft", quiet=True)
    single = [teachers.soft_labels(teachers.open_teacher(one, task), examples, task.labels) for one in made]
    np.testing.assert_allclose(rows, committee.average("classify", np.stack(single)), atol=1e-6)


def test_damage_and_misfits_are_refused(members, fine_tuned, tmp_path):
    made, _ = members
    other, _, _, _ = fine_tuned("multilabel", "bert")
    with pytest.raises(ArtefactError, match="kind"):
        committee.make([made[0], other], tmp_path / "a")
    tokenizer = toy.make_tokenizer(tmp_path / "tokenizer", kind="bpe")
    strange = tmp_path / "strange"
    shutil.copytree(made[0], strange)
    tokenizer.save_pretrained(strange)
    with pytest.raises(ArtefactError, match="tokenizer"):
        committee.make([made[0], strange], tmp_path / "a")
    assert not (tmp_path / "a").exists()
    committee.make(made, tmp_path / "b")
    with pytest.raises(ArtefactError, match="something here"):
        committee.make(made, tmp_path / "b")
    with pytest.raises(ArtefactError, match="classifier"):
        committee.make([tmp_path / "b", made[0]], tmp_path / "c")
    path = tmp_path / "b" / "member-1" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\0\1")
    with pytest.raises(ArtefactError, match="damaged"):
        Predictor.load(tmp_path / "b")
    (tmp_path / "c").mkdir()
    files.write_json(tmp_path / "c" / "committee.json", {"members": "none"})
    with pytest.raises(ArtefactError):
        Predictor.load(tmp_path / "c")
