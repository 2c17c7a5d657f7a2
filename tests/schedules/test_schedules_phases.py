"""Stages are shares of the tokens; those of length and of batch size are laid over each other."""

import pytest

from wellread.schedules.phases import Phase, phases
from wellread.settings import PretrainSettings


def test_without_stages_there_is_one():
    assert phases(PretrainSettings(batch_tokens=1024), 512) == [Phase(512, 1024, 1.0)]


def test_stages_of_both_kinds_meet_at_all_borders():
    settings = PretrainSettings(
        batch_tokens=1024,
        lengths=((128, 0.5), (256, 0.3), (512, 0.2)),
        batches=((512, 0.2), (1024, 0.8)),
    )
    found = phases(settings, 512)
    assert [(phase.max_length, phase.batch_tokens) for phase in found] == [
        (128, 512),
        (128, 1024),
        (256, 1024),
        (512, 1024),
    ]
    assert [phase.share for phase in found] == pytest.approx([0.2, 0.3, 0.3, 0.2])


def test_a_border_that_both_have_is_one():
    settings = PretrainSettings(
        batch_tokens=1024,
        lengths=((128, 0.1), (256, 0.2), (512, 0.7)),
        batches=((512, 0.3), (1024, 0.7)),
    )
    assert len(phases(settings, 512)) == 3


@pytest.mark.parametrize(
    ("stages", "why"),
    [
        ({"lengths": ((512, 0.5), (128, 0.5))}, "must grow"),
        ({"lengths": ((128, 0.5), (512, 0.4))}, "sum to 1"),
        ({"batches": ((512, 0.5), (2048, 0.5))}, "must be batch_tokens"),
    ],
)
def test_impossible_stages_are_refused(stages, why):
    with pytest.raises(ValueError, match=why):
        PretrainSettings(batch_tokens=1024, **stages)
