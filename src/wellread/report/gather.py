"""Everything the report needs, read from the files of a run folder; a stage that is not there stays None."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wellread import files, recipe
from wellread.errors import ArtefactError
from wellread.pipeline.order import KINDS
from wellread.recipe import Recipe
from wellread.settings import ModelSettings, PretrainSettings
from wellread.stages import current

Record = dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """A pre-trained model of the run.

    Attributes:
        name: as in the recipe.  title: for people.
        facts: pretrain.json.  sparsity: sparsity.json.  config: the checkpoint's config.json.
        log, validation, timing: lines of the files of those names; timing in cumulative seconds.
    """

    name: str
    title: str
    model: ModelSettings
    settings: PretrainSettings
    facts: Record
    sparsity: Record
    config: Record
    log: list[Record]
    validation: list[Record]
    timing: list[Record]

    @property
    def sparse(self) -> bool:
        """Whether any weight was fixed at zero."""
        return bool(self.facts.get("sparsity"))

    @property
    def zeros(self) -> float:
        """Share of the layers' weights that was held at zero; with blocks seldom just what was asked for."""
        return float(self.sparsity.get("level", self.facts.get("sparsity")) or 0.0)


@dataclass(frozen=True)
class TaskFacts:
    """A labelled task: ``about`` is task.toml, ``classes`` counts labels (or tagged spans) by split."""

    name: str
    about: Record
    counts: dict[str, int]
    classes: dict[str, Counter[str]]
    test_hash: str

    @property
    def derived(self) -> bool:
        """Whether the labels were made from the corpus's own structure."""
        return bool(self.about.get("facts", {}).get("derived")) or bool(self.about.get("derive"))


@dataclass(frozen=True)
class Cost:
    """What a stage took; ``peak_bytes`` is the process's resident memory."""

    stage: str
    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Artefact:
    """A committed stage: hash of its settings, code and inputs; hash of its content; its size."""

    stage: str
    fingerprint: str
    identity: str
    size_bytes: int


@dataclass(frozen=True)
class RunFacts:
    """All that is known of a run; see docs/architecture.md for the files behind each field."""

    folder: Path
    recipe: Recipe
    recipe_text: str
    recipe_sha256: str
    run: Record
    inputs: dict[str, str]
    corpus: Record | None
    leakage: Record | None
    fertility: Record | None
    tokens: dict[str, Record]
    variants: list[Variant]
    tasks: dict[str, TaskFacts]
    summary: Record
    metrics: list[Record]
    units: list[Record]
    costs: list[Cost]
    artefacts: list[Artefact]
    documents: dict[str, int] = field(default_factory=dict)

    @property
    def main(self) -> Variant | None:
        """The first variant, the one that the recipe is about."""
        return self.variants[0] if self.variants else None


def gather(run: Path) -> RunFacts:
    """Read a run folder.

    Raises:
        ArtefactError: it is not a run folder, or a file of it is damaged.
        RecipeError: its recipe.toml is not valid.
    """
    run = Path(run)
    if not (run / "recipe.toml").is_file():
        raise ArtefactError(
            "not a run folder (no recipe.toml)", where=str(run), fix="give a folder made by `wellread run`"
        )
    data = (run / "recipe.toml").read_bytes()
    settings = recipe.load(run / "recipe.toml")
    stages = run / "stages"
    names = stage_names(run, settings)

    def read(stage: str, name: str) -> Any:
        return _json(stages / stage / name) if stage in names else None

    summary = read("evaluate", "summary.json") or {}
    return RunFacts(
        folder=run,
        recipe=settings,
        recipe_text=data.decode("utf-8-sig"),
        recipe_sha256=files.sha256_bytes(data),
        run=_json(run / "run.json") or {},
        inputs=_input_hashes(run),
        corpus=read("corpus", "report.json"),
        leakage=read("selection", "leakage.json"),
        fertility=read("tokenizer", "fertility.json"),
        tokens=_stores(stages / "tokens") if "tokens" in names else {},
        variants=_variants(settings, stages / "pretrain", names),
        tasks=_tasks(settings, stages / "tasks", names),
        summary=summary.get("tasks", {}),
        metrics=read("evaluate", "metrics.json") or [],
        units=_units(stages, names),
        costs=_costs(stages, names),
        artefacts=_artefacts(stages, names),
        documents=_selected(stages / "selection") if "selection" in names else {},
    )


def stage_names(run: Path, settings: Recipe) -> list[str]:
    """Committed stages of this recipe, in the order of the path of the data; the report itself left out.

    What an earlier recipe left there, or was made of inputs that are other ones now, is not among them.
    """
    found = current(run, lambda name: _is_named(name, settings))
    return sorted(found, key=lambda name: (KINDS.index(name.split("/")[0]), name))


def _is_named(name: str, settings: Recipe) -> bool:
    """Whether the recipe has the task, variant or text of a stage."""
    kind, _, rest = name.partition("/")
    named: dict[str, Collection[str]] = {
        "pretrain": settings.variant_names(),
        "texts": settings.texts,
        **dict.fromkeys(("tasks", "finetune", "rivals"), settings.tasks),
    }
    return kind in KINDS[:-1] and (kind not in named or rest.split("/")[0] in named[kind])


def _json(path: Path) -> Any:
    return files.read_json(path) if path.is_file() else None


def _lines(path: Path) -> list[Record]:
    if not path.is_file():
        return []
    try:
        return [json.loads(line) for line in path.read_bytes().splitlines() if line.strip()]
    except ValueError as error:
        raise ArtefactError(
            f"not valid JSON lines ({error})", where=str(path), fix="run the stage again"
        ) from None


def _input_hashes(run: Path) -> dict[str, str]:
    """SHA-256 of the input files by name; stages.py keeps them as {path: [bytes, time, hash]}."""
    known = _json(run / "inputs.json") or {}
    shared = Counter(Path(path).name for path in known)
    return {
        Path(path).name if shared[Path(path).name] == 1 else path: str(entry[-1])
        for path, entry in sorted(known.items())
    }


def _stores(folder: Path) -> dict[str, Record]:
    """Facts of the token stores by split; whatever JSON file of theirs counts tokens."""
    found = {}
    for split in ("train", "valid"):
        for path in sorted((folder / split).glob("*.json")):
            facts = files.read_json(path)
            if path.name != files.MANIFEST and isinstance(facts, dict) and "tokens" in facts:
                found[split] = facts
    return found


def title(settings: Recipe, variant: str) -> str:
    """A variant's name for people; the only one of a recipe need not be told from others."""
    return variant if settings.variants else "pre-trained"


def _variants(settings: Recipe, folder: Path, names: list[str]) -> list[Variant]:
    found = []
    for name in settings.variant_names():
        facts = _json(folder / name / "pretrain.json") if f"pretrain/{name}" in names else None
        if facts is None:
            continue
        found.append(
            Variant(
                name=name,
                title=title(settings, name),
                model=settings.model_for(name),
                settings=settings.pretrain_for(name),
                facts=facts,
                sparsity=_json(folder / name / "sparsity.json") or {},
                config=_json(folder / name / "model" / "config.json") or {},
                log=_lines(folder / name / "log.jsonl"),
                validation=_lines(folder / name / "validation.jsonl"),
                timing=_lines(folder / name / "timing.jsonl"),
            )
        )
    return found


def _tasks(settings: Recipe, folder: Path, names: list[str]) -> dict[str, TaskFacts]:
    found = {}
    for name in settings.tasks:
        if f"tasks/{name}" not in names or not (folder / name / "task.toml").is_file():
            continue
        about = tomllib.loads((folder / name / "task.toml").read_text("utf-8"))
        if settings.tasks[name].derive:
            about["derive"] = settings.tasks[name].derive
        counts, classes = {}, {}
        for split in ("train", "dev", "test"):
            path = folder / name / f"{split}.jsonl"
            if path.is_file():
                counts[split], classes[split] = _count_labels(path)
        test = folder / name / "test.jsonl"
        found[name] = TaskFacts(
            name, about, counts, classes, files.sha256_file(test) if test.is_file() else ""
        )
    return found


def _count_labels(path: Path) -> tuple[int, Counter[str]]:
    """Number of examples and of each label in a split's file, read as a stream."""
    count, labels = 0, Counter[str]()
    with open(path, "rb") as stream:
        for line in stream:
            if line.strip():
                count += 1
                labels.update(_labels(json.loads(line)))
    return count, labels


def _labels(example: Record) -> Iterator[str]:
    if isinstance(example.get("label"), str):
        yield example["label"]
    yield from example.get("labels", ())
    yield from (tag[2:] for tag in example.get("tags", ()) if tag.startswith("B-"))
    yield from (span["label"] for span in example.get("spans", ()))


def _units(stages: Path, names: list[str]) -> list[Record]:
    """result.json of every fine-tuning unit and rival, without its history, with its costs.json."""
    paths = [*stages.glob("finetune/*/*/units/*/result.json"), *stages.glob("rivals/*/units/*/result.json")]
    found = []
    for path in sorted(paths):
        stage = path.parents[2].relative_to(stages).as_posix()
        if stage in names and not path.parent.name.endswith(".partial"):
            result = files.read_json(path)
            result.pop("history", None)
            found.append(result | {"costs": _json(path.parent / "costs.json") or {}})
    return found


def _costs(stages: Path, names: list[str]) -> list[Cost]:
    found = []
    for name in names:
        facts = _json(stages / name / "costs.json")
        if facts:
            peak = int(facts.get("peak_memory_bytes", 0))
            found.append(Cost(name, float(facts.get("seconds", 0.0)), peak))
    return found


def _artefacts(stages: Path, names: list[str]) -> list[Artefact]:
    found = []
    for name in names:
        manifest = files.read_json(stages / name / files.MANIFEST)
        size = sum(entry["bytes"] for entry in manifest["files"].values())
        found.append(
            Artefact(name, str(manifest.get("fingerprint", "")), files.identity(stages / name), size)
        )
    return found


def _selected(folder: Path) -> dict[str, int]:
    """Number of documents chosen for pre-training and for validation."""
    found = {}
    for split in ("train", "valid"):
        path = folder / f"{split}_ids.txt"
        if path.is_file():
            with open(path, "rb") as stream:
                found[split] = sum(1 for _ in stream)
    return found
