from __future__ import annotations

import numpy as np

from aopsam.masks.runs import Runs
from schemas.changes import Change
from stages.annotations.corrections.compare import Pair, compare
from tests.helpers.made_labels import disc


def mask(x: float, radius: float = 10) -> Runs:
    return Runs.of_mask(disc(60, 200, x, 30, radius))


def fates(pairs: list[Pair]) -> list[tuple[Change, int | None, int | None]]:
    return [(pair.change, pair.before, pair.after) for pair in pairs]


def test_pixels_say_more_than_places() -> None:
    before = {3: mask(20), 5: mask(60)}
    # A tool that numbers anew calls the second what the first was.
    assert fates(compare(before, [mask(60), mask(20)], [3, None])) == [(Change.KEPT, 5, 0), (Change.KEPT, 3, 1)]


def test_a_kept_place_says_more_than_similarity() -> None:
    before = {0: mask(20), 1: mask(24)}
    pairs = compare(before, [mask(23, 9)], [0])
    assert fates(pairs) == [(Change.RESHAPED, 0, 0), (Change.DELETED, 1, None)]
    assert 0.5 < (pairs[0].iou or 0) < 1
    far = compare(before, [mask(150)], [0])
    assert fates(far) == [(Change.RESHAPED, 0, 0), (Change.DELETED, 1, None)]
    assert far[0].iou == 0


def test_without_a_place_the_most_similar_of_at_least_half_is_it() -> None:
    before = {0: mask(20), 1: mask(60)}
    assert fates(compare(before, [mask(62), mask(21)], [None, None])) == [
        (Change.RESHAPED, 1, 0),
        (Change.RESHAPED, 0, 1),
    ]
    assert fates(compare(before, [mask(27)], [None])) == [
        (Change.ADDED, None, 0),
        (Change.DELETED, 0, None),
        (Change.DELETED, 1, None),
    ]


def test_each_mask_has_one_partner() -> None:
    # Copied in the tool: both claim the place, the one with the same pixels has it.
    pairs = compare({0: mask(20)}, [mask(22), mask(20), mask(20)], [0, 0, 0])
    assert sorted(change for change, _, _ in fates(pairs)) == ["added", "added", "kept"]
    assert fates(pairs)[0] == (Change.ADDED, None, 0)


def test_nothing_before_or_after() -> None:
    assert compare({}, [], []) == []
    assert fates(compare({}, [mask(20)], [None])) == [(Change.ADDED, None, 0)]
    assert fates(compare({4: mask(20)}, [], [])) == [(Change.DELETED, 4, None)]


def test_counts_add_up_for_any_masks() -> None:
    rng = np.random.default_rng(0)
    before = {n: mask(float(x), float(r)) for n, (x, r) in enumerate(rng.uniform([10, 3], [190, 15], (12, 2)))}
    after = [mask(float(x), float(r)) for x, r in rng.uniform([10, 3], [190, 15], (9, 2))] + [before[2], before[7]]
    pairs = compare(before, after, [None] * len(after))
    assert sorted(pair.after for pair in pairs if pair.after is not None) == list(range(11))
    assert sorted(pair.before for pair in pairs if pair.before is not None) == list(range(12))
    assert {(pair.before, pair.after) for pair in pairs if pair.change == Change.KEPT} == {(2, 9), (7, 10)}
