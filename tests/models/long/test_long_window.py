"""Windows by blocks of queries equal one mask over all pairs, in values and gradients."""

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from wellread.models.long import flex
from wellread.models.long.window import local_rows, windowed
from wellread.models.runs import by_runs


def drawn(length, heads=2, count=2, size=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(count, heads, length, size, generator=generator, requires_grad=True) for _ in range(3)
    ]


def dense_mask(length, distance, leading):
    """(L, L) bool, which tokens see which: the definition."""
    place = torch.arange(length)
    near = (place[:, None] - place[None]).abs() <= distance
    return near | (place[:, None] < leading) | (place[None] < leading)


def assert_equal(length, distance, leading, tolerance=1e-5):
    found = {}
    for name in ("blocks", "dense"):
        q, k, v = drawn(length)
        if name == "blocks":
            output = windowed(q, k, v, distance, leading)
        else:
            mask = dense_mask(length, distance, leading)
            output = scaled_dot_product_attention(q, k, v, attn_mask=mask)
        weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(9))
        found[name] = [output, *torch.autograd.grad((output * weights).sum(), (q, k, v))]
    for got, wanted in zip(found["blocks"], found["dense"], strict=True):
        assert got.shape == wanted.shape
        assert (got - wanted).abs().max() <= tolerance


# Blocks have 64 queries here, and 100 where the distance is 50; whole up to 16 and 200 tokens.
@pytest.mark.parametrize("leading", [0, 1, 3])
@pytest.mark.parametrize(
    "length", [1, 2, 3, 4, 5, 6, 16, 17, 18, 19, 63, 64, 65, 66, 67, 68, 127, 128, 129, 130, 131, 193]
)
def test_small_window_at_the_borders_of_blocks(length, leading):
    assert_equal(length, 4, leading)


@pytest.mark.parametrize("leading", [0, 1, 2])
@pytest.mark.parametrize("length", [50, 51, 52, 99, 100, 101, 199, 200, 201, 202, 203, 301, 400])
def test_wide_window_at_the_borders_of_blocks(length, leading):
    assert_equal(length, 50, leading)


@hypothesis_settings(max_examples=40, deadline=None)
@given(length=st.integers(1, 300), distance=st.integers(1, 90), leading=st.integers(0, 6))
def test_any_length_window_and_number_of_global_tokens(length, distance, leading):
    assert_equal(length, distance, leading)


def test_a_window_as_long_as_the_text_is_full_attention():
    q, k, v = drawn(150)
    for leading in (0, 1):
        assert torch.allclose(
            windowed(q, k, v, 149, leading), scaled_dot_product_attention(q, k, v), atol=1e-6
        )
        assert not torch.allclose(windowed(q, k, v, 20, leading), scaled_dot_product_attention(q, k, v))


def test_no_block_sees_more_keys_than_its_window_and_the_global_tokens(monkeypatch):
    """Which is why time and memory grow with the length, not with its square."""
    from wellread.models.long import window

    seen = []

    def noting(query, key, value, **options):
        seen.append((query.shape[2], key.shape[2]))
        return scaled_dot_product_attention(query, key, value, **options)

    monkeypatch.setattr(window, "scaled_dot_product_attention", noting)
    pairs = []
    for length in (1000, 2000, 4000):
        seen.clear()
        local_rows(*drawn(length, count=1), 32, 1)
        assert max(keys for _, keys in seen) <= 64 + 2 * 32 + 1
        pairs.append(sum(queries * keys for queries, keys in seen))
    assert pairs[1] < 2.1 * pairs[0]
    assert pairs[2] < 2.1 * pairs[1]


def test_the_compiled_kernels_mask_is_the_same():
    """On CPU the kernel runs uncompiled, which shows that it is asked for the right thing."""
    lengths = [70, 1, 70, 33]
    q, k, v = (part.detach()[0].transpose(0, 1) for part in drawn(sum(lengths), count=1, size=16))
    for distance, leading in ((8, 0), (8, 1), (20, 2)):
        wanted = by_runs(lambda *run: windowed(*run, distance, leading), (q, k, v), lengths)  # noqa: B023
        assert torch.allclose(flex.windowed(q, k, v, lengths, distance, leading), wanted, atol=1e-5)
    assert not flex.usable(v, 0.0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_compiled_kernel_equals_the_blocks_on_a_gpu():
    lengths, outputs = [700, 1, 130, 2000], []
    for function in (
        lambda q, k, v: flex.windowed(q, k, v, lengths, 64, 1),
        lambda q, k, v: by_runs(lambda *run: windowed(*run, 64, 1), (q, k, v), lengths),
    ):
        parts = [part.detach()[0].transpose(0, 1) for part in drawn(sum(lengths), count=1, size=32)]
        parts = [part.to("cuda", torch.bfloat16).requires_grad_() for part in parts]
        output = function(*parts)
        outputs.append([output, *torch.autograd.grad(output.float().square().sum(), parts)])
    assert flex.usable(outputs[0][0], 0.0)
    for got, wanted in zip(*outputs, strict=True):
        assert (got - wanted).abs().max() <= 0.05 * wanted.abs().max()
