"""The Python API: build a recipe, open what it left, predict with it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import time
import tomllib
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wellread import __version__, files, given, recipe
from wellread import stages as engine
from wellread.errors import ArtefactError, UserError, left_out
from wellread.pipeline.context import RANDOM, Context
from wellread.pipeline.order import stages
from wellread.pretrain import processes as workers
from wellread.progress import say
from wellread.workers import cores

if TYPE_CHECKING:
    from wellread.serve.predict import Predictor

# Copies of stages' files at the top of the run folder, where people look first.
OUTPUTS = {"report.html": "report", "model_card.md": "report", "metrics.json": "evaluate"}
CHECKSUMS = "SHA256SUMS"  # of the files at the top of the run folder, as `sha256sum -c` reads it
LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "scikit-learn", "lxml", "rensa")


def run(
    recipe_path: str | Path,
    *,
    out: str | Path | None = None,
    until: str | None = None,
    allow_overlap: bool = False,
    quiet: bool = False,
    processes: int | None = None,
    finetune: str | None = None,
    start: str | None = None,
) -> Run:
    """Build everything in a recipe that is not up to date, and continue what was interrupted.

    Args:
        recipe_path: a TOML recipe, or the name of one that comes along ("quickstart").
        out: the run folder; default ``runs/NAME``.
        until: last kind of stage to build (one of ``wellread.pipeline.order.KINDS``); default all.
        allow_overlap: pre-train on documents that stand in a task's dev or test set; the report says so.
        quiet: print no progress.
        processes: that share the pre-training; default 1, or as many as ``torchrun`` has started (each of
            them makes this call, and rank 0 does all the other work).
        finetune: named settings of fine-tuning ("stable", "standard"), whatever the recipe names; its copy in
            the run folder says so.
        start: a checkpoint or known model to begin with instead of pre-training one, as the copy says too.

    Returns:
        The run, for predictions and scores.

    Raises:
        UserError: bad recipe, bad data, no room, or a process died; what is finished stays, and the same
            call continues.
    """
    path = find_recipe(recipe_path)
    settings, text = _read(path, start, finetune)
    folder = Path(out) if out else Path("runs") / settings.name
    began = time.time()
    count = processes if processes is not None else workers.launched() or 1
    workers.check(count, settings.threads)
    if workers.helper():
        workers.help_out()
        return Run(folder)
    use_threads(settings.threads)
    context = Context(settings, path.parent, folder, allow_overlap, quiet, count)
    with workers.gathered(), engine.locked(folder):
        recorded = _record(text, settings, folder)
        outcome = engine.execute(stages(context, until), folder, quiet=quiet)
        if outcome.built:
            seconds = round(time.time() - began, 1)
            recorded |= {"seconds": seconds, "built": outcome.built, "processes": count}
            files.write_json(folder / "run.json", recorded)
        publish(folder)
    if not quiet:
        say(
            f"{len(outcome.built)} stage(s) built, {len(outcome.fresh)} up to date, "
            f"{time.time() - began:.0f} s: {folder}"
        )
    return Run(folder)


def open_run(folder: str | Path) -> Run:
    """Open a run folder that :func:`run` made.

    Raises:
        ArtefactError: there is no run in this folder.
    """
    if not (Path(folder) / engine.STAGES).is_dir():
        raise ArtefactError(
            "no run in this folder", where=str(folder), fix="give the folder that `wellread run` printed"
        )
    return Run(Path(folder))


def load(model: str | Path) -> tuple[Any, Any]:
    """A pre-trained model and its tokenizer, as plain `transformers` objects.

    Args:
        model: a name that comes along ("wellread-pubmed-mini") or is in the cache, a checkpoint folder, or a
            run folder.

    Returns:
        (model with its language-model head in evaluation mode, float32; fast tokenizer).

    Raises:
        ArtefactError: there is no such model, or it is damaged.
    """
    from wellread.models import build
    from wellread.tokens import tokenizer

    folder = given.checkpoint(Path(model))
    causal = build.load_config(folder).model_type in ("llama", "gpt2")
    return build.load(folder, "clm" if causal else "mlm").eval(), tokenizer.load(folder)


class Run:
    """What a recipe left: scores, models, predictions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._predictors: dict[Path, tuple[int, Predictor]] = {}

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @cached_property
    def recipe(self) -> recipe.Recipe:
        """The recipe that was run."""
        return recipe.load(self.folder / "recipe.toml")

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """Every score: task, split, model, start, sparsity, pattern, labels, seed, metric, value."""
        return files.read_json(engine.stage_folder(self.folder, "evaluate") / "metrics.json")

    @property
    def summary(self) -> dict[str, Any]:
        """Means, spreads and intervals by task."""
        return files.read_json(engine.stage_folder(self.folder, "evaluate") / "summary.json")

    @property
    def report(self) -> Path:
        """The report page."""
        return self.folder / "report.html"

    def model(self, task: str | None = None, variant: str | None = None) -> Path:
        """Folder of the fine-tuned model of a task, or of the pre-trained model.

        Args:
            task: name of a task; None for the pre-trained model.
            variant: which model; default the main one.

        Raises:
            UserError: the run has no such task or variant, or it has not been built.
        """
        variant = variant or self.recipe.variant_names()[0]
        others = tuple(one.name for one in self.recipe.checkpoints) if task else ()
        _one_of(variant, (*self.recipe.variant_names(), RANDOM, *others), "model")
        if task is None:
            name = f"pretrain/{variant}"
        else:
            _one_of(task, tuple(self.recipe.tasks), "task")
            name = f"finetune/{task}/{variant}"
        folder = engine.stage_folder(self.folder, name)
        if not (folder / "model").is_dir():
            raise ArtefactError("not built yet", where=str(folder), fix="`wellread run` the recipe first")
        return folder / "model"

    def predict(self, task: str, texts: Iterable[Any], variant: str | None = None) -> list[dict[str, Any]]:
        """Predict labels for texts.

        Args:
            task: name of a task of the run.
            texts: strings, pairs of strings, or (for tag tasks) lists of words.
            variant: which model; default the main one.

        Returns:
            One dictionary a text: "label" and "probability", "labels", "score" or "spans" by kind of task.
        """
        return list(self.stream(task, texts, variant))

    def stream(self, task: str, texts: Iterable[Any], variant: str | None = None) -> Iterator[dict[str, Any]]:
        """As :meth:`predict`, in bounded memory: up to 512 texts are read before the first answer."""
        yield from self.predictor(task, variant).predict(texts)

    def predictor(self, task: str, variant: str | None = None) -> Predictor:
        """The model of a task, loaded at the first call and kept until it is made anew."""
        from wellread.serve.predict import Predictor

        folder = self.model(task, variant)
        made = folder.stat().st_mtime_ns
        if self._predictors.get(folder, (None,))[0] != made:
            self._predictors[folder] = made, Predictor.load(folder)
        return self._predictors[folder][1]

    def compress(
        self, task: str, *, target: str = "auto", max_drop: float = 0.5, out: str | Path, quiet: bool = False
    ) -> dict[str, Any]:
        """The smallest and fastest form of a task's model that keeps its quality.

        Args:
            task: name of a task of the run.
            target: "int8", "4bit", "2bit-mixed", "binary", "pruned" or "auto".
            max_drop: points of the task's metric that may be lost on dev.
            out: folder to make, or to go on in; the model stands in its ``model``.
            quiet: print no progress.

        Returns:
            What compress.json in ``out`` holds: the forms that were tried, "chosen", scores on test.

        Raises:
            UserError: nothing passes, or the model cannot be compressed.
        """
        from wellread.compress import job

        given = job.of_run(self.folder, task, target=target, max_drop=max_drop, out=Path(out))
        return job.run(given, quiet=quiet)

    def verify(self) -> list[str]:
        """Every difference between the run's files and their manifests; empty when intact."""
        found = []
        manifests = sorted((self.folder / engine.STAGES).rglob(files.MANIFEST))
        for manifest in manifests:
            if ".partial" not in manifest.as_posix():
                found += files.problems(manifest.parent)
        if not manifests:
            found.append(f"{self.folder}: no committed stage")
        return found + _wrong_checksums(self.folder)


def use_threads(threads: int | None) -> None:
    """Set the CPU threads of every library that will be loaded; default all cores."""
    import torch

    count = threads or cores()
    torch.set_num_threads(count)
    os.environ["RAYON_NUM_THREADS"] = str(count)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


def recipes_folder() -> Path:
    """Where the recipes that come along lie: beside the sources."""
    return Path(__file__).parents[2] / "recipes"


def find_recipe(given: str | Path) -> Path:
    """A recipe by path, or by name among those that come along.

    Raises:
        ArtefactError: a name, and the installation has none.
    """
    path = Path(given)
    if not path.exists() and path.name == str(path) and not path.suffix and not recipes_folder().is_dir():
        raise left_out("recipes by name", str(recipes_folder()))
    named = recipes_folder() / f"{given}.toml"
    return named if not path.is_file() and named.exists() else path


def _read(path: Path, start: str | None, finetune: str | None) -> tuple[recipe.Recipe, bytes]:
    """The recipe and its text, with the start and the settings of fine-tuning that the call names."""
    settings, text = recipe.load(path), path.read_bytes()
    if start is not None:
        text = given.start_from(text, start, str(path))
        settings = recipe.parse(tomllib.loads(text.decode()), str(path))
    if finetune is not None:
        text = given.name_finetune(text, finetune, str(path))
        settings = recipe.parse(tomllib.loads(text.decode()), str(path))
    return settings, text


def _record(text: bytes, settings: recipe.Recipe, folder: Path) -> dict[str, Any]:
    """Put the recipe and run.json into the run folder; what a finished run recorded there stays."""
    try:
        files.write_bytes(folder / "recipe.toml", text)
        known = _known_run(folder)
        facts = provenance(folder / "recipe.toml", settings)
        if known is None or any(known.get(key) != facts[key] for key in facts if key != "began"):
            known = facts
            files.write_json(folder / "run.json", facts)
    except OSError as error:
        raise UserError(
            f"the run folder cannot be written ({error.strerror})",
            where=str(folder),
            fix="make room, or choose another folder with --out",
        ) from None
    return known


def _known_run(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads((folder / "run.json").read_bytes())
    except (OSError, ValueError):
        return None


def provenance(path: Path, settings: recipe.Recipe) -> dict[str, Any]:
    """Where a result comes from: recipe, code, libraries, machine, time."""
    return {"recipe": {"name": settings.name, "sha256": files.sha256_file(path)}, **surroundings()}


def surroundings() -> dict[str, Any]:
    """Code, libraries, machine and time of a run."""
    import psutil
    import torch

    return {
        "wellread": __version__,
        "commit": _commit(),
        "code": {
            name: engine.code_hash(name) for name in ("corpus", "tokens", "models", "pretrain", "finetune")
        },
        "python": platform.python_version(),
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "processor": processor(),
            "cores": cores(),
            "threads": torch.get_num_threads(),
            "memory_bytes": psutil.virtual_memory().total,
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def publish(folder: Path) -> None:
    """Put copies of the report, the card and the scores at the top of the run folder, and checksums.

    Those of a stage whose inputs have been made anew since are taken away: they are no longer the run's.
    """
    present = engine.current(folder)
    for name, stage in OUTPUTS.items():
        source = engine.stage_folder(folder, stage) / name
        if stage in present and source.exists():
            files.write_bytes(folder / name, source.read_bytes())
        else:
            (folder / name).unlink(missing_ok=True)
    top = [folder / name for name in (*OUTPUTS, "recipe.toml", "run.json")]
    lines = [f"{files.sha256_file(path)}  {path.name}\n" for path in top if path.exists()]
    files.write_bytes(folder / CHECKSUMS, "".join(lines).encode())


def _wrong_checksums(folder: Path) -> list[str]:
    sums = folder / CHECKSUMS
    if not sums.exists():
        return [f"{sums}: missing"]
    found = []
    for line in sums.read_text("utf-8", errors="replace").splitlines():
        expected, _, name = line.partition("  ")
        path = folder / name
        if not name or not path.is_file() or files.sha256_file(path) != expected:
            found.append(f"{path}: missing or changed (SHA-256 differs)")
    return found


def _one_of(name: str, known: tuple[str, ...], what: str) -> None:
    if name not in known:
        raise UserError(f"the run has no {what} {name!r}", fix=f"one of: {', '.join(known) or 'none'}")


def _commit() -> str | None:
    """The code's git commit, with "+changes" where files differ from it; None outside a checkout."""
    git = shutil.which("git")
    root = Path(__file__).parents[2]
    if not git or not (root / ".git").exists():
        return None
    head = subprocess.run([git, "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    changes = subprocess.run(
        [git, "status", "--porcelain", "src"], cwd=root, capture_output=True, text=True, check=False
    )
    return head.stdout.strip() + ("+changes" if changes.stdout.strip() else "") or None


def processor() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()
