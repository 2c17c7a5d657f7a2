"""Plain sentences computed from the numbers of a run: the verdict at the top, and how it was built."""

from __future__ import annotations

from dataclasses import dataclass

from wellread.report import numbers, results
from wellread.report.gather import RunFacts, Variant
from wellread.report.results import Score

OUTCOME = {1: "above", 0: "not separable from", -1: "below"}
LAYOUTS = {"modernbert": "ModernBERT", "bert": "BERT", "llama": "Llama", "gpt2": "GPT-2"}
PATTERNS = {"unstructured": "unstructured", "block8": "8×8 blocks", "block16": "16×16 blocks"}
DYNAMIC = {"set": "SET", "rigl": "RigL"}


@dataclass(frozen=True)
class TaskVerdict:
    """The main model on one task with the most labels: its score, and each opponent with the outcome."""

    task: str
    metric: str
    labels: int
    name: str
    score: str
    interval: str
    opponents: list[tuple[str, str, str, int]]  # name, score, interval, outcome


def built(facts: RunFacts) -> str:
    """What was built, on what, in how long: two or three sentences."""
    main = facts.main
    sentences = []
    if main is None:
        sentences.append("This run holds no pre-trained model.")
    else:
        others = [variant.title for variant in facts.variants[1:]]
        named = f"{main.title}, {describe(main)}" if others else describe(main)
        beside = f", and beside it {numbers.listing(others)}" if others else ""
        if main.facts.get("tokens"):
            sentences.append(f"This run pre-trained {named}{beside}.")
            sentences.append(_reading(facts, main))
        else:
            sentences.append(f"This run took {named}, pre-trained elsewhere, as it is ({main.model.start}).")
    seconds = sum(cost.seconds for cost in facts.costs)
    if seconds:
        where = machine(facts)
        sentences.append(
            f"All stages together took {numbers.duration(seconds)}{f' on {where}' if where else ''}."
        )
    return " ".join(sentences)


def describe(variant: Variant) -> str:
    """A model in a noun phrase: size, layout, sparsity."""
    facts = variant.facts
    size = numbers.short(facts.get("parameters", 0))
    kind = "decoder" if variant.model.causal else "encoder"
    text = f"a {LAYOUTS.get(variant.model.layout, variant.model.layout)}-layout {kind} of {size} parameters"
    if variant.sparse:
        pattern = PATTERNS.get(facts.get("pattern", ""), facts.get("pattern", ""))
        text += (
            f" with {share(variant.zeros)} of its attention and feed-forward weights held at zero meanwhile"
        )
        text += f" ({pattern})"
    return text


def share(zeros: float) -> str:
    """0.75 as 75%, 0.8449 as 84.5%."""
    return numbers.percent(zeros, 0 if round(1000 * zeros) % 10 == 0 else 1)


def _reading(facts: RunFacts, main: Variant) -> str:
    corpus = facts.corpus or {}
    pieces = [f"It read {numbers.short(main.facts.get('tokens', 0))} tokens"]
    documents = facts.documents.get("train") or corpus.get("kept")
    if documents:
        pieces.append(f"from {numbers.plural(int(documents), 'document')}")
    if main.timing:
        pieces.append(f"in {numbers.duration(main.timing[-1]['seconds'])} of training")
    return " ".join(pieces) + "."


def machine(facts: RunFacts) -> str:
    """The machine in a few words, as far as run.json tells."""
    known = facts.run.get("machine")
    if not isinstance(known, dict):
        return known if isinstance(known, str) else ""
    cores = known.get("cores") or known.get("cpu_count") or known.get("threads")
    words = [f"{cores} CPU {'core' if cores == 1 else 'cores'}"] if cores else []
    accelerator = known.get("gpu") or known.get("accelerator")
    if accelerator and isinstance(accelerator, str):
        words.append(accelerator)
    return " and ".join(words)


def task_verdicts(facts: RunFacts) -> list[TaskVerdict]:
    """One line per task, with the largest label budget."""
    found = []
    for task, groups in results.scores(facts).items():
        if not groups:
            continue
        labels = results.amounts(groups)[-1]
        main = results.main_score(facts, groups, labels)
        if main is None:
            continue
        opponents = [
            (
                results.name(one, facts),
                numbers.score(one.mean, one.metric),
                numbers.interval(one.interval, one.metric),
                outcome,
            )
            for one, outcome in results.against(facts, groups, labels)
        ]
        found.append(
            TaskVerdict(
                task=task,
                metric=numbers.metric_name(main.metric),
                labels=main.labels,
                name=results.name(main, facts),
                score=numbers.score(main.mean, main.metric),
                interval=numbers.interval(main.interval, main.metric),
                opponents=opponents,
            )
        )
    return found


def tallies(facts: RunFacts) -> list[str]:
    """How often the main model is above, level with or below each opponent, over tasks and budgets."""
    outcomes: dict[str, list[int]] = {}
    for groups in results.scores(facts).values():
        for labels in results.amounts(groups):
            for one, outcome in results.against(facts, groups, labels):
                outcomes.setdefault(results.name(one, facts), []).append(outcome)
    return [_tally(opponent, found) for opponent, found in outcomes.items()]


def _tally(opponent: str, outcomes: list[int]) -> str:
    wins, even, losses = (outcomes.count(kind) for kind in (1, 0, -1))
    parts = []
    if wins:
        parts.append(f"better in {wins}")
    if even:
        parts.append(f"not separable in {even}")
    if losses:
        parts.append(f"worse in {losses}")
    pairs = numbers.plural(len(outcomes), "comparison")
    return f"Against {opponent}: {numbers.listing(parts)} of {pairs}."


def score_text(score: Score) -> str:
    """84.1 [83.0, 85.2]."""
    return (
        f"{numbers.score(score.mean, score.metric)} {numbers.interval(score.interval, score.metric)}".strip()
    )


def flops_ratio(variant: Variant) -> float | None:
    """Dense over accounted FLOPs of pre-training."""
    counted = variant.facts.get("flops") or {}
    return counted["dense"] / counted["accounted"] if counted.get("accounted") else None


def speed(variant: Variant) -> float | None:
    """Training tokens per second, over the whole pre-training."""
    if not variant.timing or not variant.timing[-1]["seconds"]:
        return None
    return variant.facts.get("tokens", 0) / variant.timing[-1]["seconds"]
