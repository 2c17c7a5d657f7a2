"""A generation goes on where it stopped, to the same bytes; arms are task folders; nothing else leaks."""

import importlib.util
import shutil
import sys
import zlib
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "finetune"))
import toy

from wellread import files
from wellread.augment import generator, run
from wellread.augment.generator import Sampling
from wellread.augment.run import AugmentSettings, augment
from wellread.errors import ArtefactError, DataError, UserError
from wellread.models import build
from wellread.tasks.read import read_task, write_task
from wellread.tasks.task import Example, Task

TOPICS = ["pain", "sleep", "fever", "stroke", "cough", "asthma", "anxiety", "migraine", "eczema", "gout"]


def questions():
    def example(split, n):
        topic = TOPICS[n % 10]
        text = f"Does treatment number {n} of the {split} group reduce {topic} in patients?"
        return Example(
            f"{split}-{n}", text, ("yes", "no")[n % 2], text_pair=f"{split} study {n} about {topic} and more"
        )

    splits = {
        split: [example(split, n) for n in range(size)]
        for split, size in (("train", 10), ("dev", 4), ("test", 4))
    }
    return Task("pain", "classify", ("no", "yes"), "accuracy", splits)


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    """A tiny decoder with random weights."""
    folder = tmp_path_factory.mktemp("writer")
    tokenizer = toy.make_tokenizer(folder, causal=True, kind="bpe")
    build.save(build.build(toy.model("llama", max_length=512), tokenizer, "clm", 0), tokenizer, folder)
    return folder


def answer(prompts, seed):
    return [f"Is {zlib.crc32(repr(p).encode())} {seed % 10**9} help for people who suffer?" for p in prompts]


@pytest.fixture
def scripted(monkeypatch):
    """Answers made of prompt and seed; the calls are counted."""
    calls = []

    def complete(_generator, prompts, _sampling, seed):
        calls.append(list(prompts))
        return answer(prompts, seed)

    monkeypatch.setattr(generator, "complete", complete)
    return calls


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_every_arm_is_a_task_whose_dev_and_test_are_the_original_s(writer, scripted, tmp_path):
    task = questions()
    report = augment(task, writer, tmp_path / "out", AugmentSettings(batch=4), quiet=True)
    arms = {name: read_task(tmp_path / "out" / "tasks" / name) for name in report["train"]}
    assert {name: len(arm.splits["train"]) for name, arm in arms.items()} == report["train"]
    assert report["train"] == {"original": 10, "rewrite": 20, "new": 20, "both": 30, "shuffled": 30}
    for arm in arms.values():
        assert arm.splits["dev"] == task.splits["dev"]
        assert arm.splits["test"] == task.splits["test"]
        assert arm.splits["train"][:10] == task.splits["train"]
    made = arms["both"].splits["train"][10:]
    sources = {one.id: one for one in task.splits["train"]}
    for one in made:
        source = sources[one.id.rsplit("-", 2)[0]]
        assert (one.label, one.text_pair) == (source.label, source.text_pair)
        assert one.text != source.text
    assert [one.text for one in arms["shuffled"].splits["train"][10:]] == [one.text for one in made]
    assert report["ways"]["rewrite"] == {"asked for": 10, "over their label's share": 0, "let in": 10}
    write_task(task, tmp_path / "plain")
    assert tree(tmp_path / "plain") == tree(tmp_path / "out" / "tasks" / "original")


def test_the_generator_sees_no_text_of_dev_or_test(writer, scripted, tmp_path):
    augment(questions(), writer, tmp_path / "out", AugmentSettings(), quiet=True)
    shown = "\n".join(prompt for call in scripted for prompt, _ in call)
    assert "train study" in shown
    assert "dev" not in shown
    assert "test study" not in shown


@pytest.mark.parametrize("cut", [0, 1, 30, 200, 700, 1500])
def test_an_interrupted_generation_ends_with_the_same_bytes(cut, writer, scripted, tmp_path):
    settings = AugmentSettings(batch=3)
    augment(questions(), writer, tmp_path / "whole", settings, quiet=True)
    whole = tree(tmp_path / "whole")
    calls = len(scripted)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "generated.jsonl").write_bytes(whole["generated.jsonl"][:cut])
    augment(questions(), writer, tmp_path / "cut", settings, quiet=True)
    assert tree(tmp_path / "cut") == whole
    assert len(scripted) - calls <= calls
    if cut > 1000:
        assert len(scripted) - calls < calls
    before = len(scripted)
    augment(questions(), writer, tmp_path / "cut", settings, quiet=True)
    assert len(scripted) == before  # nothing is asked twice


def test_another_task_or_seed_does_not_go_on_with_the_same_file(writer, scripted, tmp_path):
    augment(questions(), writer, tmp_path / "out", AugmentSettings(), quiet=True)
    with pytest.raises(UserError, match="another task, generator or settings"):
        augment(questions(), writer, tmp_path / "out", AugmentSettings(seed=1), quiet=True)


def test_answers_without_a_question_are_counted(writer, monkeypatch, tmp_path):
    monkeypatch.setattr(generator, "complete", lambda g, prompts, s, seed: ["I cannot."] * len(prompts))
    report = augment(questions(), writer, tmp_path / "out", AugmentSettings(ways=("rewrite",)), quiet=True)
    assert report["ways"]["rewrite"]["without a question"] == 10
    assert report["train"] == {"original": 10, "rewrite": 10, "shuffled": 10}


def test_some_sources(writer, scripted, tmp_path):
    settings = AugmentSettings(ways=("rewrite",), sources=4, copies=2)
    report = augment(questions(), writer, tmp_path / "out", settings, quiet=True)
    assert (report["sources"], report["ways"]["rewrite"]["asked for"]) == (4, 8)


def test_only_classification_is_augmented(writer, tmp_path):
    with pytest.raises(DataError, match="only classification"):
        augment(toy.task("tag", 4, 4), writer, tmp_path, AugmentSettings(), quiet=True)
    with pytest.raises(UserError, match="unknown way"):
        run.check_ways(["rewrote"])
    assert run.check_ways([]) == ("rewrite", "new")


def test_a_real_generator_writes_the_same_for_the_same_seed(writer):
    loaded = generator.load(generator.prepare(writer, Path("unused")))
    sampling = Sampling(max_new_tokens=6)
    asked = [("aspirin in", "x"), ("the dose of the study", "")]
    first = generator.complete(loaded, asked, sampling, 1)
    assert len(first) == 2
    assert all(first)
    assert generator.complete(loaded, asked, sampling, 1) == first
    assert generator.complete(loaded, asked, sampling, 2) != first
    assert generator.complete(loaded, [("the dose " * 900, "x")], sampling, 1)  # longer than the model


def test_chat_models_are_asked_in_their_template(writer):
    loaded = generator.load(writer)
    loaded.tokenizer.chat_template = "{% for m in messages %}<bos>{{ m['content'] }}<eos>{% endfor %}"
    seen = []
    whole = loaded.model.generate
    loaded.model.generate = lambda **given: seen.append(given["input_ids"]) or whole(**given)
    generator.complete(loaded, [("aspirin", " dose")], Sampling(max_new_tokens=2), 0)
    assert loaded.tokenizer.decode(seen[0][0]) == "<bos>aspirin<eos> dose"


def test_what_is_no_generator_is_refused(writer, tmp_path):
    with pytest.raises(ArtefactError, match="no generator there"):
        generator.prepare(tmp_path / "nothing.gguf", tmp_path)
    tokenizer = toy.make_tokenizer(tmp_path / "mlm")
    build.save(build.build(toy.model(), tokenizer, "mlm", 0), tokenizer, tmp_path / "mlm")
    with pytest.raises(ArtefactError, match="not a decoder"):
        generator.load(tmp_path / "mlm")
    (tmp_path / "bad.gguf").write_bytes(b"GGUF nonsense")
    with pytest.raises(UserError):
        generator.prepare(tmp_path / "bad.gguf", tmp_path / "converted", quiet=True)
    assert not (tmp_path / "converted").exists()


def test_a_gguf_file_is_converted_once(writer, tmp_path, monkeypatch):
    converted = []

    def convert(path, folder, source):
        converted.append(path)
        with files.new_folder(folder, source=source) as partial:
            for name in writer.iterdir():
                shutil.copy(name, partial)

    monkeypatch.setattr(generator, "_convert", convert)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    path = tmp_path / "toy.gguf"
    path.write_bytes(b"one")
    for _ in range(2):
        assert generator.prepare(path, tmp_path / "out", quiet=True) == tmp_path / "out"
    assert len(converted) == 1
    assert generator.load(tmp_path / "out").model.config.model_type == "llama"
    path.write_bytes(b"two")
    generator.prepare(path, tmp_path / "out", quiet=True)
    assert len(converted) == 2
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    path.write_bytes(b"three")
    with pytest.raises(UserError, match="not installed"):
        generator.prepare(path, tmp_path / "out", quiet=True)
