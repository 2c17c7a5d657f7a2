"""Zero-padding keeps the function at any ratio, and what is new can learn."""

import pytest
import torch
from grown import logits, make, shape

from wellread.models.grow.grow import grow


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("hidden", [48, 64, 112])
@pytest.mark.parametrize("layout", ["llama", "gpt2"])
def test_logits_are_equal_at_any_ratio(layout, hidden, dtype, error):
    small = make(layout, dtype)
    large = grow(small, shape(layout, hidden=hidden, ffn=hidden + 9, grow="zero-pad"), seed=1)
    before = logits(small)
    assert (logits(large) - before).abs().max() < error * before.abs().max()


@pytest.mark.parametrize("layout", ["llama", "gpt2"])
def test_an_output_layer_of_its_own_is_padded_too(layout):
    small = make(layout, torch.float64, tie_word_embeddings=False)
    large = grow(small, shape(layout, hidden=48, heads=3, grow="zero-pad"), seed=1)
    torch.testing.assert_close(logits(large), logits(small), rtol=0, atol=1e-12)


@pytest.mark.parametrize("layout", ["llama", "gpt2"])
def test_every_matrix_gets_gradients_in_its_new_part(layout):
    """Within two steps: what is random receives them once what is zero has moved."""
    large = grow(make(layout), shape(layout, hidden=48, heads=3, ffn=70, grow="zero-pad"), seed=1)
    optimizer = torch.optim.AdamW(large.parameters(), lr=1e-3)
    ids = torch.arange(24).view(2, 12) % 90 + 5
    for _ in range(2):
        optimizer.zero_grad()
        large(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    for name, parameter in large.named_parameters():
        if parameter.ndim == 2 and any(part.isdigit() for part in name.split(".")):
            last = parameter.grad[-8:], parameter.grad[:, -8:]
            assert all(float(part.abs().max()) > 0 for part in last), name
