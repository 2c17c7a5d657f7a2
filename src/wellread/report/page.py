"""report.html: one page that shows people what a run built, how good it is, and what it does not show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from wellread import files
from wellread.report import charts, data_tables, figures, inference, numbers, results, tables, template, words
from wellread.report.gather import RunFacts, gather
from wellread.report.weaknesses import weaknesses

HERE = Path(__file__).parent


def write(run: Path, folder: Path) -> None:
    """Write ``folder/report.html`` about the run folder ``run``.

    Raises:
        ArtefactError, RecipeError: as :func:`wellread.report.gather.gather`.
    """
    files.write_bytes(Path(folder) / "report.html", render(gather(run)).encode())


def render(facts: RunFacts) -> str:
    """The page; the same facts give the same bytes."""
    environment = template.environment(HERE)
    environment.filters.update(
        whole=numbers.whole,
        short=numbers.short,
        flops=numbers.flops,
        duration=numbers.duration,
        size=numbers.size,
        percent=numbers.percent,
        listing=numbers.listing,
    )
    environment.globals.update(meter=charts.meter, swatch=charts.swatch, plural=numbers.plural)
    environment.filters["code"] = _code
    return environment.get_template("page.html").render(style=template.style(), **context(facts))


def context(facts: RunFacts) -> dict[str, Any]:
    """Everything that the template shows."""
    by_task = results.scores(facts)
    looks = results.styles(facts, [one for groups in by_task.values() for one in groups])
    return {
        "facts": facts,
        "title": facts.recipe.name,
        "built": words.built(facts),
        "verdicts": words.task_verdicts(facts),
        "tallies": words.tallies(facts),
        "outcome": words.OUTCOME,
        "tiles": tables.tiles(facts),
        "models": tables.models(facts),
        "corpus": data_tables.corpus(facts),
        "fertility": data_tables.fertility(facts),
        "loss_figures": figures.loss_curves(facts),
        "variant_looks": figures.variant_styles(facts),
        "loss_table": tables.losses(facts),
        "sparsity": tables.sparsity(facts),
        "overview": tables.overview(facts, by_task),
        "cost_figure": inference.picture(facts, by_task, looks),
        "legend": tables.legend(facts, by_task, looks),
        "tasks": [_task(facts, task, groups, looks) for task, groups in by_task.items()],
        "weaknesses": weaknesses(facts),  # {heading: statements}
        "costs": tables.costs(facts),
        "provenance": tables.provenance(facts),
    }


def _code(text: str) -> Markup:
    """A sentence in which what stands between backticks is set as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _task(facts: RunFacts, task: str, groups: list, looks: dict) -> dict[str, Any]:
    """One task's part of the page."""
    entry = facts.summary[task]
    labels = results.amounts(groups)[-1] if groups else 0
    main = results.main_score(facts, groups, labels)
    about = facts.tasks[task].about if task in facts.tasks else {}
    return {
        "name": task,
        "anchor": f"task-{task}",
        "kind": entry.get("kind", ""),
        "metric": numbers.metric_name(entry["metric"]),
        "counts": entry.get("counts", {}),
        "origin": [text for text in (about.get("source"), about.get("licence")) if text],
        "classes": tables.classes(facts, task, entry.get("labels") or []),
        "table": tables.scores(facts, groups, looks),
        "failures": tables.failures(facts, task, groups),
        "curve": figures.learning_curve(facts, groups, looks),
        "confusion": figures.confusion(facts, main, entry.get("labels") or []),
        "reliability": figures.reliability(facts, groups, looks),
    }
