"""Codes without gaps."""

import pytest
import torch

from wellread.compress.quantise import bits as packing


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("count", [1, 7, 64, 1001])
def test_round_trip(bits, count):
    codes = torch.randint(
        0, 2**bits, (count,), dtype=torch.uint8, generator=torch.Generator().manual_seed(bits)
    )
    packed = packing.pack(codes, bits)
    assert len(packed) == packing.bytes_of(count, bits) == -(-count * bits // 8)
    assert torch.equal(packing.unpack(packed, bits, count), codes)


def test_the_first_of_two_codes_is_in_the_high_half():
    assert packing.pack(torch.tensor([0xA, 0x3, 0xF], dtype=torch.uint8), 4).tolist() == [0xA3, 0xF0]
