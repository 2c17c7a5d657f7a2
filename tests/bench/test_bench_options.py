"""Reading the options of the benchmark."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellread.bench import options
from wellread.errors import UserError


def test_lists_pairs_and_shapes():
    assert options.read_numbers("2,1,2", "--threads") == (2, 1)
    assert options.read_linears("384x1536,7x5") == ((384, 1536), (7, 5))
    assert options.read_shape("12x768", "--shape") == (12, 768)
    assert options.Options().model((12, 768)).heads == 12
    assert options.Options().model((1, 32)).heads == 1


@pytest.mark.parametrize("text", ["", "0", "1,", "a", "1.5", "-1", "1 2", "1x2"])
def test_bad_numbers(text):
    with pytest.raises(UserError, match="--threads"):
        options.read_threads(text, 4)


@pytest.mark.parametrize("text", ["", "6", "6x", "x6", "0x64", "6x0", "6x384x2", "6x200", "2x33", "6-384"])
def test_bad_shapes(text):
    with pytest.raises(UserError, match="--shape"):
        options.read_shape(text, "--shape")


@given(st.text())
def test_any_text_is_a_shape_that_a_model_can_have_or_refused(text):
    for given_text in (text, f"2x{text}"):
        try:
            shape = options.read_shape(given_text, "--shape")
        except UserError:
            continue
        assert options.Options().model(shape).hidden == shape[1]


def test_no_more_threads_than_cores():
    assert options.read_threads(None, 1) == (1,)
    assert options.read_threads(None, 8) == (1, 2)
    with pytest.raises(UserError, match="core"):
        options.read_threads("1,3", 2)


def test_parts(monkeypatch):
    monkeypatch.setattr(options.importlib.util, "find_spec", lambda name: name)
    assert options.read_parts(None, memory=False) == ("layers", "steps", "trainer")
    assert options.read_parts("steps", memory=True) == ("steps", "memory")
    assert options.read_parts("memory,memory", memory=True) == ("memory",)
    with pytest.raises(UserError, match="--only"):
        options.read_parts("layer", memory=False)


def test_without_accelerate_the_trainer_is_left_out_or_refused(monkeypatch):
    monkeypatch.setattr(options.importlib.util, "find_spec", lambda _: None)
    assert options.read_parts(None, memory=False) == ("layers", "steps")
    with pytest.raises(UserError, match=r"-e '\.\[bench\]'"):
        options.read_parts("trainer", memory=False)


def test_a_step_must_hold_the_longest_sequence():
    with pytest.raises(UserError, match="no room"):
        options.Options(max_length=512, batch_tokens=256)
    with pytest.raises(UserError, match="memory-tokens"):
        options.Options(max_length=512, memory_tokens=(1024, 511))
