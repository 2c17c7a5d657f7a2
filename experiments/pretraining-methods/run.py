"""Compare methods of pre-training at equal FLOPs and at equal seconds; resumable, README.md says how.

    python experiments/pretraining-methods/run.py --out WORK

Every arm is calibrated beside the plain one, tries its rates in pilots with a seed of their own, and is run
with the best of them and the seeds 0, 1, ...; then all models are measured.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
from typing import Any

import arms as declared
import kept
import measures
import page
import runs
import torch
from arms import PLAIN, Arm
from runs import NotRunError, Study

from wellread import files, recipe
from wellread.guard import guarded
from wellread.pretrain.trial import Trial
from wellread.progress import say
from wellread.settings import MESH

HERE = Path(__file__).parent
KEPT = "runs.jsonl"  # in the folder of results, beside the plots


def main() -> None:
    given = arguments()
    base = recipe.load(given.recipe)
    torch.set_num_threads(base.threads or 1)
    tokens = given.tokens or base.pretrain.tokens
    if tokens is None:
        raise SystemExit("the recipe needs pretrain.tokens, or give --tokens")
    step = base.pretrain.batch_tokens
    tokens = max(1, round(tokens / step)) * step  # what it really reads, on which the others' budgets stand
    study = Study(
        *(base, declared.load(given.arms_file), given.out, tokens),
        *(given.rates, given.calibration_steps, given.rounds, given.known),
    )
    names = list(dict.fromkeys([PLAIN, *(given.arms or study.arms.arms)]))
    chosen = [study.arms.arm(name) for name in names]
    for arm in chosen:  # wrong settings are refused before anything runs
        runs_checked(study, arm)
    runs.prepare(study, given.recipe, given.terms)
    if given.results:
        path = given.results / base.name / KEPT
        say(f"{kept.restore(study, path)} runs and calibrations in {path}")
    if given.estimate:
        print(estimate(study, chosen, given))
        return
    compare(study, chosen, given)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where everything is kept")
    parser.add_argument("--recipe", type=Path, default=HERE / "recipe.toml", help="corpus, model, tasks")
    parser.add_argument("--arms-file", type=Path, default=HERE / "arms.toml")
    parser.add_argument("--arms", nargs="+", help="some of them, or several joined as A+B; default all")
    parser.add_argument("--tokens", type=int, help="of the plain arm; default the recipe's")
    parser.add_argument("--match", nargs="+", choices=tuple(page.MATCHES), default=tuple(page.MATCHES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", type=int, default=3, help="how many rates a pilot tries")
    parser.add_argument("--rate", type=float, help="of the plain arm and all with its rate_key; no pilots")
    parser.add_argument("--share-rate", action="store_true", help="no pilots but of `rates` in the arms")
    parser.add_argument("--scales", type=float, nargs="*", default=(0.5, 2.0), help="other budgets of plain")
    parser.add_argument("--measures", nargs="*", choices=tuple(measures.PARTS), default=tuple(measures.PARTS))
    parser.add_argument("--labels", type=int, default=100, help="training examples of each task")
    parser.add_argument("--terms", default=MESH, help="list of terms: mesh, or a file")
    parser.add_argument("--rounds", type=int, default=3, help="of a calibration")
    parser.add_argument("--calibration-steps", type=int, default=80)
    parser.add_argument("--results", type=Path, help="folder of results to go on from and to add to")
    parser.add_argument("--known", action="store_true", help="run nothing; write the page of what there is")
    parser.add_argument("--estimate", action="store_true", help="calibrate, say how long it would take")
    return parser.parse_args()


def runs_checked(study: Study, arm: Arm) -> None:
    """Refuse an arm whose settings are impossible, or whose losses could not be compared."""
    places = {name: Path(name) for name in arm.needs}
    model, _ = declared.settings(study.recipe, arm, study.tokens, arm.rates[0], places)
    if model.max_length != study.recipe.model.max_length or model.causal != study.recipe.model.causal:
        raise SystemExit(f"{arm.name}: max_length and kind of model must be the recipe's, or losses differ")


def compare(study: Study, chosen: list[Arm], given: argparse.Namespace) -> None:
    """All pilots, runs and measurements; the tables are written anew after each run."""
    plans, rates, diverged = planned(study, chosen, given)
    rows: list[dict[str, Any]] = []
    scaled: list[dict[str, Any]] = []
    for seed in range(given.seeds):
        for arm in chosen:
            for tokens in dict.fromkeys(plans.get(arm.name, {}).values()):
                with contextlib.suppress(NotRunError):
                    made = runs.run(study, arm, tokens, rates[arm.name], seed)
                    if made and not study.known and unmeasured(made, given, seed):
                        runs.run(study, arm, tokens, rates[arm.name], seed, weights=True)
                    if made is None:
                        diverged.append(f"{arm.name}: {tokens:,} tokens, seed {seed}")
                        continue
                    matches = [match for match, count in plans[arm.name].items() if count == tokens]
                    rows.append(row(study, arm, made, rates[arm.name], matches, seed, given))
                    if not study.known:
                        report(study, rows, scaled, diverged, given.results)
        for scale in given.scales:
            tokens = round(study.tokens * scale / study.batch) * study.batch
            with contextlib.suppress(NotRunError):
                made = runs.run(study, study.arms.arm(PLAIN), tokens, rates[PLAIN], seed)
                if made:
                    scaled.append({"scale": scale, "seed": seed, "loss": made.loss})
    print(report(study, rows, scaled, diverged, given.results))


def planned(
    study: Study, chosen: list[Arm], given: argparse.Namespace
) -> tuple[dict[str, dict[str, int]], dict[str, float], list[str]]:
    """Tokens by what is equal and the best rate, by arm; and what diverged in its pilots."""
    plans: dict[str, dict[str, int]] = {}
    rates: dict[str, float] = {}
    diverged: list[str] = []
    for arm in chosen:
        with contextlib.suppress(NotRunError):
            plan = runs.budgets(study, arm)
            if arm.name == PLAIN and given.rate:
                rate: float | None = given.rate
            else:
                rate = rates.get(PLAIN) if shared(arm, given) else runs.tuned(study, arm, plan["flops"])
            if rate is None:
                diverged.append(f"{arm.name}: all pilots")
                continue
            plans[arm.name], rates[arm.name] = {match: plan[match] for match in given.match}, rate
    return plans, rates, diverged


def shared(arm: Arm, given: argparse.Namespace) -> bool:
    """Whether the arm has the plain arm's learning rate without pilots of its own."""
    if arm.name == PLAIN:
        return False
    if given.rate:
        return arm.rate_key == declared.load(given.arms_file).arms[PLAIN].rate_key
    return given.share_rate and not arm.own_rates


def row(
    study: Study,
    arm: Arm,
    made: Trial,
    rate: float,
    matches: list[str],
    seed: int,
    given: argparse.Namespace,
) -> dict[str, Any]:
    """A line of results.jsonl."""
    before = runs.sources(study, arm, seed).values()
    found = {
        "arm": arm.name,
        "page": arm.page,
        "match": matches,
        "seed": seed,
        "rate": rate,
        "shared_rate": shared(arm, given),
        "tokens": made.tokens,
        "flops": made.flops,
        "source_flops": sum(one.flops for one in before),
        "seconds": made.seconds,
        "source_seconds": sum(one.seconds for one in before),
        "loss": made.loss,
        "labels": given.labels,
    }
    missing = unmeasured(made, given, seed) if study.known else []
    for part in given.measures:
        if part in missing:
            continue
        scores, _ = measures.measure(study, made.folder, part, given.labels, seed)
        found[part] = scores["whole"] if part == "terms" else scores
        found |= {"term_tokens": scores["tokens"], "term_count": scores["count"]} if part == "terms" else {}
    return found


def unmeasured(made: Trial, given: argparse.Namespace, seed: int) -> list[str]:
    """The measures that are asked for and missing; a kept run has no weights to take them from."""
    return [part for part in given.measures if not measures.known(made.folder, part, given.labels, seed)]


def report(
    study: Study,
    rows: list[dict[str, Any]],
    scaled: list[dict[str, Any]],
    diverged: list[str],
    results: Path | None,
) -> str:
    """Write results.jsonl, results.md and the plots; with ``results`` for the project's documents as well."""
    with runs.alone(study, "report"):
        lines = "".join(json.dumps(one) + "\n" for one in [*rows, *scaled])
        files.write_bytes(study.out / "results.jsonl", lines.encode())
        text = page.write(rows, scaled, diverged, study.arms, study.out)
    if results:
        kept.save(study, results / study.recipe.name / KEPT)
    if results and study.known:
        page.publish(text, study.out, results, study.recipe.name)
    return text


def estimate(study: Study, chosen: list[Arm], given: argparse.Namespace) -> str:
    """Hours that the whole comparison would take, from calibrations and one measurement of a model."""
    plain = study.arms.arm(PLAIN)
    size = study.steps * study.batch
    made = runs.run(study, plain, size, None, runs.TUNING_SEED)
    if made is None:
        raise SystemExit("the plain arm diverged at once: lower its rates")
    pace = made.seconds / made.tokens
    each = sum(measures.measure(study, made.folder, part, given.labels, 0)[1] for part in given.measures)
    total, lines = 0.0, []
    needed: set[str] = set()
    for arm in chosen:
        plan = runs.budgets(study, arm)
        kinds = {plan[match] for match in given.match}
        cost = runs.costs(study, arm)
        rates = 0 if shared(arm, given) or (arm.name == PLAIN and given.rate) else study.rates
        pilots = rates * study.arms.pilot_share * plan["flops"]
        pretraining = pace * cost.seconds * (given.seeds * sum(kinds) + pilots)
        measuring = each * given.seeds * len(kinds)
        total += pretraining + measuring
        needed |= arm.needs - {runs.TERMS}
        lines.append(
            f"{arm.name:16} FLOPs/token {cost.flops:5.2f}x  seconds/token {cost.seconds:5.2f}x  "
            f"{pretraining / 60:6.1f} min pre-training, {measuring / 60:6.1f} min measuring"
        )
    spent = [pace * study.tokens * given.seeds * scale for scale in given.scales]
    spent += [
        pace
        * runs.costs(study, study.arms.sources[name]).seconds
        * runs.source_tokens(study, study.arms.sources[name])
        * (given.seeds + 1)
        for name in needed
    ]
    total += sum(spent)
    say(f"a measurement of one model takes {each:.0f} s")
    return "\n".join([*lines, f"in all {total / 3600:.1f} hours for {len(chosen)} arms"])


if __name__ == "__main__":
    guarded(main)
