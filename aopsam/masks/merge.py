"""Merge masks that lie in each other instead of suppressing them (Efficient SAM2).

Where two masks share most of the smaller one, they are the same object at two levels of detail, or pieces of it; their
union is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy  # its parts are imported on first use: command lines are judged before

from aopsam.masks.overlap import areas, intersections
from aopsam.masks.runs import Ints, Runs


def merge_groups(masks: Sequence[Runs], threshold: float) -> Ints:
    """Group masks that are joined by a chain of pairs that share more than a threshold.

    Efficient SAM2: |Mi ∩ Mj| / min(|Mi|, |Mj|), thresholded, union-find over the pairs.

    Args:
        masks: N masks of one frame.
        threshold: between 0 and 1.

    Returns:
        (N,) group number of each mask, from 0.
    """
    if not masks:
        return np.zeros(0, np.int64)
    area = areas(masks)
    shared = intersections(masks, masks) / np.maximum(np.minimum(area[:, None], area), 1)
    return scipy.sparse.csgraph.connected_components(shared > threshold, directed=False)[1].astype(np.int64)
