"""All rivals of a task: every label budget with every seed, each a committed unit."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wellread import files
from wellread.evaluate.metrics import Output, score
from wellread.evaluate.rivals import ON_ENCODER, majority, tfidf
from wellread.evaluate.rivals.fitted import Fitted
from wellread.meter import Meter
from wellread.progress import Progress, say
from wellread.serve.cost import seconds_per_1000
from wellread.tasks.subset import subset
from wellread.tasks.task import Example, Task

if TYPE_CHECKING:
    from wellread.evaluate.rivals.encoder import Encoder
    from wellread.evaluate.rivals.vectors import Vectors


@dataclass(frozen=True)
class Means:
    """What rivals stand on, loaded when one asks for it.

    Attributes:
        vectors_folder: of static word vectors.
        encoder_folder: of a stock sentence encoder.
    """

    vectors_folder: Path | None = None
    encoder_folder: Path | None = None

    @cached_property
    def vectors(self) -> Vectors:
        """Static word vectors."""
        from wellread.evaluate.rivals import vectors

        assert self.vectors_folder is not None
        return vectors.load(self.vectors_folder)

    @cached_property
    def encoder(self) -> Encoder:
        """The sentence encoder."""
        from wellread.evaluate.rivals.encoder import Encoder

        assert self.encoder_folder is not None
        return Encoder(self.encoder_folder)


def _static(task: Task, train: list[Example], means: Means, _: int) -> Fitted:
    from wellread.evaluate.rivals import static

    return static.fit(task, train, means.vectors)


def _frozen(task: Task, train: list[Example], means: Means, _: int) -> Fitted:
    from wellread.evaluate.rivals import encoder

    return encoder.fit(task, train, means.encoder)


def _setfit(task: Task, train: list[Example], means: Means, seed: int) -> Fitted:
    from wellread.evaluate.rivals import setfit

    return setfit.fit(task, train, means.encoder, seed)


def _cct(task: Task, train: list[Example], _: Means, seed: int) -> Fitted:
    from wellread.evaluate.rivals import compact

    return compact.fit(task, train, seed)


RIVALS = {
    "majority": lambda task, train, _means, _seed: majority.fit(task, train),
    "tfidf": lambda task, train, _means, _seed: tfidf.fit(task, train),
    "static": _static,
    "minilm-frozen": _frozen,
    "minilm-setfit": _setfit,
    "cct": _cct,
}
SEEDED = ("minilm-setfit", "cct")  # draws by the seed; of the others a seed only chooses the examples


def run_rivals(
    task: Task,
    names: Sequence[str],
    budgets: Sequence[int | str],
    seeds: Sequence[int],
    folder: Path,
    means: Means | None = None,
    quiet: bool = False,
) -> None:
    """Train the rivals for every label budget and seed, and commit each as ``folder/units/NAME-BUDGET-SEED``.

    Units that are already there are kept, so an interrupted call continues where it stopped.  A rival that
    is not defined for the kind of task is left out, and said so.
    """
    means = means or Means()
    # Without labels (budget 0) there is nothing that a rival could learn from.
    some = [budget for budget in budgets if budget != 0]
    units = [(name, budget, seed) for name in _suiting(task, names) for budget in some for seed in seeds]
    (folder / "units").mkdir(parents=True, exist_ok=True)
    done: tuple[Any, _Made | None] = (None, None)
    has_read = False
    with Progress(f"rivals {task.name}", len(units), "units", quiet=quiet) as progress:
        for name, budget, seed in units:
            final = folder / "units" / f"{name}-{budget}-{seed}"
            if files.read_manifest(final) is None:
                train = subset(task, budget, seed)
                wanted = (name, train, seed if name in SEEDED else None)
                if done[1] is None or wanted != done[0]:
                    if name == "minilm-frozen" and not has_read:
                        _read(task, some, seeds, means)
                        has_read = True
                    done = wanted, _make(task, name, train, means, seed)
                assert done[1] is not None
                told: dict[str, Any] = {
                    "task": task.name,
                    "model": name,
                    "start": "rival",
                    "budget": budget,
                    "seed": seed,
                }
                told |= {"labels": len(train), "steps": 0, "best_step": 0, "history": []}
                with files.new_folder(final) as partial:
                    write_unit(task, told | {"setting": done[1].setting}, done[1].outputs, partial)
                    if done[1].save and (budget, seed) == (some[-1], seeds[0]):
                        done[1].save(partial / "model")
                    files.write_json(partial / "costs.json", done[1].costs)
            progress.advance(note=final.name)


def _read(task: Task, budgets: Sequence[int | str], seeds: Sequence[int], means: Means) -> None:
    """Embed the examples of all units at once, whichever of them are left to do."""
    from wellread.evaluate.rivals import encoder

    wanted = {example.id for budget in budgets for seed in seeds for example in subset(task, budget, seed)}
    train = [example for example in task.splits["train"] if example.id in wanted]
    encoder.read(task, train, means.encoder)


@dataclass(frozen=True)
class _Made:
    setting: Any
    outputs: dict[str, Output]
    costs: dict[str, Any]
    save: Callable[[Path], None] | None


def _suiting(task: Task, names: Sequence[str]) -> list[str]:
    """The rivals that are defined for a task: SetFit is not for tags, nor for scores of single texts.

    A CCT pools whole sequences, so it is not for tags either.
    """
    paired = any(example.text_pair is not None for example in task.splits["train"][:1])
    unfit = {"minilm-setfit", "cct"} if task.kind == "tag" else set()
    if task.kind == "regress" and not paired:
        unfit = {"minilm-setfit"}
    left_out = [name for name in names if name in unfit]
    for name in left_out:
        say(f"{task.name}: {name} is not defined for this kind of task and is left out")
    return [name for name in names if name not in left_out]


def _make(task: Task, name: str, train: list[Example], means: Means, seed: int) -> _Made:
    import sklearn.feature_extraction.text
    import sklearn.linear_model  # noqa: F401  loaded here, its time and memory are not the first rival's

    encoder = means.encoder if name in ON_ENCODER else None
    saved = encoder.saved if encoder else 0.0
    with Meter() as fitting:
        fitted = RIVALS[name](task, train, means, seed)
    if encoder:
        saved = encoder.saved - saved
    outputs = {split: fitted.predict(task.splits[split]) for split in ("dev", "test")}
    costs = {
        "seconds": round(fitting.seconds + saved, 4),
        "seconds_per_1000": round(_seconds_per_1000(task, fitted, encoder), 4),
        "peak_memory_bytes": fitting.peak_bytes,
        "size_bytes": fitted.size_bytes,
    }
    return _Made(fitted.setting, outputs, costs, fitted.save)


def _seconds_per_1000(task: Task, fitted: Fitted, encoder: Encoder | None) -> float:
    if encoder is None:
        return seconds_per_1000(fitted.predict, task.splits["test"])
    from wellread.workers import torch_threads

    def predict(examples: Sequence[Example]) -> None:
        encoder.forget()
        fitted.predict(examples)

    known = encoder.forget()
    with torch_threads(1):
        seconds = seconds_per_1000(predict, task.splits["test"], on_gpu=encoder.model.device.type == "cuda")
    encoder.remember(known)
    return seconds


def write_unit(task: Task, unit: dict[str, Any], outputs: dict[str, Output], folder: Path) -> None:
    """Write result.json and the predictions of one unit.

    Args:
        task: the task.
        unit: the keys of result.json but ``dev``, ``test``, ``failed`` and ``failure``.
        outputs: predictions of "dev" and "test", as ``metrics.score`` takes them.
        folder: where.
    """
    result = {**unit, "failed": False, "failure": ""}
    for split, output in outputs.items():
        result[split] = score(task, split, output)
        write_output(task, split, output, folder)
    files.write_json(folder / "result.json", result)


def write_output(task: Task, split: str, output: Output, folder: Path) -> None:
    """Write predictions: ``SPLIT_scores.npy``, or ``SPLIT_tags.jsonl`` for tag."""
    if task.kind == "tag":
        lines = [
            json.dumps({"id": example.id, "tags": list(tags)}, ensure_ascii=False) + "\n"
            for example, tags in zip(task.splits[split], output, strict=True)
        ]
        files.write_bytes(folder / f"{split}_tags.jsonl", "".join(lines).encode())
    else:
        np.save(folder / f"{split}_scores.npy", np.asarray(output, dtype=np.float32), allow_pickle=False)
