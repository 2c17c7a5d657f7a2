"""The padded baseline: a real Trainer's run, in alternation with our steps."""

import pytest
import torch

pytest.importorskip("accelerate", reason="the Trainer needs accelerate")

from wellread.bench import data, measure, steps, trainer
from wellread.bench.measure import Timing
from wellread.pretrain.trainer import make_trainer


@pytest.fixture(scope="module")
def calls():
    return []


def ours(name, calls):
    def call(number):
        calls.append((name, number))
        return {"step": Timing(1.0, 10, 1.0)}

    return call


@pytest.fixture
def padded(tiny_options, tiny_data, tmp_path):
    """A run with two candidates, three counted rounds."""

    def run(sampling, calls):
        candidates = {variant: ours(variant[0], calls) for variant in trainer.VARIANTS}
        made = trainer.PaddedRun(tiny_data, tiny_options.model((1, 32)), candidates, 3, lambda: None)
        made.train(sampling, 1, tmp_path)
        return made

    return run


@pytest.mark.parametrize("sampling", trainer.BASELINES)
def test_a_step_of_ours_follows_each_of_the_trainer(padded, sampling, tiny_data):
    calls = []
    run = padded(sampling, calls)
    dense, sparse = (variant for variant in trainer.VARIANTS)
    rounds = 3 + trainer.WARMUP
    assert calls == [(variant[0], number) for number in range(rounds) for variant in (dense, sparse)]
    assert [len(run.pairs[variant]) for variant in (dense, sparse)] == [3, 3]
    assert len(run.counter.lengths) == 2 * rounds
    assert set(map(len, run.counter.lengths)) == {trainer.batch_sequences(tiny_data)}


def test_real_tokens_are_counted_and_padding_is_not(padded, tiny_data):
    run = padded("random", [])
    dense, sparse = trainer.VARIANTS
    timings = [
        first["step"] for pair in zip(run.pairs[dense], run.pairs[sparse], strict=True) for first, _ in pair
    ]
    counted = run.counter.lengths[2 * trainer.WARMUP :]
    assert [timing.tokens for timing in timings] == [sum(lengths) for lengths in counted]
    known = sorted(map(len, tiny_data.samples()))
    assert set(sum(counted, [])) <= set(known)
    assert 0 < run.counter.padding < 1
    places = [max(lengths) * len(lengths) for lengths in run.counter.lengths]
    assert run.counter.places == places  # padded to the longest of the batch, no further


def test_an_epoch_of_the_trainer_has_the_tokens_of_an_epoch_of_ours(tiny_data):
    rows = trainer.rows(tiny_data)
    assert sum(len(row["input_ids"]) for row in rows) == tiny_data.packing.tokens_per_epoch
    assert all(row["special_tokens_mask"] == [1] + [0] * (len(row["input_ids"]) - 2) + [1] for row in rows)
    mean = sum(len(row["input_ids"]) for row in rows) / len(rows)
    per_step = tiny_data.packing.mean_tokens_per_step
    assert abs(trainer.batch_sequences(tiny_data) * mean - per_step) <= mean / 2


def test_the_models_begin_with_the_same_weights_and_the_trainers_is_untouched(tiny_options, tiny_data):
    model = tiny_options.model((1, 32))
    stock = trainer.stock_model(tiny_data, model)
    settings = steps.pretrain_settings(1024, trainer.DENSE)
    packed = make_trainer(model, settings, tiny_data.tokenizer, 10, data.SEED).model
    torch.testing.assert_close(stock.state_dict(), packed.state_dict(), rtol=0, atol=0)
    assert stock.config._attn_implementation == "sdpa"
    homes = {type(module).__module__.split(".")[0] for module in stock.modules()}
    assert homes == {"torch", "transformers"}
    assert not [name for module in stock.modules() for name in vars(module) if name == "forward"]


def test_our_time_is_not_the_trainers(tiny_options, tiny_data, tmp_path, monkeypatch):
    now = [0.0]

    def clock():
        return now[0]

    def slow(_):
        now[0] += 1000.0
        return {"step": Timing(1000.0, 10, 1.0)}

    class Ticking(trainer.Counter):
        def __call__(self, rows):
            now[0] += 1.0  # each batch collated takes a second of the Trainer's time
            return super().__call__(rows)

    monkeypatch.setattr(measure, "clock", clock)
    monkeypatch.setattr(trainer, "Counter", Ticking)
    run = trainer.PaddedRun(tiny_data, tiny_options.model((1, 32)), {trainer.DENSE: slow}, 4, lambda: None)
    run.train("random", 1, tmp_path)
    seconds = [first["step"].seconds for first, _ in run.pairs[trainer.DENSE]]
    # The loader collates one batch ahead: none is left to collate in the last step.
    assert seconds == [1.0, 1.0, 1.0, 0.0]


def test_grouping_pads_less_than_random_order(tiny_data):
    lengths = list(map(len, tiny_data.samples()))
    from transformers.trainer_pt_utils import get_length_grouped_indices

    def padding(order):
        batches = [[lengths[i] for i in order[n : n + 4]] for n in range(0, len(order), 4)]
        return sum(4 * max(batch) - sum(batch) for batch in batches)

    random = trainer.spread(range(len(lengths)), 4, 40, 2)
    grouped = trainer.spread(get_length_grouped_indices(lengths, 4), 4, 40, 2)
    assert len(random) == len(grouped) == 42 * 4
    assert padding(grouped) < padding(random) / 2


def test_counted_batches_are_spread_over_the_whole_order():
    chosen = trainer.spread(range(100), size=5, counted=4, before=2)
    batches = [chosen[n : n + 5] for n in range(0, len(chosen), 5)]
    assert [batch[0] for batch in batches] == [0, 25, 0, 25, 50, 75]
    assert all(batch == list(range(batch[0], batch[0] + 5)) for batch in batches)
    assert len(trainer.spread(range(7), size=5, counted=6, before=1)) == 35  # a short epoch goes round


def test_the_records(tiny_options, tiny_data, tmp_path):
    found = trainer.bench(tiny_options, tiny_data, 1, tmp_path, lambda: None)
    assert [one["against"] for one in found] == [
        name for name in trainer.BASELINES.values() for _ in range(3)
    ]
    for one in found:
        assert one["part"] == "trainer" and one["ratio"] > 0 and one["tokens"] > 0
        assert (one["padding"] is not None) == (one["spread"] is None)
