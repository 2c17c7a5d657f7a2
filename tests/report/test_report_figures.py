"""The figures of a run: their axes say what the files say."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lxml import html

from wellread.report import figures
from wellread.report.gather import gather


@pytest.mark.parametrize(
    ("seconds", "unit", "last"),
    [
        (100.0, "seconds", 100.0),
        (600.0, "minutes", 10.0),
        (5_000.0, "minutes", 80.0),
        (5_400.0, "hours", 1.5),
        (18_000.0, "hours", 5.0),
    ],
)
def test_the_axis_of_time_ends_where_the_training_ended(run, seconds, unit, last):
    facts = gather(run)
    stretched = []
    for variant in facts.variants:
        end = variant.timing[-1]["seconds"]
        timing = [row | {"seconds": row["seconds"] / end * seconds} for row in variant.timing]
        stretched.append(replace(variant, timing=timing))
    against_time = figures.loss_curves(replace(facts, variants=stretched))[2]
    tree = html.fromstring(str(against_time.picture))
    words = [text.text for text in tree.xpath("//*[@class='axis']")]
    assert words[0] == f"training time, {unit}"
    across = [float(mark.text) for mark in tree.xpath("//*[@class='tick'][@text-anchor='middle']")]
    assert max(across) == last
