"""What a pre-trained model is worth: term recall, frozen probes and stable fine-tuning with few labels."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runs import Study, alone

from wellread import files
from wellread.errors import UserError
from wellread.evaluate import metrics, terms
from wellread.evaluate.rivals import encoder
from wellread.finetune import grid
from wellread.objectives.units import lexicon
from wellread.tasks.read import read_task
from wellread.tasks.subset import subset
from wellread.tokens.store import Store

PROBE_DRAWS = 3  # of the labelled examples, for the frozen probes


PARTS: dict[str, Callable[[Study, Path, int, int], dict[str, Any]]] = {
    "terms": lambda study, folder, _labels, _seed: recalled(study, folder / "model"),
    "probe": lambda study, folder, labels, _seed: probed(study, folder / "model", labels),
    "finetune": lambda study, folder, labels, seed: finetuned(study, folder, labels, seed),
}


def measure(study: Study, folder: Path, part: str, labels: int, seed: int) -> tuple[dict[str, Any], float]:
    """One kind of scores of the model of a run; measured once, kept beside it.

    Args:
        study: what is compared.
        folder: of the run.
        part: one of PARTS.
        labels: training examples of each task.
        seed: of fine-tuning, and of the examples that it draws.

    Returns:
        What was found, and the seconds that it took.
    """
    path = _path(folder, part, labels, seed)
    with alone(study, f"{folder.name}-{part}"):
        if not path.exists():
            began = time.perf_counter()
            found = PARTS[part](study, folder, labels, seed)
            files.write_json(path, {"found": found, "seconds": round(time.perf_counter() - began, 2)})
    kept = files.read_json(path)
    return kept["found"], kept["seconds"]


def known(folder: Path, part: str, labels: int, seed: int) -> bool:
    """Whether this has been measured."""
    return _path(folder, part, labels, seed).exists()


def _path(folder: Path, part: str, labels: int, seed: int) -> Path:
    return folder / f"{part}-{labels}-{seed}.json"


def recalled(study: Study, model: Path) -> dict[str, Any]:
    """Term recall@1 on the half of the list that no arm was given."""
    store = Store.open(study.prepared / "tokens" / "valid")
    asked = lexicon.read_terms(str(study.out / "terms" / "asked.txt"))
    with tempfile.TemporaryDirectory() as scratch:
        listed = lexicon.encode(asked, study.prepared / "tokenizer", Path(scratch))
    found = terms.find(store, listed, study.recipe.model.max_length)
    if not len(found.sample):
        raise UserError(
            "none of the terms asked for stands in the held-out text",
            where="--terms",
            fix="give another list, or raise corpus.validation",
        )
    return vars(terms.recall(model, store, found))


def probed(study: Study, model: Path, labels: int) -> dict[str, float]:
    """Logistic regression on frozen mean vectors, test scores, each the mean of PROBE_DRAWS draws."""
    opened, found = encoder.Encoder(model), {}
    for name in study.recipe.tasks:
        task = read_task(study.prepared / "tasks" / name, name)
        scores = []
        for draw in range(PROBE_DRAWS):
            fitted = encoder.fit(task, subset(task, labels, draw), opened)
            output = fitted.predict(task.splits["test"])
            scores.append(metrics.score(task, "test", output)[task.metric])
        found[name] = statistics.fmean(scores)
    return found


def finetuned(study: Study, folder: Path, labels: int, seed: int) -> dict[str, float]:
    """Fine-tuning as [finetune] says with one seed, test scores; the fine-tuned models are not kept."""
    found = {}
    for name in study.recipe.tasks:
        place = folder / "finetune" / name
        settings = study.recipe.finetune_for(name, "main").model_copy(update={"seeds": (seed,)})
        grid.run(
            grid.Job(
                study.prepared / "tasks" / name,
                folder / "model",
                study.prepared / "tokenizer",
                settings,
                (labels,),
                place,
                task_name=name,
                model_name="main",
                start_name="pretrained",
            ),
            threads=study.recipe.threads or 1,
            quiet=True,
        )
        [unit] = (place / "units").glob("*/result.json")
        result = files.read_json(unit)
        metric = read_task(study.prepared / "tasks" / name, name).metric
        found[name] = result["test"][metric]
        shutil.rmtree(place / "model", ignore_errors=True)
    shutil.rmtree(folder / "finetune", ignore_errors=True)
    return found
