"""Whole steps of pre-training, as ``wellread run`` takes them: packed dense against packed sparse."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from wellread.bench import measure
from wellread.bench.data import SEED, Data
from wellread.bench.measure import Call, Record, Timing, alternate, as_baseline, compared, record
from wellread.bench.options import Options
from wellread.precision import Precision, fast_bfloat16
from wellread.pretrain.parts import deterministic
from wellread.pretrain.state import Done
from wellread.pretrain.step import take_step
from wellread.pretrain.trainer import Trainer, make_trainer
from wellread.settings import ModelSettings, PretrainSettings, SparsitySettings
from wellread.sparsity.patterns import Pattern


class Variant(NamedTuple):
    """What is trained: pattern (None: dense) and level of sparsity, and the type of matrix products."""

    pattern: Pattern | None
    level: float
    precision: Precision = "fp32"


DENSE = Variant(None, 0.0)
VARIANTS = (
    Variant("unstructured", 0.75),
    Variant("block8", 0.75),
    Variant("block16", 0.75),
    Variant("block16", 0.875),
)
# Where the processor is not made for bfloat16, these take several times as long.
NARROW = (Variant(None, 0.0, "bf16"), Variant("block16", 0.75, "bf16"))
WARMUP = 1
SCHEDULED = 100_000  # steps of the learning rate's schedule, never reached


def bench(options: Options, data: Data, threads: int, advance: Callable[[], None]) -> list[Record]:
    """Every variant against the dense step in float32; the two of a pair get the same batch."""
    model = options.model(options.shape)
    dense, _ = packed_step(data, model, DENSE)
    made = {variant: packed_step(data, model, variant) for variant in variants()}
    pairs = alternate(
        dense,
        {variant: call for variant, (call, _) in made.items()},
        rounds=options.rounds["steps"],
        warmup=WARMUP,
        advance=advance,
    )
    common = {"shape": shape_name(options.shape), "against": "packed dense step", "note": data.note}
    figures = common | described(DENSE, 0.0) | as_baseline(pairs, "step")
    found = [record("steps", "step", "step", threads, **figures)]
    for variant, (_, zeros) in made.items():
        figures = common | described(variant, zeros) | compared(pairs[variant], "step")
        found.append(record("steps", "step", "step", threads, **figures))
    return found


def calls(options: Options) -> int:
    """How often ``advance`` will be called."""
    return len(variants()) * (WARMUP + options.rounds["steps"])


def variants() -> tuple[Variant, ...]:
    """What is worth timing on this processor."""
    return VARIANTS + (NARROW if fast_bfloat16("cpu") else ())


def packed_step(
    data: Data, model: ModelSettings, variant: Variant, *, recompute: bool = False
) -> tuple[Call, float]:
    """A call that takes the next step on the batch of a number, and the model's share of zeros.

    Making the batch counts, as it does in a run.
    """
    settings = pretrain_settings(data.packing.batch_tokens, variant)
    settings = settings.model_copy(update={"recompute": recompute})
    trainer = make_trainer(model, settings, data.tokenizer, SCHEDULED, SEED)
    return next_step(trainer, data), trainer.sparsity


def next_step(trainer: Trainer, data: Data) -> Call:
    """A call that takes the step of a number, the making of its batch included."""
    done = Done()

    def call(number: int) -> dict[str, Timing]:
        flops = done.accounted_flops
        with deterministic():
            began = measure.clock()
            batch = data.packing.batch(number)
            take_step(trainer, batch, data.packing.epoch(number), done)
            seconds = measure.clock() - began
        return {"step": Timing(seconds, batch.tokens, done.accounted_flops - flops)}

    return call


def pretrain_settings(batch_tokens: int, variant: Variant) -> PretrainSettings:
    """The defaults of a recipe, with the variant's sparsity."""
    pattern = {"pattern": variant.pattern} if variant.pattern else {}
    sparsity = SparsitySettings(level=variant.level, **pattern)
    return PretrainSettings(batch_tokens=batch_tokens, precision=variant.precision, sparsity=sparsity)


def described(variant: Variant, zeros: float) -> dict[str, object]:
    """The variant as it stands in records."""
    narrow = "" if variant.precision == "fp32" else f", {variant.precision}"
    return {"pattern": (variant.pattern or "dense") + narrow, "sparsity": variant.level, "zeros": zeros}


def shape_name(shape: tuple[int, int]) -> str:
    """(6, 384) as 6x384."""
    return f"{shape[0]}x{shape[1]}"
