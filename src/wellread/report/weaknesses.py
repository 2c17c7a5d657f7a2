"""What a reader should not conclude from a run: statements computed from its numbers, none of them written
by hand for a particular run.  A statement appears only where the facts call for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from wellread.report import numbers, results, words
from wellread.report.gather import RunFacts
from wellread.report.results import Score

FEW_SEEDS = 5
FEW_TEST_EXAMPLES = 500
TINY_CLASS_TEST, TINY_CLASS_TRAIN = 20, 50
HIGH_ECE = 0.05
LONG_GAP_YEARS = 3
TOKENS_PER_PARAMETER = 20  # compute-optimal for decoders, Hoffmann et al. 2022 (arXiv 2203.15556)


def weaknesses(facts: RunFacts) -> dict[str, list[str]]:
    """The statements that the facts of the run call for, by heading; headings without any are left out."""
    sources = {
        "Rivals": _rivals,
        "Evidence": _evidence,
        "Calibration": _calibration,
        "Labels": _labels,
        "Data": _data,
        "Leakage": _leakage,
        "Pre-training": _pretraining,
        "Speed": _speed,
    }
    found = {heading: list(source(facts)) for heading, source in sources.items()}
    return {heading: statements for heading, statements in found.items() if statements}


def _rivals(facts: RunFacts) -> Iterator[str]:
    """Where an opponent wins, and where nobody can be said to win."""
    for task, groups in results.scores(facts).items():
        lost: dict[str, list[str]] = {}
        even: dict[str, list[str]] = {}
        for labels in results.amounts(groups):
            main = results.main_score(facts, groups, labels)
            for one, outcome in results.against(facts, groups, labels):
                name = results.name(one, facts)
                if outcome < 0 and main:
                    scores = f"{words.score_text(one)} against {words.score_text(main)}"
                    lost.setdefault(name, []).append(f"with {numbers.plural(labels, 'label')} ({scores})")
                elif outcome == 0:
                    even.setdefault(name, []).append(numbers.whole(labels))
        for opponent, places in lost.items():
            yield f"{task}: {opponent} is better than the main model {numbers.listing(places)}."
        if even:
            places = [f"{name} (with {numbers.listing(amounts)} labels)" for name, amounts in even.items()]
            yield f"{task}: intervals overlap; the main model cannot be told from {numbers.listing(places)}."


def _evidence(facts: RunFacts) -> Iterator[str]:
    by_task = results.scores(facts)
    own = [one for groups in by_task.values() for one in groups if not one.rival]
    fewest = min((len(one.seeds) for one in own), default=FEW_SEEDS)
    if fewest < FEW_SEEDS:
        more = "" if all(len(one.seeds) == fewest for one in own) else " or more"
        yield (
            f"Scores rest on {numbers.plural(fewest, 'fine-tuning seed')}{more} and one pre-training each; "
            "how much another pre-training seed would change them was not measured. The intervals speak of "
            "other test examples, not of other training runs."
        )
    for task, groups in by_task.items():
        count = facts.summary[task].get("counts", {}).get("test", 0)
        widths = [one.interval[1] - one.interval[0] for one in groups if one.interval and not one.rival]
        if count < FEW_TEST_EXAMPLES:
            half = (
                f"; its intervals are up to ±{numbers.score(max(widths) / 2, groups[0].metric)} wide"
                if widths
                else ""
            )
            yield f"{task}: the test set has only {numbers.plural(count, 'example')}{half}."
        if groups and all(one.interval is None for one in groups):
            yield f"{task}: no confidence intervals were computed (evaluate.bootstrap is 0)."
        yield from _seeds_overlap(facts, task, groups)
    for one in own:
        if one.failed:
            yield _failed(one, facts)
    general = any("minilm" in one.model for groups in by_task.values() for one in groups)
    if by_task and not general and not facts.recipe.checkpoints:
        yield "No published pretrained encoder was run on these splits; the rivals are cheap baselines only."


def _seeds_overlap(facts: RunFacts, task: str, groups: list[Score]) -> Iterator[str]:
    """Where the main model is called better although some of its seeds are below some of the other's."""
    found: dict[str, list[str]] = {}
    for labels in results.amounts(groups):
        main = results.main_score(facts, groups, labels)
        for one, outcome in results.against(facts, groups, labels):
            if main is None or None in (main.low, main.high, one.low, one.high):
                continue
            apart = main.low > one.high or one.low > main.high  # type: ignore[operator]
            if outcome > 0 and not apart:
                found.setdefault(results.name(one, facts), []).append(numbers.whole(labels))
    if found:
        places = [f"{name} (with {numbers.listing(amounts)} labels)" for name, amounts in found.items()]
        yield f"{task}: above {numbers.listing(places)} on average, but single seeds overlap."


def _failed(one: Score, facts: RunFacts) -> str:
    return (
        f"{one.task}: {one.failed} of {numbers.plural(len(one.seeds), 'seed')} of {results.name(one, facts)} "
        f"failed with {numbers.plural(one.labels, 'label')} (not above the majority class on dev, or broken) "
        "and are in the mean."
    )


def _calibration(facts: RunFacts) -> Iterator[str]:
    for task, groups in results.scores(facts).items():
        main = results.main_score(facts, groups, results.amounts(groups)[-1]) if groups else None
        ece = (main.calibration or {}).get("ece") if main else None
        if ece is not None and ece > HIGH_ECE:
            yield (
                f"{task}: the main model's probabilities are off by {numbers.percent(ece)} on average "
                "(ECE); do not read them as frequencies."
            )


def _labels(facts: RunFacts) -> Iterator[str]:
    derived = [task.name for task in facts.tasks.values() if task.derived]
    if derived:
        yield (
            f"{numbers.listing(derived)}: the labels come from the corpus's own structure (section labels, "
            "MeSH, publication types), not from annotators; their noise is unknown and the scores cannot be "
            "compared with published benchmarks."
        )
    for task in facts.tasks.values():
        train, test = (task.classes.get(split, Counter()) for split in ("train", "test"))
        tiny = sorted(
            label
            for label in {*train, *test}
            if test[label] < TINY_CLASS_TEST or train[label] < TINY_CLASS_TRAIN
        )
        if tiny:
            shown = numbers.listing(tiny[:6] + ([f"{len(tiny) - 6} more"] if len(tiny) > 6 else []))
            yield (
                f"{task.name}: {numbers.plural(len(tiny), 'class', 'classes')} with fewer than "
                f"{TINY_CLASS_TEST} test or {TINY_CLASS_TRAIN} training examples ({shown}); "
                "scores for them say little."
            )


def _data(facts: RunFacts) -> Iterator[str]:
    corpus = facts.corpus or {}
    total = corpus.get("kept") or 0
    languages = corpus.get("languages") or {}
    if total and languages:
        language, count = max(languages.items(), key=lambda item: (item[1], item[0]))
        if language != "not stated" and count >= 0.95 * total:
            part = "All" if count == total else f"{numbers.percent(count / total)} of the"
            yield f"{part} documents are stated to be in one language ({language}); expect little of others."
    sources = facts.recipe.corpus.sources
    if total and len(sources) == 1:
        yield f"All text comes from one source ({sources[0]}); other kinds of text were not tested."
    years = sorted(int(year) for year in (corpus.get("years") or {}) if str(year).isdigit())
    if years:
        gaps = [f"{a + 1} to {b - 1}" for a, b in pairwise(years) if b - a > LONG_GAP_YEARS]
        missing = f" (none of {numbers.listing(gaps)})" if gaps else ""
        yield f"The documents are of {years[0]} to {years[-1]}{missing}; the model read nothing later."


def _leakage(facts: RunFacts) -> Iterator[str]:
    known = facts.leakage or {}
    overlapping = int(known.get("overlapping_documents") or 0)
    if known.get("allowed") and overlapping:
        yield (
            f"{numbers.plural(overlapping, 'document')} of the pre-training text overlap with dev or test "
            "examples and were kept on request (--allow-overlap); scores may be too high."
        )


def _pretraining(facts: RunFacts) -> Iterator[str]:
    main = facts.main
    if main is None:
        return
    tokens, weights = main.facts.get("tokens", 0), main.facts.get("parameters", 0)
    if main.model.start:
        yield (
            f"The model started from {main.model.start}; whether it had read texts of dev and test before "
            "is not known here."
        )
    if tokens and weights and tokens < TOKENS_PER_PARAMETER * weights:
        yield (
            f"Pre-training read {numbers.short(tokens)} tokens, {tokens / weights:.2g} per parameter; "
            "published models of a field read far more, and these scores do not show what the method reaches "
            "there."
        )
    longest = main.facts.get("max_length") or main.model.max_length
    yield f"Inputs longer than {numbers.whole(longest)} tokens are beyond what the model was trained on."
    truncated = [unit for unit in facts.units if unit.get("truncated")]
    if truncated:
        most = max(int(unit["truncated"]) for unit in truncated)
        tasks = sorted({unit["task"] for unit in truncated})
        yield f"{numbers.listing(tasks)}: up to {numbers.plural(most, 'input')} cut at the model's length."
    for variant in facts.variants:
        dead = sum(int(layer.get("dead_rows") or 0) for layer in variant.sparsity.get("layers", []))
        if dead:
            yield f"{variant.title}: {numbers.plural(dead, 'row')} of its sparse matrices without any weight."


def _speed(facts: RunFacts) -> Iterator[str]:
    dense = next((variant for variant in facts.variants if not variant.sparse), None)
    for variant in facts.variants:
        ratio = words.flops_ratio(variant)
        if not variant.sparse or ratio is None:
            continue
        text = f"{variant.title}: {ratio:.2f}× fewer accounted FLOPs than dense; that is a count, not a time."
        ours, theirs = words.speed(variant), words.speed(dense) if dense else None
        if ours and theirs and dense:
            text += (
                f" On the clock it trained at {ours / theirs:.2f}× the tokens per second of {dense.title} "
                "(one run each, not in alternation)."
            )
        else:
            text += " No dense twin was timed in this run, so no speed-up is claimed."
        yield text
