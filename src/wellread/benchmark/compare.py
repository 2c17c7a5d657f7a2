"""Several models on one benchmark, side by side: scores, what they cost, and the one against the other."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wellread import files
from wellread.benchmark.suite import Suite, load
from wellread.errors import ArtefactError, DataError

BY_SEED = ("values", "costs")
Told = dict[str, Any]  # one task of a results file


@dataclass
class Model:
    """What is known of a model.

    Attributes:
        name: as in its results.
        tasks: by name, as in ``benchmark.json``, the seeds of several files together.
    """

    name: str
    tasks: dict[str, Told] = field(default_factory=dict)

    def scores(self, task: str) -> list[float]:
        """Test scores of its runs in percent, by seed."""
        values = self.tasks.get(task, {}).get("values", {})
        return [100 * values[seed] for seed in sorted(values, key=int)]

    def mean(self, tasks: Iterable[str]) -> float:
        """Mean over the tasks of the mean over their runs."""
        return statistics.fmean(statistics.fmean(self.scores(task)) for task in tasks)

    def cost(self, task: str, key: str) -> list[float]:
        """A cost of its runs, where it was measured."""
        costs = self.tasks.get(task, {}).get("costs", {})
        return [one[key] for one in costs.values() if key in one]


def read(paths: Sequence[Path]) -> tuple[Suite, list[Model]]:
    """The models of some results, in the order given; files of one model are put together.

    Args:
        paths: run folders of ``wellread benchmark``, or their ``benchmark.json``.

    Raises:
        UserError: a file is missing or is no such result, they are of different benchmarks, or two of them
            give one run of a model different scores.
    """
    names: set[str] = set()
    models: dict[str, Model] = {}
    for path in paths:
        file = path / "benchmark.json" if path.is_dir() else path
        try:
            told = files.read_json(file)
        except ArtefactError:  # whose advice is for files of ours
            told = None
        if not isinstance(told, dict) or not {"benchmark", "model", "tasks"} <= told.keys():
            raise DataError(
                "no result of a benchmark", where=str(file), fix="give run folders of `wellread benchmark`"
            )
        names.add(told["benchmark"])
        if len(names) > 1:
            raise DataError(f"results of different benchmarks: {', '.join(sorted(names))}", where=str(file))
        _add(models.setdefault(told["model"], Model(told["model"])), told["tasks"], file)
    return load(names.pop()), list(models.values())


def _add(model: Model, tasks: Mapping[str, Told], file: Path) -> None:
    for name, told in tasks.items():
        known = model.tasks.setdefault(name, {**told, "failed": 0, **{key: {} for key in BY_SEED}})
        if not known["values"]:  # an earlier file may have had no files of the task
            known |= {key: told.get(key, "") for key in ("metric", "missing", "partial")}
        for seed, value in told["values"].items():
            if known["values"].get(seed, value) != value:
                raise DataError(
                    f"{model.name}, {name}, seed {seed} has another score in an earlier file",
                    where=str(file),
                    fix="leave one of them out, or give the models different names (--name)",
                )
        new, failed = set(told["values"]) - set(known["values"]), int(told.get("failed") or 0)
        if new and failed and len(new) < len(told["values"]):
            raise DataError(
                f"{model.name}, {name}: an earlier file has some of the seeds, and which failed is not told",
                where=str(file),
                fix="give files with no seed in common",
            )
        known["failed"] += failed if new else 0
        for key in BY_SEED:
            known[key] |= told.get(key, {})


def shared(suite: Suite, models: Sequence[Model]) -> list[str]:
    """The tasks that all models have been run on."""
    return [task for task in suite.tasks if all(model.scores(task) for model in models)]


def to_markdown(suite: Suite, models: Sequence[Model]) -> str:
    """A row for each task, a column for each model and each published one; costs below."""
    common = shared(suite, models)
    rows = [["task", *(model.name for model in models), *suite.published]]
    for task in suite.tasks:
        if any(model.scores(task) for model in models):
            published = [_number(scores.get(task)) for scores in suite.published.values()]
            told = [model.tasks.get(task, {}) for model in models]
            name = f"{task} (partial)" if any(one.get("partial") for one in told) else task
            failed = [int(one.get("failed") or 0) for one in told]
            rows.append([name, *_row([model.scores(task) for model in models], failed), *published])
    blank = [""] * len(suite.published)
    whole = [task for task in common if not any(model.tasks[task].get("partial") for model in models)]
    if common:
        what = f"mean of {len(common)} tasks" + (" that all have" if len(common) < len(rows) - 1 else "")
        means = [_number(model.mean(common)) for model in models]
        rows.append([what, *means, *(_published(suite, common) if whole == common else blank)])
        if whole and whole != common:
            means = [_number(model.mean(whole)) for model in models]
            rows.append([f"mean of the {len(whole)} whole ones", *means, *_published(suite, whole)])
        for name, key, over, unit in COSTS:
            rows.append([name, *(_cost(model, common, key, over, unit) for model in models), *blank])
    head, *rest = ("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *rest])


# Name, key of costs.json, how the tasks are put together, factor.
COSTS: tuple[tuple[str, str, Callable[[list[float]], float], float], ...] = (
    ("seconds to train, all of these", "seconds", sum, 1.0),
    ("ms a text", "seconds_per_1000", statistics.fmean, 1.0),
    ("peak MB in training", "peak_memory_bytes", max, 1e-6),
    ("MB on disk", "size_bytes", max, 1e-6),
)


def _cost(
    model: Model, tasks: Sequence[str], key: str, over: Callable[[list[float]], float], unit: float
) -> str:
    found = [statistics.fmean(costs) for task in tasks if (costs := model.cost(task, key))]
    return _number(unit * over(found), 3) if len(found) == len(tasks) else ""


def _published(suite: Suite, tasks: Sequence[str]) -> list[str]:
    """Means of the published models, where they have all of the tasks."""
    return [
        _number(statistics.fmean(scores[task] for task in tasks))
        if all(task in scores for task in tasks)
        else ""
        for scores in suite.published.values()
    ]


def _row(scores: Sequence[list[float]], failed: Sequence[int]) -> list[str]:
    """Mean ± deviation (number of runs, and how many of them failed); the highest mean is bold."""
    best = max(statistics.fmean(one) for one in scores if one)
    cells = []
    for one, lost in zip(scores, failed, strict=True):
        if not one:
            cells.append("")
            continue
        mean = statistics.fmean(one)
        told = f"**{mean:.1f}**" if mean == best and len(scores) > 1 else f"{mean:.1f}"
        spread = f" ± {statistics.stdev(one):.1f}" if len(one) > 1 else ""
        cells.append(f"{told}{spread} ({len(one)}{f', {lost} failed' if lost else ''})")
    return cells


def _number(value: float | None, digits: int = 0) -> str:
    if value is None:
        return ""
    return f"{value:.1f}" if not digits or abs(value) >= 100 else f"{value:.{digits}g}"


def plot(suite: Suite, models: Sequence[Model], path: Path) -> list[str]:
    """Draw the mean score over the shared tasks against the time of a prediction.

    Returns:
        The models that are drawn; the others have no such time or no task in common.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    common = shared(suite, models)
    drawn = []
    figure, axes = pyplot.subplots(figsize=(6.4, 4.0))
    for model in models:
        costs = [model.cost(task, "seconds_per_1000") for task in common]
        if not common or not all(costs):
            continue
        x = statistics.fmean(statistics.fmean(cost) for cost in costs)
        axes.plot(x, model.mean(common), "o")
        place: dict[str, Any] = {
            "xytext": (0, 6),
            "textcoords": "offset points",
            "ha": "center",
            "fontsize": 8,
        }
        axes.annotate(model.name, (x, model.mean(common)), **place)
        drawn.append(model.name)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.margins(0.2)
    axes.set_xlabel("ms a text, one thread")
    axes.set_ylabel(f"mean score of {len(common)} tasks")
    axes.grid(visible=True, alpha=0.3)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)
    return drawn
