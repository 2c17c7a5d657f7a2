"""An interrupted run, gone on with, must leave the bytes of an uninterrupted one."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wellread import files
from wellread.errors import ArtefactError, UserError
from wellread.models import build
from wellread.pretrain import checkpoint, loop, results

ALWAYS = 1e-9  # checkpoint_seconds: after every step
RESULTS = {
    "log.jsonl",
    "validation.jsonl",
    "pretrain.json",
    "sparsity.json",
    "model/config.json",
    "model/model.safetensors",
    "model/tokenizer.json",
    "model/tokenizer_config.json",
}


class CutError(Exception):
    pass


def cut_at(monkeypatch, module, name, count):
    """Let the ``count``-th call of a function raise, as a killed process would stop there."""
    real, calls = getattr(module, name), iter(range(1, 10**9))

    def cut(*arguments, **keywords):
        if next(calls) == count:
            raise CutError
        return real(*arguments, **keywords)

    monkeypatch.setattr(module, name, cut)


VARIANTS = {
    "adamw": {},
    "sparse": {"sparsity": {"level": 0.75, "pattern": "block8"}},
    "muon": {"optimizer": "muon", "sparsity": {"level": 0.5}},
    "rigl": {
        "accumulate": 2,
        "sparsity": {"level": 0.75, "pattern": "block8", "dynamic": "rigl", "update_every": 2},
    },
    "set": {"optimizer": "muon", "sparsity": {"level": 0.5, "dynamic": "set", "update_every": 1}},
    "accumulate": {"accumulate": 3, "masking": {"units": {"word": 1}}},
    "dropout": {"model": {"dropout": 0.1}},
    "average": {
        "ema_decay": 0.8,
        "schedule": "cosine",
        "sparsity": {"level": 0.75, "pattern": "block8", "dynamic": "set", "update_every": 2},
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_interrupted_anywhere_equals_uninterrupted(variant, language, tmp_path, monkeypatch, digests):
    settings = VARIANTS[variant]
    language.pretrain(tmp_path / "whole", **settings)
    expected = digests(tmp_path / "whole")
    assert set(expected) == RESULTS
    place = random.Random(variant)
    cuts = [
        (loop, "take_step", place.randint(2, 5)),
        (checkpoint, "save_tensors", place.randint(1, 2)),
        (files, "write_manifest", place.randint(1, 2)),
        (files, "swap_in", 1),
        (loop, "_validate", 2),
        (results, "write", 1),
        (build, "save", 1),
    ]
    for module, name, count in cuts:
        with monkeypatch.context() as patch, pytest.raises(CutError):
            cut_at(patch, module, name, count)
            language.pretrain(tmp_path / "cut", checkpoint_seconds=ALWAYS, **settings)
    language.pretrain(tmp_path / "cut", **settings)
    assert digests(tmp_path / "cut") == expected


def command(language, folder, threads=1, model=None, **settings):
    given = {
        "model": {"layers": 2, "hidden": 32, "heads": 2, "max_length": 64} | (model or {}),
        "pretrain": {"tokens": 6_000, "batch_tokens": 512, "precision": "fp32"} | settings,
    }
    script = Path(__file__).with_name("run_tiny.py")
    parts = [language.tokens, language.tokenizer, folder, threads, json.dumps(given)]
    return [sys.executable, str(script), *map(str, parts)]


def test_sigkill_at_random_moments(language, tmp_path, digests):
    settings = {"tokens": 20_000, "sparsity": {"level": 0.75}}
    language.pretrain(tmp_path / "whole", **settings)
    moments = random.Random(0)
    folder = tmp_path / "killed"
    for _ in range(8):
        known = set(folder.glob("checkpoints/step-*"))
        child = os.fork()
        if child == 0:
            language.pretrain(folder, checkpoint_seconds=ALWAYS, **settings)
            os._exit(0)
        try:
            while set(folder.glob("checkpoints/step-*")) <= known:
                assert os.waitpid(child, os.WNOHANG) == (0, 0), "it ended before it could be killed"
                time.sleep(0.001)
            time.sleep(moments.uniform(0.0, 0.05))
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    assert not (folder / "pretrain.json").exists()
    language.pretrain(folder, **settings)
    assert digests(folder) == digests(tmp_path / "whole")


@pytest.mark.parametrize("threads", [1, 2])
def test_two_processes_with_the_same_threads_agree_to_the_bit(threads, language, tmp_path, digests):
    settings = {"batch_tokens": 1024, "tokens": 4_000, "optimizer": "muon"}
    model = {"hidden": 64, "ffn": 256}
    waiting = os.environ | {"OMP_WAIT_POLICY": "passive"}  # spinning threads would starve each other
    processes = [
        subprocess.Popen(command(language, tmp_path / name, threads, model, **settings), env=waiting)
        for name in "ab"[:threads]
    ]
    if threads == 1:  # the second process is this one
        language.pretrain(tmp_path / "b", model, **settings)
    assert all(process.wait() == 0 for process in processes)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def stopped_after(language, folder, monkeypatch, step):
    """Leave a run with checkpoints of the steps before ``step``."""
    with monkeypatch.context() as patch, pytest.raises(CutError):
        cut_at(patch, loop, "take_step", step)
        language.pretrain(folder, checkpoint_seconds=ALWAYS)


@pytest.mark.parametrize("name", ["state.safetensors", "state.json", "manifest.json"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    name, language, tmp_path, monkeypatch, digests, capsys
):
    language.pretrain(tmp_path / "whole")
    folder = tmp_path / "cut"
    stopped_after(language, folder, monkeypatch, 5)
    before, newest = sorted((folder / "checkpoints").iterdir())
    assert (before.name, newest.name) == ("step-00000003", "step-00000004")
    damaged = bytearray((newest / name).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (newest / name).write_bytes(damaged)
    _, state = checkpoint.load_newest(folder / "checkpoints")
    assert "damaged" in capsys.readouterr().err
    assert state["done"]["step"] == 3
    language.pretrain(folder)
    assert digests(folder) == digests(tmp_path / "whole")


def test_without_a_good_checkpoint_it_starts_again(language, tmp_path, monkeypatch, digests):
    language.pretrain(tmp_path / "whole")
    folder = tmp_path / "cut"
    stopped_after(language, folder, monkeypatch, 5)
    for path in (folder / "checkpoints").iterdir():
        (path / "state.json").write_bytes(b"{}")
    language.pretrain(folder)
    assert digests(folder) == digests(tmp_path / "whole")


def test_the_last_two_checkpoints_are_kept(language, tmp_path, monkeypatch):
    stopped_after(language, tmp_path / "cut", monkeypatch, 8)
    names = sorted(path.name for path in (tmp_path / "cut" / "checkpoints").iterdir())
    assert names == ["step-00000006", "step-00000007"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("name", ["save_file", "json"])
def test_a_full_disk_is_told_and_loses_nothing(number, name, language, tmp_path, monkeypatch, digests):
    language.pretrain(tmp_path / "whole")
    folder = tmp_path / "full"
    stopped_after(language, folder, monkeypatch, 4)
    kept = digests(folder / "checkpoints")

    def full(*_, **__):
        if name == "json":
            raise OSError(number, "no room")
        raise checkpoint.SafetensorError(f"Error while serializing: I/O error (os error {number})")

    with monkeypatch.context() as patch, pytest.raises(UserError, match="no room on the disk") as caught:
        patch.setattr(*((files, "write_json") if name == "json" else (checkpoint, "save_file")), full)
        language.pretrain(folder, checkpoint_seconds=ALWAYS)
    assert caught.value.fix
    assert digests(folder / "checkpoints") == kept
    language.pretrain(folder)
    assert digests(folder) == digests(tmp_path / "whole")


def test_checkpoints_of_other_settings_are_refused(language, tmp_path, monkeypatch):
    stopped_after(language, tmp_path / "cut", monkeypatch, 4)
    with pytest.raises(ArtefactError, match="other settings"):
        language.pretrain(tmp_path / "cut", learning_rate=1e-4)


def test_the_same_files_by_another_path_are_the_same_run(language, tmp_path, monkeypatch, digests):
    language.pretrain(tmp_path / "first", tokens=600)
    (tmp_path / "terms.txt").write_text("ban\nbast")
    monkeypatch.chdir(tmp_path)

    def run(folder, base):
        model = f"{base}first/model"
        masking = {"units": {"token": 0.5, "lexicon": 0.5}, "lexicon": f"{base}terms.txt"}
        more = {"teacher": {"path": model}, "masking": masking, "checkpoint_seconds": ALWAYS}
        language.pretrain(tmp_path / folder, {"start": model}, **more)

    with monkeypatch.context() as patch, pytest.raises(CutError):
        cut_at(patch, loop, "take_step", 4)
        run("cut", "")
    run("cut", f"{tmp_path}/")
    run("whole", "")
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")


def test_a_finished_folder_is_only_tidied(language, tmp_path, monkeypatch, digests):
    folder = tmp_path / "done"
    language.pretrain(folder)
    expected = digests(folder)
    (folder / "checkpoints" / "step-00000001").mkdir(parents=True)
    monkeypatch.setattr(loop, "_train", lambda *_: pytest.fail("trained again"))
    language.pretrain(folder)
    assert digests(folder) == expected
