from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from aopsam.metrics.average_recall import average_recall
from aopsam.metrics.box_iou import box_iou_matrix


def _photo(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ground truth (12, 4), predictions (44, 4), some near it and some anywhere, and their scores (44,)."""
    rng = np.random.default_rng(seed)

    def boxes(count: int) -> np.ndarray:
        corner = rng.uniform(0, 180, (count, 2))
        return np.concatenate([corner, corner + rng.uniform(5, 150, (count, 2))], axis=1)

    truth = boxes(12)
    near = truth.repeat(2, axis=0) + rng.normal(size=(24, 4))
    return truth, np.concatenate([near, boxes(20)]), rng.permutation(44) / 100


@pytest.mark.parametrize("most", [5, 20, 100])
def test_recall_of_boxes_is_pycocotools(most: int) -> None:
    photos = [_photo(seed) for seed in range(4)]
    truth, answers, recalls = [], [], []
    for number, (boxes, predictions, scores) in enumerate(photos):
        for x0, y0, x1, y1 in boxes.tolist():
            entry = {"id": len(truth) + 1, "image_id": number, "category_id": 1, "iscrowd": 0}
            truth.append(entry | {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": 1.0})
        for (x0, y0, x1, y1), score in zip(predictions.tolist(), scores.tolist(), strict=True):
            box = [x0, y0, x1 - x0, y1 - y0]
            answers.append({"image_id": number, "category_id": 1, "bbox": box, "score": score})
        recalls.append(average_recall(box_iou_matrix(predictions[np.argsort(-scores)], boxes), most))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {"images": [{"id": n} for n in range(4)], "annotations": truth, "categories": [{"id": 1}]}
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(answers), "bbox")
        evaluation.params.useCats = 0
        evaluation.params.maxDets = [most]
        evaluation.evaluate()
        evaluation.accumulate()
    assert np.mean(recalls) == pytest.approx(evaluation.eval["recall"][:, 0, 0, 0].mean(), abs=1e-6)


def test_overlap_is_shared_area_over_covered_area() -> None:
    iou = box_iou_matrix(np.array([[0.0, 0, 2, 2], [5, 5, 6, 6]]), np.array([[1.0, 0, 3, 2]]))
    assert iou.tolist() == [[pytest.approx(2 / 6)], [0.0]]


def test_nothing() -> None:
    assert box_iou_matrix(np.zeros((0, 4)), np.zeros((3, 4))).shape == (0, 3)
    assert box_iou_matrix(np.zeros((2, 4)), np.zeros((0, 4))).shape == (2, 0)
