"""Our packed steps against the ``Trainer`` of transformers, in alternation.

The Trainer runs its own loop untouched: ``train()`` with its data loader, collator, clipping, fused AdamW
and schedule.  A callback stops its clock at the end of each step, takes one of ours, and starts its clock
again; so a Trainer's step is everything between two ends of steps, the collation of a batch included, as the
making of the batch is in ours.

It is set up as its documentation recommends: ``DataCollatorForLanguageModeling`` with the same mask rate,
padding to the longest sequence of a batch, ``adamw_torch_fused``, no logging, saving or evaluation.  Model
and sequences are the same as ours, the first weights too; a batch has as many sequences as make the same
number of real tokens on average.  Sampling is ``random`` (the default), and in a second run
``group_by_length``, which spares padding and is no longer a random order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    DataCollatorForLanguageModeling,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from wellread import rng
from wellread.bench import measure
from wellread.bench.data import SEED, Data
from wellread.bench.measure import Call, Pairs, Record, Timing, as_baseline, compared, record
from wellread.bench.options import Options
from wellread.bench.steps import DENSE, Variant, described, packed_step, pretrain_settings, shape_name
from wellread.models import build
from wellread.settings import ModelSettings
from wellread.sparsity.flops import training_flops

VARIANTS: tuple[Variant, ...] = (DENSE, Variant("block16", 0.75))
# Of train_sampling_strategy, to the name of the baseline.
BASELINES = {"random": "padded Trainer", "group_by_length": "padded Trainer, grouped by length"}
WARMUP = 1


def bench(
    options: Options, data: Data, threads: int, scratch: Path, advance: Callable[[], None]
) -> list[Record]:
    """Packed dense and sparse steps against the Trainer, once for each way of sampling."""
    model = options.model(options.shape)
    made = {variant: packed_step(data, model, variant) for variant in VARIANTS}
    candidates = {variant: call for variant, (call, _) in made.items()}
    found = []
    for sampling, baseline in BASELINES.items():
        run = PaddedRun(data, model, candidates, options.rounds["trainer"], advance)
        run.train(sampling, threads, scratch)
        common = {"shape": shape_name(options.shape), "against": baseline, "note": data.note}
        figures = common | described(DENSE, 0.0) | as_baseline(run.pairs, "step")
        figures["padding"] = run.counter.padding
        found.append(record("trainer", baseline, "step", threads, **figures))
        for variant, (_, zeros) in made.items():
            figures = common | described(variant, zeros) | compared(run.pairs[variant], "step")
            found.append(record("trainer", "packed step", "step", threads, **figures))
    return found


def calls(options: Options) -> int:
    """How often ``advance`` will be called."""
    return len(BASELINES) * len(VARIANTS) * (WARMUP + options.rounds["trainer"])


@dataclass
class Counter:
    """The stock collator, and what it was given: the lengths of each batch, and how far it padded them."""

    collate: Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]]
    lengths: list[list[int]] = field(default_factory=list)
    places: list[int] = field(default_factory=list)

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Collate as ever."""
        batch = self.collate(rows)
        self.lengths.append(batch["attention_mask"].sum(1).tolist())
        self.places.append(batch["attention_mask"].numel())
        return batch

    @property
    def padding(self) -> float:
        """Share of padding in all batches."""
        return 1.0 - sum(map(sum, self.lengths)) / sum(self.places)


class PaddedRun(TrainerCallback):
    """A Trainer's run with one of our steps after each of its own.

    Args:
        data: the sequences.
        model: the architecture.
        candidates: our steps, taken in turn.
        rounds: counted steps after which each candidate is called once.
        advance: called after each pair.

    Attributes:
        pairs: (Trainer's step, our step) of each candidate.
        counter: the collator.
    """

    def __init__(
        self,
        data: Data,
        model: ModelSettings,
        candidates: dict[Variant, Call],
        rounds: int,
        advance: Callable[[], None],
    ) -> None:
        self._data, self._model, self._advance = data, model, advance
        self._candidates = list(candidates.items())
        self._rounds = rounds
        self._settings = pretrain_settings(data.packing.batch_tokens, DENSE)
        self.pairs: dict[Variant, Pairs] = {variant: [] for variant in candidates}
        self.counter = Counter(collator(data.tokenizer, self._settings.mask_rate))
        self._began = 0.0

    def train(self, sampling: str, threads: int, scratch: Path) -> None:
        """Run it through."""
        size = batch_sequences(self._data)
        counted, before = self._rounds * len(self._candidates), WARMUP * len(self._candidates)
        arguments = TrainingArguments(
            output_dir=str(scratch / "trainer"),
            per_device_train_batch_size=size,
            num_train_epochs=1,
            optim="adamw_torch_fused",
            train_sampling_strategy=sampling,
            use_cpu=True,
            seed=SEED,
            report_to="none",
            logging_strategy="no",
            save_strategy="no",
            eval_strategy="no",
            disable_tqdm=True,
        )
        trainer = _Sampled(
            counted,
            before,
            model=stock_model(self._data, self._model),
            args=arguments,
            data_collator=self.counter,
            train_dataset=rows(self._data),
            processing_class=self._data.tokenizer,
            callbacks=[self],
        )
        trainer.remove_callback(PrinterCallback)  # it prints on standard output
        torch.set_num_threads(threads)
        trainer.train()

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start the Trainer's clock."""
        self._began = measure.clock()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Stop the Trainer's clock, take a step of ours, start it again."""
        seconds = measure.clock() - self._began
        number, turn = divmod(state.global_step - 1, len(self._candidates))
        variant, call = self._candidates[turn]
        lengths = self.counter.lengths[state.global_step - 1]
        vocab, rate = len(self._data.tokenizer), self._settings.mask_rate
        flops = training_flops(self._model, vocab, lengths, 0.0, rate)["dense"]
        ours = call(number)
        if number >= WARMUP:
            self.pairs[variant].append(({"step": Timing(seconds, sum(lengths), flops)}, ours))
        self._advance()
        self._began = measure.clock()


class _Sampled(Trainer):
    """A Trainer that takes, of its own sampler's batches of an epoch, a few evenly spread ones.

    Grouping by length sorts 50 batches at a time, the longest first: the first few would be no fair sample.
    """

    def __init__(self, counted: int, before: int, **arguments: Any) -> None:
        self._counted, self._before = counted, before
        super().__init__(**arguments)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        stock: Any = super()._get_train_sampler(train_dataset)
        return spread(stock, self.args.train_batch_size, self._counted, self._before)


def spread(order: Iterable[int], size: int, counted: int, before: int) -> list[int]:
    """Samples of ``before`` + ``counted`` batches of an epoch; the counted ones are evenly spread over it."""
    samples = list(order)
    whole = max(1, len(samples) // size)
    places = np.arange(counted) * whole // counted
    chosen = [*np.resize(places, before), *places]
    return [sample for place in chosen for sample in samples[place * size : (place + 1) * size]]


def stock_model(data: Data, model: ModelSettings) -> PreTrainedModel:
    """The model of transformers as it is, with the first weights that our steps begin with."""
    return build.build(model, data.tokenizer, "mlm", rng.derive(SEED, "weights"))


def collator(tokenizer: PreTrainedTokenizerBase, mask_rate: float) -> Any:
    """The stock collator of masked language models, its other settings left alone."""
    return DataCollatorForLanguageModeling(tokenizer, mlm_probability=mask_rate)


def rows(data: Data) -> list[dict[str, list[int]]]:
    """The sequences as the stock script for masked language models stores them."""
    special = set(data.tokenizer.all_special_ids)
    return [
        {
            "input_ids": sample,
            "attention_mask": [1] * len(sample),
            "special_tokens_mask": [int(token in special) for token in sample],
        }
        for sample in data.samples()
    ]


def batch_sequences(data: Data) -> int:
    """Sequences in a padded batch, for as many real tokens as our step has."""
    packing = data.packing
    return max(1, round(packing.mean_tokens_per_step * packing.n_samples / packing.tokens_per_epoch))
