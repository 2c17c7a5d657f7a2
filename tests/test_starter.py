"""The recipe that `wellread new` writes can be loaded, whatever the files are called."""

from pathlib import Path

import pytest

from wellread import recipe, starter


@pytest.mark.parametrize("text", ["notes/", 'odd "name"', "größe 𝔸"])
def test_names_of_tasks_are_keys_and_each_stands_once(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    Path("labels.csv").write_text("text,label\n")
    tasks = [Path("labels.csv"), Path("v1.0"), Path("a/ner"), Path("b/ner"), Path("Ä")]
    settings = recipe.load(starter.write("mine", [text], tasks))
    assert list(settings.tasks) == ["labels", "v1-0", "ner", "ner-2", "task"]
    assert settings.tasks["labels"].path == "labels.csv"
    assert settings.corpus.sources == (text,)
