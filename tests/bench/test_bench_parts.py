"""What is measured: layers, steps, memory, the machine, and the data that they run on."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from wellread.bench import data, layers, machine, measure, memory, run, steps
from wellread.bench.machine import Machine
from wellread.bench.measure import KEYS
from wellread.errors import UserError
from wellread.sparsity.linear import SparseLinear


def check_schema(records):
    assert records
    for one in records:
        assert tuple(one) == KEYS
        if one["part"] == "machine":
            assert (one["flops_per_second"] or one["bytes_per_second"]) > 0
            continue
        assert one["name"] and one["pattern"] and one["pass"] and one["against"]
        assert 0 <= one["zeros"] < 1 and one["repetitions"] >= 1
        assert one["ratio"] > 0 and math.isfinite(one["ratio"])
        if one["spread"]:
            low, high = one["spread"]
            assert 0 < low <= high
            assert min(one["seconds"], one["tokens_per_second"], one["ratio_of_totals"]) > 0


def test_a_gpu_is_refused(tiny_options, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(UserError, match="CUDA_VISIBLE_DEVICES"):
        run.run(tiny_options)


def test_everything_in_one_run(tiny_options, tiny_data, monkeypatch):
    monkeypatch.setattr(data, "prepare", lambda *_: tiny_data)
    before = torch.get_num_threads()
    records = run.run(tiny_options)
    assert torch.get_num_threads() == before
    check_schema(records)
    parts = [one["part"] for one in records]
    assert list(dict.fromkeys(parts)) == ["machine", "layers", "steps", "memory"]
    patterns, levels, passes = 5, 2, 3
    assert parts.count("layers") == passes * (1 + patterns * levels)
    assert parts.count("steps") == 1 + len(steps.variants())
    for one in records:
        if one["part"] in ("layers", "steps"):
            assert one["share_of_peak"] > 0
        if one["part"] == "layers":
            assert one["share_of_roofline"] > 0


def test_layer_passes_add_up_and_count_living_weights_only(tiny_options):
    records = layers.bench(tiny_options, 1, lambda: None)
    by = {(one["pattern"], one["sparsity"], one["pass"]): one for one in records}
    for (pattern, level, name), one in by.items():
        weights = 32 * 64 * (1 - one["zeros"])
        factor = {"forward": 2, "backward": 4, "both": 6}[name]
        assert one["flops"] == pytest.approx(factor * 16 * weights)
        if name == "both":
            assert (
                one["bytes"]
                == by[pattern, level, "forward"]["bytes"] + by[pattern, level, "backward"]["bytes"]
            )
    assert by["block16", 0.75, "both"]["zeros"] == 0.5  # 32 inputs are two blocks; one must live
    assert by["block8", 0.75, "both"]["zeros"] == 0.75


def test_layer_clock_splits_forward_from_backward(monkeypatch, tiny_options):
    ticks = iter(range(0, 10**6))
    times = []

    def clock():
        times.append(next(ticks) ** 2)  # 0, 1, 4, 9 ...: each interval has its own length
        return times[-1]

    monkeypatch.setattr(measure, "clock", clock)
    layer = torch.nn.Linear(4, 4)
    call = layers._call(layer, torch.randn(3, 4, requires_grad=True), torch.randn(3, 4), layers.Work(1, 2, 3))
    found = call(0)
    assert (found["forward"].seconds, found["backward"].seconds, found["both"].seconds) == (1, 3, 4)
    assert (found["forward"].flops, found["backward"].flops, found["both"].flops) == (1, 2, 3)
    assert (found["forward"].bytes, found["backward"].bytes, found["both"].bytes) == (2, 3, 5)


def test_a_call_makes_all_three_gradients_anew():
    dense = torch.nn.Linear(32, 32)
    sparse = SparseLinear.from_linear(torch.nn.Linear(32, 32), torch.eye(32) > 0, "unstructured")
    for layer in (dense, sparse):
        x, gradient = torch.randn(5, 32, requires_grad=True), torch.randn(5, 32)
        call = layers._call(layer, x, gradient, layers.Work(1, 1, 1))
        call(0)
        first = [x.grad.clone(), *(parameter.grad.clone() for parameter in layer.parameters())]
        call(1)
        second = [x.grad, *(parameter.grad for parameter in layer.parameters())]
        assert len(first) == 3
        torch.testing.assert_close(second, first)


def test_both_steps_of_a_pair_read_the_same_batch(tiny_options, tiny_data):
    model = tiny_options.model(tiny_options.shape)
    dense, none = steps.packed_step(tiny_data, model, steps.DENSE)
    sparse, zeros = steps.packed_step(tiny_data, model, steps.Variant("block8", 0.75))
    dense(0)  # the baseline is called more often than a candidate
    first, second = dense(3)["step"], sparse(3)["step"]
    assert first.tokens == second.tokens == tiny_data.packing.batch(3).tokens
    assert none == 0 and zeros == pytest.approx(0.75, abs=0.02) and second.flops < first.flops


def test_made_up_lengths_are_those_of_abstracts(tiny_data):
    lengths = np.diff(tiny_data.packing.store.offsets)
    quantiles = np.interp((0.1, 0.5, 0.9), data.SHARES, data.LENGTHS)
    np.testing.assert_allclose(np.quantile(lengths, (0.1, 0.5, 0.9)), quantiles, rtol=0.15)
    assert lengths.mean() == pytest.approx(295, rel=0.1)
    samples = tiny_data.samples()
    assert sum(map(len, samples)) == tiny_data.packing.tokens_per_epoch
    assert max(map(len, samples)) <= 512
    assert len(tiny_data.tokenizer) == 300
    common = np.bincount(np.concatenate(samples), minlength=300)
    assert common[5] > common[50] > 0  # Zipf


def test_the_roofline_is_the_nearer_limit():
    limit = Machine(flops_per_second=100.0, bytes_per_second=10.0)
    assert limit.seconds(200.0, 5.0) == 2.0 and limit.seconds(200.0, 50.0) == 5.0
    one = measure.record("layers", "linear", "both", 1, flops=200.0, bytes=50.0, seconds=10.0)
    (found,) = machine.with_shares([one], {1: limit})
    assert found["share_of_peak"] == pytest.approx(0.2) and found["share_of_roofline"] == pytest.approx(0.5)


def test_looking_again_keeps_the_best():
    far = Machine(1e18, 1e18)
    assert machine.look(far) == far
    assert machine.look().flops_per_second > 0


def test_memory_is_that_of_a_fresh_process(tiny_options, tiny_data):
    before = memory.peak_bytes()
    block = np.ones(75_000_000)  # 600 MB here, which are no business of the process that is measured
    mine = memory.peak_bytes()
    assert before <= mine and mine > block.nbytes
    held = memory._measured(tiny_options, tiny_data, 512, ("block8", 0.75), False, 1)
    assert 0 < held["training"] < held["process"] < mine
    assert held["zeros"] == pytest.approx(0.75, abs=0.02)


def test_a_measuring_process_that_dies_is_an_error(tiny_options, tiny_data, tmp_path):
    nothing = dataclasses.replace(tiny_data, tokens=tmp_path)
    with pytest.raises(UserError, match="memory"):
        memory._measured(tiny_options, nothing, 512, ("block8", 0.75), False, 1)
