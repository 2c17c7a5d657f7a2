"""Scores as the report needs them: ordered, named, and compared by their intervals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from wellread.report.charts import DASHES, MARKERS, Style
from wellread.report.gather import RunFacts, title
from wellread.report.numbers import LOWER_IS_BETTER

RIVALS = {
    "tfidf": "TF-IDF + logistic regression",
    "static": "static vectors + logistic regression",
    "minilm-frozen": "MiniLM, frozen + logistic regression",
    "minilm-setfit": "MiniLM, SetFit",
    "cct": "CCT without pre-training",
    "majority": "majority class",
}
COLOURS = 6  # classes s0..s5 of the style sheet


@dataclass(frozen=True)
class Score:
    """The runs of one model on one task with one number of labels, over seeds.

    Attributes:
        start: "pretrained", "random" or "rival".
        labels: training examples used.
        seeds: all of them; ``failed`` counts those that are not better than the majority class, or broke.
        mean, std, low, high: over the seeds; None where nothing could be scored.
        interval: 95% bounds of the mean over other test sets of the kind, or None.
        metrics: every score by name.
        confusion: counts summed over the seeds.  calibration: as in summary.json.
    """

    task: str
    metric: str
    model: str
    start: str
    sparsity: float
    pattern: str
    labels: int
    seeds: tuple[int, ...]
    failed: int
    mean: float | None
    std: float | None
    low: float | None
    high: float | None
    interval: tuple[float, float] | None
    metrics: dict[str, float]
    confusion: list[list[int]] | None
    calibration: dict[str, Any] | None

    @property
    def key(self) -> tuple[str, str]:
        """What is one line in a plot: model and start."""
        return self.model, self.start

    @property
    def rival(self) -> bool:
        """Whether it is a cheap rival, not a model of ours."""
        return self.start == "rival"


def scores(facts: RunFacts) -> dict[str, list[Score]]:
    """All scores by task, ordered by labels, then model as in the recipe, no pre-training, rivals."""
    order = {name: place for place, name in enumerate(_models(facts))}
    starts = {"pretrained": 0, "random": 1, "rival": 2}

    def place(score: Score) -> tuple:
        cheap = list(RIVALS).index(score.model) if score.model in RIVALS else len(RIVALS)
        return (
            score.labels,
            starts.get(score.start, 3),
            order.get(score.model, len(order)),
            cheap,
            score.model,
        )

    found = {}
    for task, entry in facts.summary.items():
        groups = sorted((_score(task, entry["metric"], group) for group in entry["groups"]), key=place)
        # Budgets beyond the training set are the same labels under two names: the first is shown.
        found[task] = list({(one.key, one.labels): one for one in reversed(groups)}.values())[::-1]
    return found


def _score(task: str, metric: str, group: dict[str, Any]) -> Score:
    bounds = group.get("interval")
    return Score(
        task=task,
        metric=metric,
        model=group["model"],
        start=group["start"],
        sparsity=group.get("sparsity") or 0.0,
        pattern=group.get("pattern") or "",
        labels=int(group["labels"]),
        seeds=tuple(group.get("seeds") or ()),
        failed=int(group.get("failed") or 0),
        mean=group.get("mean"),
        std=group.get("std"),
        low=group.get("min"),
        high=group.get("max"),
        interval=(bounds[0], bounds[1]) if bounds and bounds[0] is not None else None,
        metrics=group.get("metrics") or {},
        confusion=group.get("confusion"),
        calibration=group.get("calibration"),
    )


def name(score: Score, facts: RunFacts) -> str:
    """A model's name in tables and legends."""
    if score.rival:
        return RIVALS.get(score.model, score.model)
    if score.start == "random":
        alone = score.model in ("random", facts.recipe.variant_names()[0])
        return "no pre-training" if alone else f"{score.model}, no pre-training"
    return score.model if facts.recipe.checkpoint(score.model) else title(facts.recipe, score.model)


def styles(facts: RunFacts, groups: Iterable[Score]) -> dict[tuple[str, str], Style]:
    """One look per line for the whole page: the models' own colours, grey for rivals."""
    looks: dict[tuple[str, str], Style] = {}
    pretrained = [(name, "pretrained") for name in _models(facts)]
    others = sorted({one.key for one in groups if one.start == "random"})
    for place, key in enumerate([*pretrained, *others]):
        marker, dash = MARKERS[place % len(MARKERS)], DASHES[place // COLOURS % len(DASHES)]
        looks[key] = Style(f"s{place % COLOURS}", marker, dash)
    cheap = sorted({one.key for one in groups if one.rival}, key=lambda key: (key[0] == "majority", key))
    for place, key in enumerate(cheap):
        looks[key] = Style("rival", MARKERS[(place + 2) % len(MARKERS)], DASHES[1 + place % 3])
    return looks


def _models(facts: RunFacts) -> list[str]:
    """Variants, then checkpoints made elsewhere."""
    return [*facts.recipe.variant_names(), *(one.name for one in facts.recipe.checkpoints)]


def amounts(groups: list[Score]) -> list[int]:
    """The numbers of labels that were tried, smallest first."""
    return sorted({one.labels for one in groups})


def at(groups: list[Score], labels: int) -> list[Score]:
    """The scores with one number of labels."""
    return [one for one in groups if one.labels == labels]


def better(metric: str, left: float, right: float) -> bool:
    """Whether ``left`` is the better value of the metric."""
    return left < right if metric in LOWER_IS_BETTER else left > right


def compared(left: Score, right: Score) -> int | None:
    """1 or -1: the intervals are apart, ``left`` is better or worse; 0: they are not; None: one is absent."""
    if left.interval is None or right.interval is None or left.mean is None or right.mean is None:
        return None
    if left.interval[0] <= right.interval[1] and right.interval[0] <= left.interval[1]:
        return 0
    return 1 if better(left.metric, left.mean, right.mean) else -1


def ranks(groups: list[Score]) -> dict[tuple[str, str], str]:
    """With one number of labels: "best" is a clear winner, "tied" all that cannot be told from the best mean.

    What could not be scored has no rank, nor has a lone group, nor any group where intervals are absent.
    """
    scored = [one for one in groups if one.mean is not None]
    if len(scored) < 2 or any(one.interval is None for one in scored):
        return {}
    top = scored[0]
    for one in scored[1:]:
        if better(one.metric, one.mean or 0.0, top.mean or 0.0):
            top = one
    tied = [one for one in scored if one is not top and compared(top, one) == 0]
    marks = {one.key: "tied" for one in tied}
    return {top.key: "tied" if tied else "best", **marks}


def main_score(facts: RunFacts, groups: list[Score], labels: int, name: str | None = None) -> Score | None:
    """The score of the recipe's main model, or of the one named, from pre-training where there is one."""
    own = [one for one in at(groups, labels) if not one.rival and one.mean is not None]
    wanted = name or facts.recipe.variant_names()[0]
    if name is not None:
        own = [one for one in own if one.model == name]
    return next((one for one in own if one.key == (wanted, "pretrained")), own[0] if own else None)


def against(facts: RunFacts, groups: list[Score], labels: int) -> list[tuple[Score, int]]:
    """The main model's opponents with so many labels (not the majority class), each with its outcome.

    Those that cannot be compared, as there are no intervals, are left out.
    """
    main = main_score(facts, groups, labels)
    if main is None:
        return []
    others = [one for one in at(groups, labels) if one.key != main.key and one.model != "majority"]
    outcomes = [(one, compared(main, one)) for one in others]
    return [(one, outcome) for one, outcome in outcomes if outcome is not None]
