"""Average recall against pycocotools' own evaluation of the same masks."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from aopsam.masks import rle
from aopsam.metrics.average_recall import average_recall
from aopsam.metrics.iou import iou_matrix

SIZES = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}


def _photo(seed: int) -> tuple[list[rle.RLE], list[rle.RLE], np.ndarray]:
    """Ground truth, predictions (some near a ground-truth mask, some twice, some anywhere) and their scores."""
    rng = np.random.default_rng(seed)

    def box(x: float, y: float, wide: float, high: float) -> rle.RLE:
        mask = np.zeros((200, 240), bool)
        mask[int(max(y, 0)) : int(y + high) + 1, int(max(x, 0)) : int(x + wide) + 1] = True
        return rle.encode(mask)

    places = [(*rng.uniform(0, 180, 2), *rng.uniform(8, 150, 2)) for _ in range(12)]
    near = [tuple(value + rng.normal() * 4 for value in place) for place in places for _ in range(2)]
    anywhere = [(*rng.uniform(0, 180, 2), *rng.uniform(8, 150, 2)) for _ in range(20)]
    predictions = [box(*(abs(value) for value in place)) for place in [*near, *anywhere]]
    return [box(*place) for place in places], predictions, rng.permutation(len(predictions)) / 100


@pytest.mark.parametrize("most", [5, 20, 100])
def test_as_pycocotools(most: int) -> None:
    photos = [_photo(seed) for seed in range(4)]
    images = [{"id": number, "width": 240, "height": 200} for number in range(len(photos))]
    truth, answers = [], []
    for number, (masks, predictions, scores) in enumerate(photos):
        for mask in masks:
            entry = {"id": len(truth) + 1, "image_id": number, "category_id": 1, "iscrowd": 0, "segmentation": mask}
            truth.append(entry | {"area": rle.area(mask)})
        for mask, score in zip(predictions, scores.tolist(), strict=True):
            answers.append({"image_id": number, "category_id": 1, "segmentation": mask, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {"images": images, "annotations": truth, "categories": [{"id": 1}]}
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(answers), "segm")
        evaluation.params.useCats = 0
        evaluation.params.maxDets = [most]
        evaluation.evaluate()
        evaluation.accumulate()
    recall = evaluation.eval["recall"]  # thresholds, categories, sizes, most
    for place, (low, high) in enumerate(SIZES.values()):
        parts, counts = [], []
        for masks, predictions, scores in photos:
            chosen = [mask for mask in masks if low <= rle.area(mask) <= high]
            iou = iou_matrix([predictions[i] for i in np.argsort(-scores, kind="stable")], chosen)
            parts.append(average_recall(iou, most))
            counts.append(len(chosen))
        assert sum(counts) > 0
        ours = sum(count * part for count, part in zip(counts, parts, strict=True) if part is not None) / sum(counts)
        assert ours == pytest.approx(recall[:, 0, place, 0].mean(), abs=1e-6)


def test_a_mask_is_found_once_by_the_best_ranked() -> None:
    iou = np.array([[0.6, 0.55], [0.99, 0.0], [0.0, 0.52]])
    # At 0.5 the first takes mask 0, the second nothing, the third mask 1; at 0.55 mask 0 alone; from 0.65 the second.
    assert average_recall(iou, 10) == pytest.approx((2 + 1 + 1 + 7) / 20)
    assert average_recall(iou, 1) == pytest.approx(3 / 20)


def test_nothing() -> None:
    assert average_recall(np.zeros((3, 0)), 10) is None
    assert average_recall(np.zeros((0, 3)), 10) == 0.0
