"""What a teacher is asked, how it is aligned, and what is kept."""

from dataclasses import replace

import numpy as np
import pytest
import toy

from wellread.compress.distil import committee
from wellread.compress.distil import teacher as teachers
from wellread.errors import ArtefactError
from wellread.evaluate.metrics import score
from wellread.models import build
from wellread.serve.engines.folder import export_engine


@pytest.mark.parametrize("kind", toy.KINDS)
def test_a_teacher_scores_as_after_its_fine_tuning(kind, fine_tuned):
    folder, task, _, result = fine_tuned(kind, "bert")
    examples = task.splits["dev"]
    rows = teachers.soft_labels(teachers.open_teacher(folder, task), examples, task.labels)
    found = teachers.answers(kind, task.labels, rows, examples)
    assert score(task, "dev", found) == pytest.approx(result.dev, abs=1e-6)


def test_columns_follow_the_task(fine_tuned):
    folder, task, _, _ = fine_tuned("classify", "bert")
    teacher, examples = teachers.open_teacher(folder, task), task.splits["dev"]
    rows = teachers.soft_labels(teacher, examples, task.labels)
    other = teachers.soft_labels(teacher, examples, task.labels[::-1])
    np.testing.assert_array_equal(other, rows[:, ::-1])


def test_words_that_no_tokenizer_sees_are_outside(fine_tuned):
    folder, task, _, _ = fine_tuned("tag", "bert")
    first = task.splits["dev"][0]
    hidden = replace(first, tokens=("\x07", *first.tokens), text=f"\x07 {first.text}")
    teacher = teachers.open_teacher(folder, task)
    plain, found = (teachers.soft_labels(teacher, [one], task.labels) for one in (first, hidden))
    np.testing.assert_allclose(found[1:], plain, atol=1e-5)
    assert found[0].argmax() == task.labels.index("O")
    assert np.exp(found[0] - found[0].max()).sum() == pytest.approx(1.0)


def test_a_teacher_is_asked_once(fine_tuned, tmp_path, monkeypatch):
    folder, task, _, _ = fine_tuned("classify", "bert")
    examples = task.splits["train"]
    monkeypatch.setattr(teachers, "PARCEL", 50)
    asked = []
    plain = teachers.soft_labels
    monkeypatch.setattr(teachers, "soft_labels", lambda *given: asked.append(len(given[1])) or plain(*given))

    def ask(some):
        return teachers.kept_labels(folder, some, task, tmp_path, quiet=True)

    rows = ask(examples)
    assert asked == [50, 50, 20]
    np.testing.assert_array_equal(ask(examples), rows)
    assert asked == [50, 50, 20]
    changed = [replace(examples[0], text="patients were treated with aspirin"), *examples[1:]]
    np.testing.assert_array_equal(ask(changed)[50:], rows[50:])
    assert asked == [50, 50, 20, 50]
    for path in tmp_path.glob("*.npy"):
        path.write_bytes(b"damaged")
    np.testing.assert_array_equal(ask(examples), rows)
    assert asked == [50, 50, 20, 50, 50, 50, 20]


def test_another_teacher_is_asked_anew(fine_tuned, tmp_path):
    folder, task, _, result = fine_tuned("classify", "bert")
    teachers.kept_labels(folder, task.splits["dev"], task, tmp_path / "soft", quiet=True)
    other = tmp_path / "other"
    build.save(result.model, toy.make_tokenizer(tmp_path / "tokenizer"), other)
    weights = other / "config.json"
    weights.write_text(weights.read_text() + " ")
    teachers.kept_labels(other, task.splits["dev"], task, tmp_path / "soft", quiet=True)
    assert len(list((tmp_path / "soft").iterdir())) == 2


def test_a_teacher_of_something_else_is_refused(fine_tuned):
    folder, task, _, _ = fine_tuned("classify", "bert")
    with pytest.raises(ArtefactError, match="kind|task"):
        teachers.open_teacher(folder, toy.task("tag"))
    with pytest.raises(ArtefactError, match="labels"):
        teachers.open_teacher(folder, replace(task, labels=("a", "b", "c")))


def test_an_exported_engine_cannot_teach(fine_tuned, tmp_path):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (the extra deploy)")
    folder, task, _, _ = fine_tuned("classify", "bert")
    export_engine(folder, tmp_path / "out", "onnx")
    with pytest.raises(ArtefactError, match="cannot teach"):
        teachers.open_teacher(tmp_path / "out", task)
    with pytest.raises(ArtefactError, match="member must be"):
        committee._member(tmp_path / "out")
