"""What the benchmark of batches says of masks, and what it runs with where pycocotools is not there."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco

from aopsam.everything.ledger import Labelled
from aopsam.masks import rle
from benchmarks.batches import compare
from benchmarks.without_pycocotools import shares

MASKS = np.random.default_rng(0).random((5, 6, 7)) > np.array([0.1, 0.5, 0.9, 0.3, 1.0])[:, None, None]


def test_the_stand_in_answers_as_pycocotools_does() -> None:
    rows = [rle.encode(mask) for mask in MASKS[:4]]
    columns = [rle.encode(mask) for mask in MASKS]
    assert shares(rows, columns, [1] * 5) == pytest.approx(np.asarray(coco.iou(rows, columns, [1] * 5)))
    with pytest.raises(NotImplementedError, match="install pycocotools"):
        shares(rows, columns, [0] * 5)


def test_masks_that_differ_are_counted() -> None:
    first, other = MASKS[1], MASKS[1].copy()
    other[np.nonzero(first)[0][0], np.nonzero(first)[1][0]] = False
    one, changed = (
        {"segmentation": rle.encode(mask), "predicted_iou": estimate}
        for mask, estimate in ((first, 0.5), (other, 0.75))
    )
    share = (first.sum() - 1) / first.sum()
    assert compare([Labelled([one, one])], [Labelled([one, one])]) == (2, 2, 1.0, 0.0)
    assert compare([Labelled([one, changed])], [Labelled([one, one])]) == (1, 2, pytest.approx(share), 0.25)
    assert compare([Labelled([one, one])], [Labelled([one])]) == (1, 1, None, 0.0)
