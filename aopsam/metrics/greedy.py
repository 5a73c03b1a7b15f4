"""Greedy mean IoU of a photo's predicted masks with its ground truth, in the three readings of the term.

"Each SAM mask is matched with the closest ground-truth mask, and IoU is averaged over the matches" (AoP-SAM) can
be read in three ways; they answer different questions, so all are reported. Each function takes the IoU matrix
(P predicted, G ground truth) of one photo and returns None where its mean is over nothing:

===================================  ==========  ==========  ==========
reading                              P > 0, G=0  P = 0, G>0  P = 0, G=0
===================================  ==========  ==========  ==========
`iou_per_ground_truth`               None        0           None
`iou_per_prediction`                 None        None        None
`iou_one_to_one`                     None        0           None
===================================  ==========  ==========  ==========
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aopsam.metrics.iou import checked_shape


def iou_per_ground_truth(iou: NDArray[np.float64]) -> float | None:
    """Compute the mean over ground-truth masks of the best IoU that any prediction reaches with it.

    Further predictions can only raise it.

    Args:
        iou: (P, G), entries in [0, 1].

    Raises:
        ValueError: `iou` is not a matrix of numbers in [0, 1].
    """
    predictions, ground_truths = checked_shape(iou)
    if not ground_truths:
        return None
    return float(iou.max(axis=0).mean()) if predictions else 0.0


def iou_per_prediction(iou: NDArray[np.float64]) -> float | None:
    """Compute the mean over predictions of the best IoU with any ground-truth mask.

    Says little where much is left unannotated, as in COCO: a good mask of an unannotated object counts near 0.
    Undefined, not perfect, for a photo without ground truth or without predictions.

    Args:
        iou: (P, G), entries in [0, 1].

    Raises:
        ValueError: `iou` is not a matrix of numbers in [0, 1].
    """
    predictions, ground_truths = checked_shape(iou)
    return float(iou.max(axis=1).mean()) if predictions and ground_truths else None


def iou_one_to_one(iou: NDArray[np.float64]) -> float | None:
    """Compute the mean over ground-truth masks of the IoU with the one prediction paired with it.

    A ground-truth mask without a pair counts 0.

    Pairs are taken by falling IoU, each prediction and each ground truth at most once; of equal IoUs the lower
    prediction index goes first, then the lower ground-truth index. Greedy, so not always the largest possible sum.

    Args:
        iou: (P, G), entries in [0, 1].

    Raises:
        ValueError: `iou` is not a matrix of numbers in [0, 1].
    """
    _, ground_truths = checked_shape(iou)
    if not ground_truths:
        return None
    return sum(float(iou[pair]) for pair in one_to_one(iou)) / ground_truths


def one_to_one(iou: NDArray[np.float64], least_iou: float = 0.0) -> list[tuple[int, int]]:
    """Pair the masks of two sides by falling IoU, each at most once; of equal IoUs the lower row, then column, first.

    Args:
        iou: (P, G), entries in [0, 1].
        least_iou: of a pair; pairs without a common pixel are never made.

    Returns:
        (row, column) of each pair, in the order in which they were made.

    Raises:
        ValueError: `iou` is not a matrix of numbers in [0, 1].
    """
    checked_shape(iou)
    pairs = np.argwhere((iou > 0) & (iou >= least_iou))
    order = np.argsort(-iou[tuple(pairs.T)], kind="stable")
    rows: set[int] = set()
    columns: set[int] = set()
    made = []
    for row, column in pairs[order].tolist():
        if row not in rows and column not in columns:
            rows.add(row)
            columns.add(column)
            made.append((row, column))
    return made
