"""Overlap policies: nested masks with links to their parents, wholes alone, or each pixel in one mask at most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from aopsam.masks.overlap import areas, intersections, shared_pixels
from aopsam.masks.runs import Runs

INSIDE = 0.9
"""Share of a mask that must lie in another for it to be a part of it."""
LEAST_SCORE = 0.85
"""Share of a part's score that a whole must have to replace it. Of 0.7, 0.85 and 0.95 the one with most found objects
for as few masks (panoptic/val, benchmarks/LOG.md)."""


def parents(masks: Sequence[Runs]) -> list[int | None]:
    """Return for each of N masks the index of the smallest larger one that holds at least `INSIDE` of it, or None.

    Of equally small ones the first. Links never form a circle, since a parent has more pixels.
    """
    area = areas(masks)
    return _smallest(_holding(intersections(masks, masks), area), area)


def parents_of_rles(masks: Sequence[Any], area: npt.NDArray[np.int64]) -> list[int | None]:
    """Return what `parents` does, of N sound COCO RLEs and their pixels (N,): they need not be encoded again."""
    return _smallest(_holding(shared_pixels(masks, masks, area), area), area) if masks else []


def _smallest(holds: npt.NDArray[np.bool_], area: npt.NDArray[np.int64]) -> list[int | None]:
    size = np.where(holds, area, np.iinfo(np.int64).max)
    return [int(size[i].argmin()) if holds[i].any() else None for i in range(len(area))]


def wholes(masks: Sequence[Runs], scores: npt.NDArray[np.floating]) -> list[int]:
    """Return the indices of the masks that are no part of a larger one with at least `LEAST_SCORE` of their score.

    For people who annotate objects: a person stays, the shirt and the trousers go; a whole that is less sure than its
    parts goes by its score, not by its size.

    Args:
        masks: N masks of one frame.
        scores: (N,), at least 0.
    """
    better = scores >= LEAST_SCORE * scores[:, None]
    holds = _holding(intersections(masks, masks), areas(masks))
    return np.flatnonzero(~(holds & better).any(axis=1)).tolist()


def _holding(shared: npt.NDArray[np.int64], area: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return (N, N) bool: in row i which masks are larger than mask i and hold at least `INSIDE` of it.

    Args:
        shared: (N, N) pixels that masks share with each other.
        area: (N,) pixels of each.
    """
    holds: npt.NDArray[np.bool_] = (shared >= INSIDE * area[:, None]) & (area > area[:, None]) & (area[:, None] > 0)
    return holds


def flattened(masks: Sequence[Runs]) -> list[Runs]:
    """Give each pixel to the smallest of the masks that have it; of equally small ones to the first.

    A large mask keeps what no part of it covers, and a small mask is never lost to one that contains it.

    Args:
        masks: N masks of one frame; their areas are compared before anything is cut off.

    Returns:
        N masks without a common pixel, some maybe empty.
    """
    if not masks:
        return []
    # Only where some mask begins or ends can the owner change: pixels between two such places are one interval.
    ends = np.unique(np.concatenate([places for mask in masks for places in (mask.starts, mask.stops)]))
    owner = np.full(len(ends), -1)  # of the pixels from ends[i] to ends[i + 1]
    for i in np.lexsort((-np.arange(len(masks)), -areas(masks))).tolist():  # the smallest last, over all others
        for first, last in np.searchsorted(ends, np.stack([masks[i].starts, masks[i].stops], axis=1)).tolist():
            owner[first:last] = i
    by_owner = np.argsort(owner, kind="stable")
    parts = np.split(by_owner, np.searchsorted(owner[by_owner], np.arange(len(masks))))[1:]
    return [Runs.of_flat(ends[part], ends[part + 1], masks[0].hw) for part in parts]
