"""Compare masks before and after correction: which are kept, reshaped, deleted, added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from aopsam.masks.overlap import areas, intersections
from aopsam.masks.runs import Runs
from schemas.changes import Change

SAME = 0.5
"""Least IoU of a mask before and after whose place the tool did not keep."""


class Pair(NamedTuple):
    """A mask before, after, or both.

    Attributes:
        change: what became of it.
        before: its key before; None where added.
        after: its place after; None where deleted.
        iou: of both; None where there is one.
    """

    change: Change
    before: int | None
    after: int | None
    iou: float | None


def compare(before: Mapping[int, Runs], after: Sequence[Runs], told: Sequence[int | None]) -> list[Pair]:
    """Pair masks before with masks after, each with one at most.

    First those with the same pixels; then those whose place the tool kept, the most similar where two claim it; then
    by falling IoU down to `SAME`.

    Args:
        before: masks by their place in the labels' row.
        after: N masks of the same frame.
        told: of each, the place that the tool kept.

    Returns:
        A pair for each mask after, in their order, then one for each deleted one.
    """
    keys = list(before)
    masks = [before[key] for key in keys]
    shared = intersections(masks, after)
    union = areas(masks)[:, None] + areas(after) - shared
    iou = shared / np.maximum(union, 1)
    claims = np.array([[key == claimed for claimed in told] for key in keys], bool).reshape(iou.shape)
    # Sorted by kind of evidence, then by IoU; of equal masks the one whose place was kept.
    evidence = np.select([iou == 1, claims, iou >= SAME], [3, 2, 1], 0)
    order = np.lexsort((~claims.ravel(), -iou.ravel(), -evidence.ravel()))
    partner: dict[int, int] = {}
    paired: set[int] = set()
    for place in order[evidence.ravel()[order] > 0].tolist():
        old, new = divmod(place, len(after))
        if old not in paired and new not in partner:
            partner[new] = old
            paired.add(old)
    found = []
    for new in range(len(after)):
        old_place = partner.get(new)
        if old_place is None:
            found.append(Pair(Change.ADDED, None, new, None))
        else:
            same = float(iou[old_place, new])
            found.append(Pair(Change.KEPT if same == 1 else Change.RESHAPED, keys[old_place], new, same))
    return found + [Pair(Change.DELETED, key, None, None) for place, key in enumerate(keys) if place not in paired]
