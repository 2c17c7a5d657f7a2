"""Quality against cost: near dots share a label, and no label is printed over another."""

from itertools import combinations, permutations

from wellread.report.scatter import LINE, labels


def test_near_dots_share_a_label_wherever_they_lie():
    assert [one.told for one in labels([(10, 10, "1"), (200, 10, "2")])] == ["1", "2"]
    assert [one.told for one in labels([(23.9, 10, "11"), (24.1, 10, "2")])] == ["2, 11"]
    chain = [(10, 10, "1"), (20, 10, "2"), (30, 10, "3")]
    for order in permutations(chain):
        assert [one.told for one in labels(order)] == ["1, 2, 3"]


def test_a_label_with_no_room_goes_above():
    spots = [(10, 50, "1"), (12, 50, "2"), (30, 50, "3")]
    first, second = labels(spots)
    assert (first.told, second.told) == ("1, 2", "3")
    assert second.y == first.y - LINE
    dense = [(10 + 14 * n, 50, str(n)) for n in range(100, 120)]
    assert not any(one.hits(other) for one, other in combinations(labels(dense), 2))
