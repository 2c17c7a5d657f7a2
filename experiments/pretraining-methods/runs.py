"""What is trained: sources, calibrations, pilots and the runs themselves, each in a folder of its own."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import arms as declared
import budget
from arms import PLAIN, Arm, Arms

import wellread
from wellread import files
from wellread.errors import UserError
from wellread.evaluate import terms
from wellread.objectives.units import lexicon
from wellread.pretrain.trial import Trial, read, trial
from wellread.progress import say
from wellread.recipe import Recipe
from wellread.settings import MESH

TUNING_SEED = 100  # of calibrations and pilots; the comparison uses 0, 1, 2, ...
TERMS = "terms"  # what "@terms" stands for


class NotRunError(Exception):
    """What is asked for has not been run, and is not to be."""


@dataclass(frozen=True)
class Study:
    """What everything here shares.

    Attributes:
        recipe: corpus, model, tasks.
        arms: all of arms.toml.
        out: where everything is kept.
        tokens: that the plain arm reads.
        rates: how many rates a pilot tries.
        steps, rounds: of a calibration.
        known: whether nothing is to be run; what has not been raises :class:`NotRunError`.
    """

    recipe: Recipe
    arms: Arms
    out: Path
    tokens: int
    rates: int
    steps: int
    rounds: int
    known: bool = False

    @property
    def prepared(self) -> Path:
        """Corpus, tasks, tokenizer and token store."""
        return self.out / "prepared" / "stages"

    @property
    def batch(self) -> int:
        """Tokens of a step."""
        return self.recipe.pretrain.batch_tokens


def prepare(study: Study, path: Path, listed: str = MESH) -> None:
    """Make the token store and the tasks, and divide the list of terms.

    Args:
        study: what is compared.
        path: of the recipe.
        listed: "mesh", or a text file with one term a line.
    """
    wellread.run(str(path), out=study.out / "prepared", until="tokens")
    (study.out / "terms").mkdir(exist_ok=True)
    for half, found in zip(("masked", "asked"), terms.divide(lexicon.read_terms(listed)), strict=True):
        files.write_bytes(study.out / "terms" / f"{half}.txt", ("\n".join(found) + "\n").encode())


def sources(study: Study, arm: Arm, seed: int, weights: bool = False) -> dict[str, Trial]:
    """What the arm starts from or is taught by, trained with this seed."""
    found = {}
    for name in sorted(arm.needs - {TERMS}):
        source = study.arms.sources[name]
        made = run(study, source, source_tokens(study, source), None, seed, weights)
        if made is None:
            raise UserError("it diverged", where=f"sources.{name}", fix="lower its learning rate")
        found[name] = made
    return found


def source_tokens(study: Study, source: Arm) -> int:
    """Tokens that a source reads, in whole steps."""
    return max(1, round(study.tokens * source.share / study.batch)) * study.batch


def run(
    study: Study, arm: Arm, tokens: int, rate: float | None, seed: int, weights: bool = False
) -> Trial | None:
    """One run, made unless it is there; None where it diverged.

    Args:
        study: what is compared.
        arm: what differs.
        tokens: to read.
        rate: learning rate; None leaves the recipe's or the arm's.
        seed: of weights, masks and order.
        weights: whether its weights are wanted; kept results (kept.py) have none, and it is then made again.
    """
    folder = study.out / "runs" / f"{arm.name}-{key(study, arm, tokens, rate, seed)}"
    return trained(study, arm, tokens, rate, seed, folder, weights)


def trained(
    study: Study,
    arm: Arm,
    tokens: int,
    rate: float | None,
    seed: int,
    folder: Path,
    weights: bool = False,
) -> Trial | None:
    """The same, into a folder that is given."""
    if (folder / "pretrain.json").exists() and ((folder / "model").is_dir() or not weights):
        return read(folder)
    if (folder / "failed.json").exists():
        return None
    if study.known:
        raise NotRunError(folder.name)
    places = {name: made.folder / "model" for name, made in sources(study, arm, seed, weights=True).items()}
    places[TERMS] = study.out / "terms" / "masked.txt"
    model, pretrain = declared.settings(study.recipe, arm, tokens, rate, places)
    with alone(study, folder.name):
        return trial(model, pretrain, study.prepared, folder, seed)


@contextlib.contextmanager
def alone(study: Study, name: str) -> Iterator[None]:
    """Wait until no other process, of the same study with other arms, does what is named."""
    locks = study.out / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with open(locks / name, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def key(study: Study, arm: Arm, tokens: int, rate: float | None, seed: int) -> str:
    """Names all that decides a run, but not where it lies."""
    symbols = {name: Path(f"@{name}") for name in (*study.arms.sources, TERMS)}
    model, pretrain = declared.settings(study.recipe, arm, tokens, rate, symbols)
    store = files.sha256_file(study.prepared / "tokens" / "train" / "store.json")
    before = [
        key(study, source, source_tokens(study, source), None, seed)
        for name in sorted(arm.needs - {TERMS})
        for source in [study.arms.sources[name]]
    ]
    unused = {"checkpoint_seconds": True, "recompute": True} | pretrain.idle()
    facts = [
        model.model_dump(mode="json", exclude=model.idle()),
        pretrain.model_dump(mode="json", exclude=unused),
        seed,
        store,
    ]
    return files.sha256_bytes(files.canonical_json([*facts, before]))[:12]


def calibrated(study: Study, arm: Arm) -> dict[str, Any]:
    """FLOPs a token, and seconds a token beside the plain arm's, which run in turn; measured once.

    Returns:
        {"flops", "plain_flops", "pairs": [[arm, plain] seconds a token]}.
    """
    size = study.steps * study.batch
    name = f"{arm.name}-{key(study, arm, size, None, TUNING_SEED)}-{study.rounds}"
    path = study.out / "calibration" / f"{name}.json"
    if path.exists():
        return files.read_json(path)
    if study.known:
        raise NotRunError(name)
    with alone(study, path.name):
        return files.read_json(path) if path.exists() else _calibrate(study, arm, path)


def _calibrate(study: Study, arm: Arm, path: Path) -> dict[str, Any]:
    plain, size = study.arms.arm(PLAIN), study.steps * study.batch
    say(f"calibrating {arm.name}")
    pairs, found = [], {}
    for _ in range(study.rounds):
        for one in (arm, plain):
            folder = path.with_suffix("")
            shutil.rmtree(folder, ignore_errors=True)
            made = trained(study, one, size, None, TUNING_SEED, folder)
            if made is None:
                raise UserError("it diverged at once", where=f"arms.{one.name}", fix="lower its rates")
            found[one.name] = made.flops / made.tokens, _pace(folder)
            shutil.rmtree(folder)
        pairs.append([found[arm.name][1], found[PLAIN][1]])
    facts = {"flops": found[arm.name][0], "plain_flops": found[PLAIN][0], "pairs": pairs}
    files.write_json(path, facts)
    return facts


def _pace(folder: Path) -> float:
    """Seconds a token after the first step, which warms up."""
    times = [json.loads(line)["seconds"] for line in (folder / "timing.jsonl").read_text().splitlines()]
    read = [json.loads(line)["tokens"] for line in (folder / "log.jsonl").read_text().splitlines()]
    return (times[-1] - times[0]) / (read[-1] - read[0])


def costs(study: Study, arm: Arm) -> budget.Cost:
    """What a token of the arm costs beside one of the plain arm."""
    if arm.name == PLAIN:
        return budget.Cost()
    facts = calibrated(study, arm)
    return budget.cost(facts["flops"], facts["plain_flops"], facts["pairs"])


def budgets(study: Study, arm: Arm) -> dict[str, int]:
    """Tokens of the arm at equal "flops" and equal "seconds"; what it starts from is paid for as well."""
    needed = [study.arms.sources[name] for name in sorted(arm.needs - {TERMS})]
    if len(needed) > 1:
        raise UserError("an arm has one source at most", where=f"arms.{arm.name}", fix="compare them apart")
    source = costs(study, needed[0]) if needed else budget.Cost()
    read = source_tokens(study, needed[0]) if needed else 0
    return budget.budgets(study.tokens, costs(study, arm), source, read, study.batch, arm.name)


def tuned(study: Study, arm: Arm, tokens: int) -> float | None:
    """The rate with the lowest validation loss in a pilot; None if every pilot diverged."""
    short = max(20, round(tokens * study.arms.pilot_share / study.batch)) * study.batch
    found = []
    for rate in arm.rates[: study.rates]:
        made = run(study, arm, short, rate, TUNING_SEED)
        if made:
            found.append((made.loss, rate))
    return min(found)[1] if found else None
