"""A student learns from a teacher: all kinds of tasks, its own tokenizer, exact ends."""

from dataclasses import replace

import numpy as np
import pytest
import toy

from wellread.compress.distil import student
from wellread.compress.distil import teacher as teachers
from wellread.compress.distil.settings import DistilSettings
from wellread.errors import RecipeError
from wellread.finetune import objective
from wellread.finetune.loop import finetune
from wellread.models import packed
from wellread.serve.predict import Predictor
from wellread.tokens import tokenizer as tokenizers


def lesson_of(folder, task, examples, tokenizer, settings):
    rows = teachers.soft_labels(teachers.open_teacher(folder, task), examples, task.labels)
    return student.prepare(task, examples, rows, tokenizer, 64, settings), rows


def unlabelled(task, count):
    """Texts like the task's, whose label says nothing."""
    made = toy.task(task.kind, train=count, other=1).splits["train"]
    return [
        type(one)(f"transfer:{at}", one.text, "", one.text_pair, one.tokens) for at, one in enumerate(made)
    ]


@pytest.mark.parametrize("kind", toy.KINDS)
def test_a_student_that_starts_as_the_teacher_stays_the_teacher(kind, fine_tuned):
    """With a rate of nearly nothing; its first loss is the teacher's own entropy, its gradient nought."""
    folder, task, settings, result = fine_tuned(kind, "bert")
    still = settings.model_copy(
        update={"learning_rate": 1e-12, "min_steps": 2, "max_steps": 2, "evaluations": 1, "dropout": 0.0}
    )
    lesson, _ = lesson_of(folder, task, task.splits["train"], tokenizers.load(folder), still)
    found = student.distil(lesson, folder, tokenizers.load(folder), DistilSettings(fine_tune=False), still, 0)
    if kind != "regress":  # the fine-tuned head's scale is not that of a fresh start
        assert found.dev == pytest.approx(result.dev, abs=1e-6)
    assert found.picked["stage"] == "distilled"


@pytest.mark.parametrize("kind", toy.KINDS)
@pytest.mark.parametrize("length", [12, 64], ids=["windows", "whole"])
def test_what_the_teacher_says_stands_where_the_student_reads_it(kind, length, tmp_path):
    """A teacher that knows the labels: its row for each target of the student's encoding says that target."""
    task, settings = toy.task(kind), toy.settings()
    examples, number = task.splits["train"], {label: at for at, label in enumerate(task.labels)}
    if kind == "regress":
        rows = np.array([[example.label] for example in examples], dtype=np.float32)
    else:
        single = kind == "classify"
        said = [{example.label} if single else example.label for example in examples]
        if kind == "tag":
            said = [{tag} for tags in said for tag in tags]
        rows = np.full((len(said), len(number)), -9, dtype=np.float32)
        for row, labels in zip(rows, said, strict=True):
            row[[number[label] for label in labels]] = 9
    tokenizer = toy.make_tokenizer(tmp_path / "bytes", kind="bpe")
    strangers = [replace(example, id=f"transfer:{example.id}") for example in examples]
    for transfer in (examples, strangers):
        lesson = student.prepare(task, transfer, rows, tokenizer, length, settings)
        targets = lesson.data.splits["train"].targets
        assert len(lesson.rows) == len(targets) == len(lesson.labelled)
        assert lesson.labelled.all() == (transfer is examples)
        found = {"regress": lesson.rows[:, 0], "multilabel": (lesson.rows > 0).astype(np.float32)}
        np.testing.assert_array_equal(found.get(kind, lesson.rows.argmax(axis=1)), targets)


# Not for tags: in so few steps a student with pieces smaller than words learns too little to tell.
@pytest.mark.parametrize("kind", ["classify", "multilabel", "regress"])
def test_unlabelled_text_is_enough(kind, fine_tuned, tmp_path):
    """A student with a tokenizer of its own, which never sees a label, learns what the teacher knows."""
    folder, task, settings, result = fine_tuned(kind)
    tokenizer = toy.make_tokenizer(tmp_path / "bytes", kind="bpe")
    quick = settings.model_copy(update={"min_steps": 120, "epochs": 1, "evaluations": 3})
    lesson, _ = lesson_of(folder, task, unlabelled(task, 200), tokenizer, quick)
    assert not lesson.labelled.any()
    found = student.distil(lesson, toy.model(), tokenizer, DistilSettings(fine_tune=False), quick, 0)
    assert found.dev[task.metric] > 0.8 * result.dev[task.metric] > 0.4


def test_without_the_teacher_it_is_fine_tuning(fine_tuned):
    """alpha 0 on the task's own texts: the same bits as fine-tuning."""
    folder, task, settings, _ = fine_tuned("classify", "bert")
    tokenizer, examples = tokenizers.load(folder), task.splits["train"]
    short = settings.model_copy(update={"min_steps": 6, "max_steps": 6})
    lesson, _ = lesson_of(folder, task, examples, tokenizer, short)
    assert lesson.labelled.all()
    plain = finetune(lesson.gold, examples, toy.model("bert"), tokenizer, short, 3)
    alone = DistilSettings(alpha=0.0, fine_tune=False)
    found = student.distil(lesson, toy.model("bert"), tokenizer, alone, short, 3)
    np.testing.assert_array_equal(found.dev_output, plain.dev_output)


@pytest.mark.parametrize("kind", ["classify", "regress"])
def test_fine_tuning_is_kept_only_where_dev_is_no_worse(kind, fine_tuned):
    folder, task, settings, _ = fine_tuned(kind, "bert")
    tokenizer = tokenizers.load(folder)
    short = settings.model_copy(update={"min_steps": 30, "max_steps": 30, "evaluations": 2})
    lesson, _ = lesson_of(folder, task, unlabelled(task, 100), tokenizer, short)
    first = student.distil(lesson, toy.model("bert"), tokenizer, DistilSettings(fine_tune=False), short, 0)
    both = student.distil(lesson, toy.model("bert"), tokenizer, DistilSettings(), short, 0)
    assert {entry["stage"] for entry in both.history} == {"distilled", "fine-tuned"}
    assert both.dev[task.metric] >= first.dev[task.metric]
    logits = lesson.gold.head.logits(packed.enable(both.model), lesson.gold.splits["dev"].encoded)
    np.testing.assert_allclose(objective.scores(kind, logits), both.dev_output, atol=1e-5)
    if both.picked["stage"] == "distilled":
        np.testing.assert_array_equal(both.dev_output, first.dev_output)


def test_a_run_is_a_pure_function_of_its_seed(fine_tuned):
    folder, task, settings, _ = fine_tuned("tag", "bert")
    tokenizer = tokenizers.load(folder)
    short = settings.model_copy(update={"min_steps": 5, "max_steps": 5, "evaluations": 1})
    lesson, _ = lesson_of(folder, task, unlabelled(task, 40), tokenizer, short)
    runs = [
        student.distil(lesson, toy.model("bert"), tokenizer, DistilSettings(), short, seed)
        for seed in (0, 0, 1)
    ]
    weights = [run.model.state_dict()["classifier.weight"].numpy() for run in runs]
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


@pytest.mark.parametrize(
    "changes", [{"head": "mlm"}, {"rdrop": 1.0}, {"light": {"method": "lora"}}], ids=lambda c: next(iter(c))
)
def test_what_has_no_use_is_refused(changes):
    with pytest.raises(RecipeError):
        student.check(toy.settings(**changes))


def test_a_saved_student_predicts(fine_tuned, tmp_path):
    from wellread.models import build

    folder, task, settings, _ = fine_tuned("classify", "bert")
    tokenizer = tokenizers.load(folder)
    short = settings.model_copy(update={"min_steps": 2, "max_steps": 2, "evaluations": 1})
    lesson, _ = lesson_of(folder, task, unlabelled(task, 40), tokenizer, short)
    found = student.distil(lesson, toy.model("bert"), tokenizer, DistilSettings(), short, 0)
    build.save(found.model, tokenizer, tmp_path / "model")
    texts = [example.text for example in task.splits["dev"]]
    rows = [list(one["probabilities"].values()) for one in Predictor.load(tmp_path / "model").predict(texts)]
    np.testing.assert_allclose(rows, found.dev_output, atol=1e-6)
